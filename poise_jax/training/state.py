"""What changes from one training step to the next."""

from typing import Any, NamedTuple

from flax import nnx
import optax

from poise_jax.training import history as history_lib
from poise_jax.training import prompts


class TrainState(NamedTuple):
  """Everything that training carries.

  Random numbers are not in it: keys are derived from (seed, step).

  Attributes:
    params: of the policy; with LoRA its adapters, see `tuning`.
    opt_state: of the optimizer.
    algorithm_state: of the algorithm.
    history: pass counts of prompts seen so far; on the host.
    position: in the source of problems.
    step: rollouts done.
    skipped: updates that were not made, for their gradient was not finite.
    frozen: what the policy is made of beside `params`: with LoRA the params of
      the base policy, else nothing. In no checkpoint, for it never changes.
  """

  params: Any
  opt_state: optax.OptState
  algorithm_state: dict[str, Any]
  history: history_lib.PassHistory
  position: prompts.Position
  step: int
  skipped: int
  frozen: tuple[nnx.State, ...] = ()
