"""Which errors are the loss's, and how often they have to be met."""

import jax
import pytest

from poise_jax.discovery.trials import faults, trial

GOOD = trial.Outcome("", {"overall": 50.0}, {})
REASON = "cannot be run at the size of training: "


def _run(*ends):
  """A trial that ends in one way after the other."""
  left = list(ends)

  def run():
    end = left.pop(0)
    if isinstance(end, Exception):
      raise end
    return end

  return run, left


@pytest.mark.parametrize("kind", [TypeError, ValueError])
def test_what_cannot_be_traced_has_diverged_at_once(kind):
  run, left = _run(kind("at 0x1234"), GOOD)
  assert faults.judged(run) == trial.Outcome(REASON + kind.__name__, {}, {})
  assert left == [GOOD]


@pytest.mark.parametrize(
    "status",
    [
        "RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes",
        "UNAVAILABLE: the device is gone",
        "INTERNAL: in a program\nABORTED: by another",
    ],
)
@pytest.mark.parametrize("before", [[], ["INTERNAL: once"]])
def test_the_machine_is_not_the_loss(status, before):
  ends = [jax.errors.JaxRuntimeError(text) for text in (*before, status)]
  run, left = _run(*ends, GOOD)
  with pytest.raises(jax.errors.JaxRuntimeError, match=status.split(":")[0]):
    faults.judged(run)
  assert left == [GOOD]


def test_an_error_that_does_not_come_again_is_none():
  run, _ = _run(jax.errors.JaxRuntimeError("INTERNAL: once"), GOOD)
  assert faults.judged(run) == GOOD


def test_an_error_that_comes_again_is_the_losss():
  errors = [jax.errors.JaxRuntimeError("INTERNAL: twice") for _ in range(2)]
  run, left = _run(*errors, GOOD)
  assert faults.judged(run).diverged == REASON + "JaxRuntimeError"
  assert left == [GOOD]


def test_what_jax_does_not_raise_goes_on():
  run, _ = _run(OSError("no space left"))
  with pytest.raises(OSError, match="no space left"):
    faults.judged(run)
