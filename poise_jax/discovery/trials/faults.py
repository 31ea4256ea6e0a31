"""Whose fault it is that a trial could not be run: the loss's, or the machine's.

A loss that jax cannot run at the size of training never will be, and counts as
diverged. A machine that is out of memory, or lost its device, says nothing of
the loss: that is raised, nothing is stored, and the trial is made when the
search goes on.
"""

from collections.abc import Callable

import jax

from poise_jax.discovery.trials import trial

# Status codes of XLA that another run may not meet again.
_OF_THE_MACHINE = (
    "ABORTED",
    "CANCELLED",
    "DATA_LOSS",
    "DEADLINE_EXCEEDED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
)


def judged(run: Callable[[], trial.Outcome]) -> trial.Outcome:
  """Runs a trial; a loss that cannot be run has diverged.

  An error of the runtime that XLA does not ascribe to the machine is met twice
  before it is believed to be the loss's.

  Args:
    run: makes the trial; called at most twice.

  Raises:
    jax.errors.JaxRuntimeError: if it is the machine's fault.
    Exception: whatever else `run` raises but ValueError and TypeError, which
      jax raises while it traces a loss.
  """
  for attempt in range(2):
    try:
      return run()
    except (ValueError, TypeError) as error:
      return _diverged(error)
    except jax.errors.JaxRuntimeError as error:
      _raise_if_of_the_machine(error)
      if attempt:
        return _diverged(error)
  raise AssertionError("unreachable")


def _raise_if_of_the_machine(error: jax.errors.JaxRuntimeError) -> None:
  if any(status in str(error) for status in _OF_THE_MACHINE):
    raise error


def _diverged(error: Exception) -> trial.Outcome:
  # The message may hold addresses; the kind is the same on every run.
  reason = f"cannot be run at the size of training: {type(error).__name__}"
  return trial.Outcome(reason, {}, {})
