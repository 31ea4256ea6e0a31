import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.algorithms.members import controlled

# What no token of the batch below may let through.
JUNK = np.nan
# k3 = 1/2 - 1 + log 2 where π is twice π_ref.
K3 = np.log(2.0) - 0.5
# Losses -1, -1.2 (clipped), -1 and 1.5, and their slopes, by four tokens.
BASE = -1.7 / 4
SLOPES = np.array([-1.0, 0.0, -1.0, 1.5]) / 4


def tokens(first, second):
  """Three live tokens of completion 0, one of completion 1."""
  return np.array([[[*first, JUNK], [second, JUNK, JUNK, JUNK]]])


def make_arrays(entropy=(0.0, 0.0, 0.0, 0.0), log_ratio=(0.0, 0.0, 0.0, 0.0)):
  """One group with A = 1 and -1, ratios 1, 1.5, 1 and 1.5.

  Args:
    entropy: of the four tokens.
    log_ratio: log π - log π_ref of the four tokens.
  """
  old = tokens([-1.0, -1.0, -1.0], -1.0)
  new = old + np.log(tokens([1.0, 1.5, 1.0], 1.5))
  values = {
      "logprobs": new,
      "entropy": tokens(entropy[:3], entropy[3]),
      "old_logprobs": old,
      "sampler_logprobs": old,
      "ref_logprobs": new - tokens(log_ratio[:3], log_ratio[3]),
      "completion_mask": 1.0 - np.isnan(old),
      "rewards": [[1.0, 0.0]],
      "correct": [[1.0, 0.0]],
      "format_valid": [[1.0, 1.0]],
      "truncated": [[0.0, 0.0]],
      "lengths": [[3.0, 1.0]],
      "staleness": [[0.0, 0.0]],
      "reward_components": [[[1.0, 1.0], [0.0, 1.0]]],
      "history_pass_rate": [0.5],
      "progress": 0.0,
  }
  values = {k: np.asarray(v, np.float32) for k, v in values.items()}
  return values | {"step": np.array(0, np.int32)}


def live(grads):
  """The slopes at the four live tokens; those of the others must be 0."""
  assert np.count_nonzero(grads[0, 0, 3:]) == 0
  assert np.count_nonzero(grads[0, 1, 1:]) == 0
  return np.append(grads[0, 0, :3], grads[0, 1, 0])


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_grpo_adaptive_entropy_over_four_steps(member, run):
  # Target 0.2, steps of 0.05, maximum 0.08. The mean entropy is 0.1 but in the
  # third step, where it is 0.4: no bonus, and the weight falls.
  low, high = (0.0, 0.1, 0.1, 0.2), (0.4, 0.4, 0.4, 0.4)
  algorithm = member(
      controlled,
      "grpo_adaptive_entropy",
      entropy_coef_delta=0.05,
      entropy_coef_max=0.08,
  )
  state = algorithm.init(algorithm.hparams)
  close(state["entropy_coef"], 0.0)
  for entropy, weight, following in [
      (low, 0.0, 0.05),
      (low, 0.05, 0.08),
      (high, 0.0, 0.03),
      (low, 0.03, 0.08),
  ]:
    arrays = make_arrays(entropy=entropy)
    value, grads, state, metrics = run(algorithm, arrays, state)
    close(value, BASE - weight * 0.1)
    close(live(grads["logprobs"]), SLOPES)
    close(live(grads["entropy"]), [-weight / 4] * 4)
    close(metrics["entropy"], np.mean(entropy))
    close(metrics["entropy_coef"], weight)
    assert set(state) == {"entropy_coef"}
    close(state["entropy_coef"], following)


def test_grpo_adaptive_entropy_starts_where_it_is_told(member, run):
  # 0.5 · 0.1 off the loss in the first step; never below 0 afterwards.
  algorithm = member(
      controlled,
      "grpo_adaptive_entropy",
      entropy_coef=0.5,
      entropy_coef_delta=0.7,
  )
  value, _, state, _ = run(algorithm, make_arrays(entropy=[0.1] * 4))
  close(value, BASE - 0.05)
  close(state["entropy_coef"], 1.0)
  for expected in (0.3, 0.0):
    arrays = make_arrays(entropy=[0.3] * 4)
    value, _, state, _ = run(algorithm, arrays, state)
    close(value, BASE)
    close(state["entropy_coef"], expected)


def test_grpo_adaptive_kl_over_four_steps(member, run):
  # Two completions over a horizon of 20: a tenth of the error a step. The
  # divergence is K3/4, 10 % above its target, then 4 times as much, then 0:
  # errors 0.1, 0.2 (bounded) and -0.2 (bounded).
  algorithm = member(
      controlled,
      "grpo_adaptive_kl",
      kl_coef=2.0,
      kl_target=K3 / 4 / 1.1,
      kl_horizon=20.0,
  )
  log2 = np.log(2.0)
  state = algorithm.init(algorithm.hparams)
  close(state["kl_coef"], 2.0)
  coefficient = 2.0
  for log_ratio, factor in [
      ([log2, 0, 0, 0], 1.01),
      ([log2] * 4, 1.02),
      ([0] * 4, 0.98),
      ([log2, 0, 0, 0], 1.01),
  ]:
    arrays = make_arrays(log_ratio=log_ratio)
    value, grads, state, metrics = run(algorithm, arrays, state)
    count = np.count_nonzero(log_ratio)
    close(value, BASE + coefficient * count * K3 / 4)
    # The slope of k3 is 1 - 1/2.
    pull = coefficient * 0.5 * (np.array(log_ratio) > 0) / 4
    close(live(grads["logprobs"]), SLOPES + pull)
    close(metrics["kl"], count * K3 / 4)
    close(metrics["kl_coef"], coefficient)
    coefficient *= factor
    assert set(state) == {"kl_coef"}
    close(state["kl_coef"], coefficient)


@pytest.mark.parametrize("name", ["grpo_adaptive_entropy", "grpo_adaptive_kl"])
def test_a_batch_without_tokens_gives_nothing(member, run, name):
  arrays = make_arrays()
  arrays["completion_mask"] *= 0
  algorithm = member(controlled, name)
  start = {key: np.float32(0.05) for key in algorithm.init(algorithm.hparams)}
  value, grads, state, metrics = run(algorithm, arrays, start)
  assert value == 0.0
  assert state == start
  for field in ("logprobs", "entropy"):
    np.testing.assert_array_equal(grads[field], np.zeros((1, 2, 4)))
  values = [*state.values(), *metrics.values()]
  assert all(np.isfinite(value) for value in values)


# The same equations in float64.


def clip_loss(hp, b, logprobs):
  centered = b["rewards"] - b["rewards"].mean(axis=1, keepdims=True)
  deviation = (centered**2).mean(axis=1, keepdims=True) ** 0.5
  adv = (centered / (deviation + hp["epsilon"]))[..., None]
  r = np.exp(b.log_ratio(logprobs, "old_logprobs"))
  low, high = 1 - hp["clip_eps_low"], 1 + hp["clip_eps_high"]
  return -np.minimum(r * adv, np.clip(r, low, high) * adv)


def adaptive_entropy(hp, b, logprobs, entropy):
  gate = b.token_mean(b["entropy"]) <= hp["entropy_target"]
  weight = b["state"]["entropy_coef"] * gate
  return b.token_mean(clip_loss(hp, b, logprobs) - weight * entropy)


def adaptive_kl(hp, b, logprobs, entropy):
  x = b.log_ratio(logprobs, "ref_logprobs")
  penalty = b["state"]["kl_coef"] * (np.exp(-x) - 1 + x)
  return b.token_mean(clip_loss(hp, b, logprobs) + penalty)


# The state starts with the coefficient.
ORACLES = {
    "grpo_adaptive_entropy": (
        adaptive_entropy,
        {"epsilon": 0.1, "entropy_coef": 0.4, "entropy_target": 1.5},
    ),
    "grpo_adaptive_kl": (adaptive_kl, {"epsilon": 0.1, "kl_coef": 0.6}),
}


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_float64(name, agrees_with_float64):
  oracle, constants = ORACLES[name]
  agrees_with_float64(catalog.make(name, **constants), oracle)


def test_grpo_adaptive_entropy_above_its_target(agrees_with_float64):
  # All batches have about 1 nat.
  constants = {"entropy_coef": 0.4, "entropy_target": 0.8}
  algorithm = catalog.make("grpo_adaptive_entropy", **constants)
  agrees_with_float64(algorithm, adaptive_entropy)
