import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.algorithms.members import estimators, grpo

MODULE = estimators
NAMES = (
    "rloo lite_ppo vl_norm passk maxrl reinforce_pp reinforce_pp_baseline gdpo"
).split()
LOG2 = np.log(2)
LIVE = np.array([[[1.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])


def tiny(ratio=(1.5, 1, 1, 1, 1), log_ref=(0, 0, LOG2, 0, 0), **fields):
  """Two groups of two, lengths 2, 1 and 1, 1; NaN where masked.

  The first completion is right, the others wrong. log π_old is -1.

  Args:
    ratio: π / π_old of the five tokens.
    log_ref: log π - log π_ref of the five tokens.
    **fields: of the batch, instead of the above.
  """

  def tokens(values):
    spread = np.full((2, 2, 2), np.nan)
    spread[LIVE > 0] = values
    return spread

  new = np.log(ratio) - 1
  rewards = np.array([[1.0, 0.0], [0.0, 0.0]])
  arrays = {
      "logprobs": tokens(new),
      "entropy": tokens(0.5),
      "old_logprobs": tokens(-1.0),
      "sampler_logprobs": tokens(-1.0),
      "ref_logprobs": tokens(new - log_ref),
      "completion_mask": LIVE,
      "rewards": rewards,
      "correct": rewards,
      "format_valid": np.ones((2, 2)),
      "truncated": np.zeros((2, 2)),
      "lengths": LIVE.sum(axis=2),
      "staleness": np.zeros((2, 2)),
      "reward_components": np.stack([rewards, rewards], axis=2),
      "history_pass_rate": np.zeros(2),
      "progress": np.array(0.0),
  }
  arrays = {k: np.asarray(v, np.float32) for k, v in (arrays | fields).items()}
  return arrays | {"step": np.array(0, np.int32)}


@pytest.fixture
def outcome(member, run):
  """Maps a name, a batch and constants to value, live slopes, metrics."""

  def judge(name, arrays, **hparams):
    value, grads, state, metrics = run(member(MODULE, name, **hparams), arrays)
    assert state == {}
    live = arrays["completion_mask"] > 0
    np.testing.assert_array_equal(grads["logprobs"][~live], 0.0)
    return value, grads["logprobs"][live], metrics

  return judge


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)


def flat(rewards, **fields):
  """A batch of one token a completion, on-policy: the slopes are -A / N."""
  rewards = np.asarray(rewards, np.float32)
  ones = np.ones_like(rewards)
  arrays = {"rewards": rewards, "correct": rewards, "lengths": ones}
  arrays |= {k: 0 * ones for k in ("truncated", "staleness")}
  tokens = {
      k: -ones[..., None]
      for k in ("logprobs", "old_logprobs", "sampler_logprobs", "ref_logprobs")
  }
  arrays |= tokens | {
      "entropy": ones[..., None],
      "completion_mask": ones[..., None],
      "format_valid": ones,
      "reward_components": np.stack([rewards, ones], axis=2),
      "history_pass_rate": 0 * ones[:, 0],
      "progress": np.float32(0),
      "step": np.int32(0),
  }
  return arrays | fields


def advantages_of(outcome, name, arrays, **hparams):
  value, slopes, _ = outcome(name, arrays, **hparams)
  adv = -slopes.reshape(arrays["rewards"].shape) * arrays["rewards"].size
  close(value, -adv.mean())
  return adv


def test_rloo(outcome):
  # Each against the other: A = 1, -1.
  value, slopes, _ = outcome("rloo", tiny())
  close(value, (-1.2 - 1 + 1) / 5)
  close(slopes, [0, -0.2, 0.2, 0, 0])


def test_lite_ppo(outcome):
  # Raw rewards 1, 0, 0, 0: squares 3/4 by 3, deviation 1/2.
  value, slopes, metrics = outcome("lite_ppo", tiny(), epsilon=0.5)
  close(value, (-1.2 - 1 + 1) * 0.5 / 5)
  close(slopes, [0, -0.1, 0.1, 0, 0])
  close(metrics["clip_ratio/high_mean"], 1 / 5)
  # By 4: sqrt(3)/4.
  _, slopes, _ = outcome("lite_ppo", tiny(), epsilon=0.0, ddof=0.0)
  close(slopes[1], -2 / 3**0.5 / 5)


def test_vl_norm(outcome):
  # length_decay 1: 1/2 and 1 by their mean 3/4 are weights 2/3 and 4/3. Sums of
  # the completions: -.6 - .5 and .5. Four completions, L_max 2.
  hparams = {"length_decay": 1.0, "length_constant": 2.0}
  value, slopes, _ = outcome("vl_norm", tiny(), **hparams)
  close(value, (2 / 3 * -1.1 + 4 / 3 * 0.5) / 8)
  close(slopes, [0, -1 / 24, 1 / 12, 0, 0])


def test_vl_norm_without_power_is_dr_grpo(member, run, arrays):
  plain = run(member(grpo, "dr_grpo"), arrays)
  value, grads, _, _ = run(
      member(estimators, "vl_norm", length_decay=0.0), arrays
  )
  close(value, plain[0])
  close(grads["logprobs"], plain[1]["logprobs"])


def test_passk(outcome):
  # One of four, k = 2: half of the pairs fail, A₊ = 1 and A₋ = -1/3. With
  # three of four no pair fails.
  arrays = flat([[1, 0, 0, 0], [1, 1, 1, 0]])
  adv = advantages_of(outcome, "passk", arrays, k=2.0, epsilon=0.0)
  close(adv, [[1, -1 / 3, -1 / 3, -1 / 3], [0] * 4])


def test_passk_clips_and_reads_correctness(outcome):
  # k = 1: A = (1/2) / (1/2 + 1/2); the first token is clipped at 1.28.
  arrays = tiny(rewards=np.full((2, 2), 3.0))
  value, slopes, _ = outcome("passk", arrays, k=1.0, epsilon=0.5)
  close(value, (-1.28 - 1 + 1) * 0.5 / 5)
  close(slopes, [0, -0.1, 0.1, 0, 0])


def test_maxrl(outcome):
  # (1 - 1/4) / (1/4), then with 1/4 added to the mean; none right: 0.
  arrays = flat([[1, 0, 0, 0], [0] * 4])
  adv = advantages_of(outcome, "maxrl", arrays, epsilon=0.0)
  close(adv, [[3, -1, -1, -1], [0] * 4])
  adv = advantages_of(outcome, "maxrl", arrays, epsilon=0.25)
  close(adv, [[1.5, -0.5, -0.5, -0.5], [0] * 4])


def test_reinforce_pp(outcome):
  # log π_old - log π_ref is 1, 2; -2; 0; 0, and half of what is to come is
  # taken off 1; 0; 0; 0: returns -.5, 0; 1; 0; 0. Mean .1, squares 1.2,
  # variance .3, divided by sqrt(.36). The first token has ratio 1.5, which
  # is not clipped as A < 0.
  drift = np.array([1.0, 2.0, -2.0, 0.0, 0.0]) + [np.log(1.5), 0, 0, 0, 0]
  arrays = tiny(log_ref=drift)
  value, slopes, metrics = outcome(
      "reinforce_pp", arrays, kl_coef=0.5, epsilon=0.06
  )
  adv = np.array([-1, -1 / 6, 1.5, -1 / 6, -1 / 6])
  close(value, (1.5 + 1 / 6 - 1.5 + 1 / 6 + 1 / 6) / 5)
  close(slopes, -adv * [1.5, 1, 1, 1, 1] / 5)
  close(metrics["kl"], 1 / 5)
  close(metrics["advantages/mean_abs"], 3 / 5)


def test_reinforce_pp_baseline(outcome):
  # Centred 1/2, -1/2, 0, 0: squares 1/2 by 3. The slope of k2 is log 2.
  value, slopes, metrics = outcome(
      "reinforce_pp_baseline", tiny(), epsilon=0.5, kl_coef=0.1
  )
  a = 0.5 / (6**-0.5 + 0.5)
  close(value, (-1.2 * a - a + a + 0.05 * LOG2**2) / 5)
  close(slopes, [0, -a / 5, (a + 0.1 * LOG2) / 5, 0, 0])
  close(metrics["kl"], LOG2**2 / 10)


def test_reinforce_pp_baseline_of_equal_rewards_is_exactly_zero(outcome):
  # In float32 the centred rewards of the first group do not sum to 0.
  rewards = np.array([[0.1, 0.7, 0.3, 0.9, 0.2], [1000.1] * 5])
  _, slopes, _ = outcome("reinforce_pp_baseline", flat(rewards))
  assert np.all(slopes[:5] != 0)
  np.testing.assert_array_equal(slopes[5:], 0.0)


def test_gdpo(outcome):
  # In a group of two each component that differs scores ±1. With weights 2,
  # 1, 1: 4, -4, 0, 0, whose deviation is sqrt(8).
  components = [
      [[1.0, 7.0, 0.2], [0.0, 3.0, 0.1]],
      [[5.0, 0.0, 0.0], [4.0, 0.1, 9.0]],
  ]
  arrays = flat(
      np.zeros((2, 2)), reward_components=np.array(components, np.float32)
  )
  adv = advantages_of(
      outcome, "gdpo", arrays, correct_weight=2.0, ddof=0.0, epsilon=0.0
  )
  close(adv, np.array([[2, -2], [0, 0]]) / 2**0.5)
  # With 2, 0, 0 all are ±2, standardised ±1.
  adv = advantages_of(
      outcome,
      "gdpo",
      arrays,
      correct_weight=2.0,
      other_weight=0.0,
      ddof=0.0,
      epsilon=0.0,
  )
  close(adv, [[1, -1], [1, -1]])


def test_gdpo_clips(outcome):
  # Both components score sqrt(1/2) in the first group and 0 in the second;
  # sums ±sqrt(2), 0, 0 have sample deviation sqrt(4/3).
  value, slopes, _ = outcome("gdpo", tiny(), epsilon=1e-6)
  a = 1.5**0.5
  close(value, (-1.2 * a - a + a) / 5)
  close(slopes, [0, -a / 5, a / 5, 0, 0])


def test_groups_of_one_and_empty_completions_stay_finite(member):
  # The second prompt's only completion has no tokens.
  arrays = tiny(rewards=np.eye(2))
  arrays = {k: v[:, 1:] if v.ndim > 1 else v for k, v in arrays.items()}
  arrays["completion_mask"] = np.float32([[[1, 0]], [[0, 0]]])
  arrays = {k: jnp.asarray(v) for k, v in arrays.items()}

  def judge(logprobs):
    batch = types.RolloutBatch(**(arrays | {"logprobs": logprobs}))
    losses, metrics = {}, {}
    for name in NAMES:
      algorithm = member(MODULE, name)
      losses[name], _, metrics[name] = algorithm.loss(
          algorithm.hparams, {}, batch
      )
    return losses, (losses, metrics)

  slopes, rest = jax.jit(jax.jacrev(judge, has_aux=True))(arrays["logprobs"])
  for number in jax.tree.leaves((slopes, rest)):
    assert np.all(np.isfinite(number))


# The equations again, in float64.


def clipped(hp, b, logprobs, adv):
  """-min(r A, clip(r) A) of each token."""
  adv = adv if adv.ndim == 3 else adv[..., None]
  r = np.exp(b.log_ratio(logprobs, "old_logprobs"))
  cut = np.clip(r, 1 - hp["clip_eps_low"], 1 + hp["clip_eps_high"])
  return -np.minimum(r * adv, cut * adv)


def centered(rewards):
  return rewards - rewards.mean(axis=1, keepdims=True)


def sample_deviation(values, axis=None):
  squares = (values - values.mean(axis=axis, keepdims=True)) ** 2
  count = squares.size if axis is None else squares.shape[axis]
  return np.sqrt(squares.sum(axis=axis, keepdims=True) / max(count - 1, 1))


def rloo(hp, b):
  rewards = b["rewards"]
  others = max(rewards.shape[1] - 1, 1)
  total = rewards.sum(axis=1, keepdims=True)
  return (rewards - (total - rewards) / others) * (rewards.shape[1] > 1)


def lite_ppo(hp, b):
  scale = sample_deviation(b["rewards"]) + hp["epsilon"]
  return centered(b["rewards"]) / scale


def passk(hp, b):
  k, adv = int(hp["k"]), np.zeros_like(b["correct"])
  for row, correct in zip(adv, b["correct"], strict=True):
    size, wrong = len(correct), int((correct == 0).sum())
    fails = math.comb(wrong, k) / math.comb(size, k) if k <= size else 0
    sigma = math.sqrt(fails * (1 - fails))
    if sigma > 0:
      missed = math.comb(wrong - 1, k - 1) / math.comb(size - 1, k - 1)
      bad, good = fails - missed, fails
      row[:] = np.where(correct > 0, good, bad) / (sigma + hp["epsilon"])
  return adv


def maxrl(hp, b):
  mean = b["rewards"].mean(axis=1, keepdims=True)
  return np.where(mean > 0, centered(b["rewards"]) / (mean + hp["epsilon"]), 0)


def reinforce_pp(hp, b):
  k1 = b.log_ratio(b["old_logprobs"], "ref_logprobs", at="old_logprobs")
  to_come = np.cumsum(k1[..., ::-1], axis=2)[..., ::-1]
  returns = b["rewards"][..., None] - hp["kl_coef"] * to_come
  if not b.live.any():
    return 0 * returns
  spread = sample_deviation(returns[b.live]) ** 2
  return (returns - returns[b.live].mean()) / np.sqrt(spread + hp["epsilon"])


def reinforce_pp_baseline(hp, b):
  adv = centered(b["rewards"])
  return (adv - adv.mean()) / (sample_deviation(adv) + hp["epsilon"])


def gdpo(hp, b):
  total = 0.0
  weights = (hp["correct_weight"], hp["other_weight"])
  for k, weight in enumerate(weights):
    c = b["reward_components"][..., k]
    spread = sample_deviation(c, axis=1) + hp["epsilon"]
    total = total + weight * centered(c) / spread
  return (total - total.mean()) / (sample_deviation(total) + hp["epsilon"])


def vl_norm(hp, b, logprobs, entropy):
  loss = clipped(hp, b, logprobs, centered(b["rewards"])) * b.live
  total = 0.0
  for sums, tokens in zip(loss.sum(axis=2), b.tokens, strict=True):
    some = tokens > 0
    powers = tokens[some] ** -hp["length_decay"]
    total += (powers * sums[some]).sum() / powers.mean() if some.any() else 0
  return total / max((b.tokens > 0).sum(), 1) / hp["length_constant"]


def in_tokens(estimate):
  def oracle(hp, b, logprobs, entropy):
    return b.token_mean(clipped(hp, b, logprobs, b.once(estimate, hp)))

  return oracle


def with_k2(hp, b, logprobs, entropy):
  k2 = b.log_ratio(logprobs, "ref_logprobs") ** 2 / 2
  loss = clipped(hp, b, logprobs, reinforce_pp_baseline(hp, b))
  return b.token_mean(loss + hp["kl_coef"] * k2)


# With constants at which every term is active.
ORACLES = {
    "rloo": (in_tokens(rloo), {}),
    "lite_ppo": (in_tokens(lite_ppo), {"epsilon": 0.1}),
    "vl_norm": (vl_norm, {}),
    "passk": (in_tokens(passk), {"epsilon": 0.1}),
    "maxrl": (in_tokens(maxrl), {"epsilon": 0.1}),
    "reinforce_pp": (in_tokens(reinforce_pp), {"kl_coef": 0.3, "epsilon": 0.1}),
    "reinforce_pp_baseline": (with_k2, {"kl_coef": 0.3, "epsilon": 0.1}),
    "gdpo": (
        in_tokens(gdpo),
        {"correct_weight": 1.5, "other_weight": 0.4, "epsilon": 0.1},
    ),
}


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_float64(name, agrees_with_float64):
  oracle, constants = ORACLES[name]
  agrees_with_float64(catalog.make(name, **constants), oracle)
