"""What changes from one training step to the next."""

from typing import Any, NamedTuple

from flax import nnx
import numpy as np
from numpy.typing import NDArray
import optax

from poise_jax.tasks import arithmetic


class TrainState(NamedTuple):
  """Everything that training carries.

  Random numbers are not in it: keys are derived from (seed, step).

  Attributes:
    params: of the policy.
    opt_state: of the optimizer.
    algorithm_state: of the algorithm.
    history: pass counts of prompts seen so far.
  """

  params: nnx.State
  opt_state: optax.OptState
  algorithm_state: dict[str, Any]
  history: "PassHistory"


class PassHistory(NamedTuple):
  """Completions seen and passed, by number of operations of the prompt.

  Attributes:
    passed: correct completions, [operations].
    seen: all completions, [operations].
  """

  passed: NDArray[np.float32]
  seen: NDArray[np.float32]


def empty_history() -> PassHistory:
  """Nothing seen yet."""
  zeros = np.zeros(arithmetic.MAX_OPERATIONS + 1, np.float32)
  return PassHistory(zeros, zeros)


def pass_rate(
    history: PassHistory, operations: NDArray[np.int_]
) -> NDArray[np.float32]:
  """Laplace-smoothed pass rate of prompts like these: (passed+1) / (seen+2)."""
  rates = (history.passed + 1) / (history.seen + 2)
  return rates[operations].astype(np.float32)


def add_to_history(
    history: PassHistory,
    operations: NDArray[np.int_],
    correct: NDArray[np.float32],
) -> PassHistory:
  """Counts the completions of one rollout, `correct` being [P, G]."""
  passed, seen = history.passed.copy(), history.seen.copy()
  np.add.at(passed, operations, correct.sum(axis=1))
  np.add.at(seen, operations, correct.shape[1])
  return PassHistory(passed, seen)
