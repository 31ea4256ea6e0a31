"""The smallest problem there is: a loss must solve it better than resting.

Each prompt has two arms; a completion is one token, the arm that it pulls. The
better arm, another one for every second prompt, succeeds four times in five,
the other one time in five. The policy is a table with one logit for each
prompt. All answers are valid, whole and equally long, so that whatever a loss
makes of format or length has nothing to say here: a loss that fails does not
learn from rewards.
"""

from collections.abc import Mapping
import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from poise_jax import types
from poise_jax.candidates import contract, findings

STEPS = 40
# Of the training run that these steps stand for, evenly spaced.
SPAN = 1000
# Mean probability of the better arm that must be reached, from 1/2.
MUST_REACH = 0.6

_SUCCESS = (0.2, 0.8)
_RATE = 0.15
_MOMENTUM, _SCALE_MEMORY = 0.8, 0.95


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Of the batches: those for which the loss is compiled."""

  prompts: int
  group_size: int
  tokens: int
  components: int


def sizes_of(batch: types.RolloutBatch) -> Sizes:
  """The sizes of a batch."""
  return Sizes(*batch.logprobs.shape, batch.reward_components.shape[2])


def better_arm(prompts: int) -> Float[np.ndarray, "P"]:
  """1.0 where the second arm is the better one."""
  return np.arange(prompts) % 2 * 1.0


def train(
    step: contract.StepFn,
    hparams: types.HParams,
    state: types.State,
    sizes: Sizes,
    *,
    steps: int = STEPS,
    seed: int = 0,
) -> float:
  """Trains the table with Adam, on-policy, from even odds.

  Takes `steps` calls of the loss, some 20 ms. `batch.step` and `batch.progress`
  go through a whole run on the way, so that a schedule has its time. The result
  is a function of the arguments.

  Args:
    step: of the loss, compiled for batches of `sizes`.
    hparams: of the loss.
    state: its first state.
    sizes: of the batches.
    steps: number of updates.
    seed: of arms and rewards.

  Returns:
    The probability of the better arm, averaged over prompts; NaN if a
    gradient is not finite.
  """
  rng = np.random.default_rng(seed)
  hparams = {k: np.float32(v) for k, v in hparams.items()}
  logits = np.zeros(sizes.prompts)
  mean, square = np.zeros_like(logits), np.zeros_like(logits)
  passed = np.full(sizes.prompts, 0.5)
  for index in range(steps):
    now = index * SPAN // steps
    batch, arms = sample(
        logits, rng, sizes, step=now, steps=SPAN, passed=passed
    )
    result = step(hparams, state, batch)
    state = result.state
    passed = 0.5 * passed + 0.5 * np.asarray(batch.correct).mean(axis=1)
    slope = pulled_back(result.gradients, logits, arms)
    if not np.all(np.isfinite(slope)):
      return float("nan")
    mean = _MOMENTUM * mean + (1.0 - _MOMENTUM) * slope
    square = _SCALE_MEMORY * square + (1.0 - _SCALE_MEMORY) * slope**2
    # No number is added to the divisor: steps do not depend on the scale.
    moving = square > 0
    logits = logits - _RATE * np.where(
        moving, mean / np.sqrt(np.where(moving, square, 1.0)), 0.0
    )
  right = better_arm(sizes.prompts)
  chance = _chance(logits)
  return float(np.mean(np.where(right > 0, chance, 1.0 - chance)))


def check(
    step: contract.StepFn,
    hparams: types.HParams,
    state: types.State,
    sizes: Sizes,
) -> tuple[findings.Finding, ...]:
  """Finds fault with a loss that does not learn from rewards; see `train`."""
  reached = train(step, hparams, state, sizes)
  if reached >= MUST_REACH:
    return ()
  words = f"{reached:.2f}" if np.isfinite(reached) else "no number"
  return (
      findings.contract(
          "bandit",
          "with two arms and one token the better arm must become likelier"
          f" than {MUST_REACH}, from 0.5; after {STEPS} steps it is {words}",
          "minimise -(advantage * log-probability): a completion with more"
          " reward than others of its group must become likelier",
      ),
  )


def sample(
    logits: Float[np.ndarray, "P"],
    rng: np.random.Generator,
    sizes: Sizes,
    *,
    step: int = 0,
    steps: int = STEPS,
    passed: Float[np.ndarray, "P"] | None = None,
) -> tuple[types.RolloutBatch, Float[np.ndarray, "P G"]]:
  """Pulls arms: one batch, on-policy, as a loss sees it; and which they were."""
  shape = (sizes.prompts, sizes.group_size, sizes.tokens)
  chance = _chance(logits)[:, None]
  arms = rng.random(shape[:2]) < chance
  right = arms == (better_arm(sizes.prompts)[:, None] > 0)
  rewards = rng.random(shape[:2]) < np.where(right, _SUCCESS[1], _SUCCESS[0])
  mask = np.zeros(shape)
  mask[..., 0] = 1.0
  logprobs = np.log(np.where(arms, chance, 1.0 - chance))[..., None] * mask
  entropy = _entropy(logits)[:, None, None] * mask
  ones = np.ones(shape[:2])
  streams = np.zeros((*shape[:2], sizes.components))
  streams[..., 0], streams[..., 1] = rewards, 1.0
  fields: Mapping[str, np.ndarray] = {
      "logprobs": logprobs,
      "entropy": entropy,
      "old_logprobs": logprobs,
      "sampler_logprobs": logprobs,
      "ref_logprobs": np.log(0.5) * mask,
      "completion_mask": mask,
      "rewards": rewards,
      "correct": rewards,
      "format_valid": ones,
      "truncated": 0.0 * ones,
      "lengths": ones,
      "staleness": 0.0 * ones,
      "reward_components": streams,
      "history_pass_rate": np.full(shape[0], 0.5) if passed is None else passed,
      "progress": np.array(step / steps),
  }
  # In one go: sixteen transfers take longer than the loss.
  arrays = jax.device_put({k: v.astype(np.float32) for k, v in fields.items()})
  batch = types.RolloutBatch(step=jnp.asarray(step, jnp.int32), **arrays)
  return batch, arms.astype(np.float64)


def pulled_back(
    gradients: tuple[np.ndarray, np.ndarray],
    logits: Float[np.ndarray, "P"],
    arms: Float[np.ndarray, "P G"],
) -> Float[np.ndarray, "P"]:
  """dL/dlogits from dL/dlogprobs and dL/dentropy.

  d log π(a) / d logit = a - p,   d H / d logit = -logit p (1 - p)
  """
  by_logprob, by_entropy = (g[..., 0].astype(np.float64) for g in gradients)
  chance = _chance(logits)
  pushed = np.sum(by_logprob * (arms - chance[:, None]), axis=1)
  spread = -logits * chance * (1.0 - chance)
  return pushed + np.sum(by_entropy, axis=1) * spread


def exact_gradient(logits: Float[np.ndarray, "P"]) -> Float[np.ndarray, "P"]:
  """Derivative of the mean expected reward: what a policy gradient estimates."""
  chance = _chance(logits)
  sign = 2.0 * better_arm(len(logits)) - 1.0
  lead = _SUCCESS[1] - _SUCCESS[0]
  return sign * lead * chance * (1.0 - chance) / len(logits)


def _chance(logits: np.ndarray) -> np.ndarray:
  """Probability of the second arm."""
  return 1.0 / (1.0 + np.exp(-logits))


def _entropy(logits: np.ndarray) -> np.ndarray:
  """Of the choice between two arms, in nats."""
  chance = _chance(logits)
  return -chance * np.log(chance) - (1.0 - chance) * np.log1p(-chance)
