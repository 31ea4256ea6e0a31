import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.algorithms.members import trust_region

# Ratios of the live tokens, all from log π_old = -2: a good completion, a bad
# one, and a group in which both are wrong (A = 0, one token each).
GOOD, BAD = (1.5, 0.5), (5.0, 0.5)


def make_batch(**fields):
  """Two groups of two completions; the third slot of each is masked junk."""
  mask = np.zeros((2, 2, 3))
  mask[0, :, :2] = mask[1, :, :1] = 1
  logprobs = np.full((2, 2, 3), -2.0)
  logprobs[0, 0, :2] += np.log(GOOD)
  logprobs[0, 1, :2] += np.log(BAD)
  old = np.where(mask > 0, -2.0, np.inf)
  rewards = np.array([[1.0, 0.0], [0.0, 0.0]])
  values = {
      "logprobs": np.where(mask > 0, logprobs, np.nan),
      "entropy": 0.5 * mask,
      "old_logprobs": old,
      "sampler_logprobs": old,
      "ref_logprobs": old,
      "completion_mask": mask,
      "rewards": rewards,
      "correct": rewards,
      "format_valid": np.ones((2, 2)),
      "truncated": np.zeros((2, 2)),
      "lengths": mask.sum(axis=2),
      "staleness": np.zeros((2, 2)),
      "reward_components": np.stack([rewards, rewards], axis=2),
      "history_pass_rate": np.zeros(2),
      "progress": np.array(0.0),
      **fields,
  }
  values = {k: jnp.asarray(v, jnp.float32) for k, v in values.items()}
  return values | {"step": jnp.array(0)}


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def slopes_of(grads):
  """Gradient at the two live tokens of the good and of the bad answer.

  The others must have none: masked, or A = 0.
  """
  grads = grads["logprobs"].copy()
  live = grads[0, :, :2].copy()
  grads[0, :, :2] = 0.0
  np.testing.assert_array_equal(grads, np.zeros_like(grads))
  return live


# π_old = e^-2 = .1353; a ratio of 1.5 adds .0677, one of .5 takes it away.
@pytest.mark.parametrize(
    "low, high, kept",
    [
        (0.06, 0.06, [[0, 1], [1, 0]]),
        (0.07, 0.06, [[0, 1], [1, 1]]),
        (0.06, 0.07, [[1, 1], [1, 0]]),
    ],
)
def test_dppo_tv(member, run, low, high, kept):
  # The ratio of 5 is capped at 2; six tokens, stopped or not.
  algorithm = member(
      trust_region,
      "dppo_tv",
      threshold_low=low,
      threshold_high=high,
      ratio_cap=2.0,
  )
  value, grads, state, metrics = run(algorithm, make_batch())
  slopes = np.array([[-1.5, -0.5], [2.0, 0.5]]) * kept
  close(value, np.sum(slopes * (np.log([GOOD, BAD]) - 2)) / 6)
  close(slopes_of(grads), slopes / 6)
  close(metrics["clip_ratio/region_mean"], (4 - np.sum(kept)) / 6)
  close(metrics["advantages/mean_abs"], 0.5)
  assert state == {}


# With q = e^-2 = .1353, D = -q log r + (1-q) log((1-q) / (1 - r q)):
# -.0549 + .0705 = .0156 at r = 1.5, and .0938 - .0651 = .0287 at r = .5.
@pytest.mark.parametrize(
    "threshold, kept",
    [
        (0.0150, [[0, 1], [1, 0]]),
        (0.0160, [[1, 1], [1, 0]]),
        (0.0284, [[1, 1], [1, 0]]),
        (0.0290, [[1, 1], [1, 1]]),
    ],
)
def test_dppo_kl(member, run, threshold, kept):
  algorithm = member(
      trust_region, "dppo_kl", threshold=threshold, ratio_cap=2.0
  )
  value, grads, _, metrics = run(algorithm, make_batch())
  slopes = np.array([[-1.5, -0.5], [2.0, 0.5]]) * kept
  close(value, np.sum(slopes * (np.log([GOOD, BAD]) - 2)) / 6)
  close(slopes_of(grads), slopes / 6)
  close(metrics["clip_ratio/region_mean"], (4 - np.sum(kept)) / 6)
  close(metrics["advantages/mean_abs"], 0.5)


# A = 1, 1, -1, -1, 0, 0 with mean 0. log r has the mean log(1.875) / 6 = .105
# over the six tokens, so the covariances are .301, -.798 for the good answer,
# -1.505, .798 for the bad one, 0 for the others. Without a binding clip:
@pytest.mark.parametrize(
    "band, fraction, weights",
    [
        # Both tokens eligible, k = 1: half of each is left.
        ((0.2, 0.9), 2e-4, [[0.5, 1.0], [1.0, 0.5]]),
        # floor(.4 * 6) = 2, floor(.9 * 6) = 5: nothing is left.
        ((0.2, 0.9), 0.4, [[0.0, 1.0], [1.0, 0.0]]),
        ((0.2, 0.9), 0.9, [[0.0, 1.0], [1.0, 0.0]]),
        ((0.5, 0.9), 2e-4, [[1.0, 1.0], [1.0, 0.0]]),
        ((0.2, 0.5), 2e-4, [[0.0, 1.0], [1.0, 1.0]]),
        ((1.0, 5.0), 2e-4, [[1.0, 1.0], [1.0, 1.0]]),
    ],
)
def test_clip_cov(member, run, band, fraction, weights):
  algorithm = member(
      trust_region,
      "clip_cov",
      clip_eps_low=0.6,
      clip_eps_high=0.6,
      cov_low=band[0],
      cov_high=band[1],
      cov_fraction=fraction,
  )
  value, grads, _, metrics = run(algorithm, make_batch())
  slopes = np.array([[-1.5, -0.5], [5.0, 0.5]]) * weights
  close(value, np.sum(slopes) / 6)
  close(slopes_of(grads), slopes / 6)
  close(metrics["clip_ratio/low_mean"], 0.0)
  close(metrics["clip_ratio/high_mean"], 0.0)


def test_clip_cov_passes_over_clipped_tokens(member, run):
  # The ratio 1.5 is clipped at 1.2, so the whole quota falls on the other.
  algorithm = member(
      trust_region, "clip_cov", clip_eps_low=0.6, cov_low=0.2, cov_high=0.9
  )
  value, grads, _, metrics = run(algorithm, make_batch())
  close(value, (-1.2 - 0.5 + 5.0) / 6)
  close(slopes_of(grads), np.array([[0.0, -0.5], [5.0, 0.0]]) / 6)
  close(metrics["clip_ratio/high_mean"], 1 / 6)


# The largest covariance is .798, of the bad token of ratio .5; then .301.
@pytest.mark.parametrize(
    "fraction, penalised",
    [
        (2e-4, [[0.0, 0.0], [0.0, 1.0]]),
        (0.4, [[1.0, 0.0], [0.0, 1.0]]),
        # floor(.5 * 6) = 3: the two tokens of covariance 0 share a place.
        (0.5, [[1.0, 0.0], [0.0, 1.0]]),
        (1.0, [[1.0, 1.0], [1.0, 1.0]]),
    ],
)
def test_kl_cov(member, run, fraction, penalised):
  algorithm = member(trust_region, "kl_cov", kl_coef=3.0, cov_fraction=fraction)
  value, grads, _, metrics = run(algorithm, make_batch())
  slopes = np.array([[-1.5, -0.5], [5.0, 0.5]])
  log_ratio = np.log([GOOD, BAD])
  penalty = 3 * np.array(penalised)
  close(value, np.sum(slopes + penalty * np.abs(log_ratio)) / 6)
  # slopes_of: at ratio 1, where the others are, the penalty has none.
  close(slopes_of(grads), (slopes + penalty * np.sign(log_ratio)) / 6)
  close(metrics["advantages/mean_abs"], 0.5)


@pytest.mark.parametrize("name", ["dppo_tv", "dppo_kl", "clip_cov", "kl_cov"])
def test_nothing_to_learn_from(member, run, name):
  # Equal rewards on policy, or no token at all: exactly no gradient.
  algorithm = member(trust_region, name)
  mask = make_batch()["completion_mask"]
  equal = make_batch(rewards=np.ones((2, 2)), logprobs=-2 * mask)
  empty = make_batch(completion_mask=np.zeros((2, 2, 3)))
  for batch in (equal, empty):
    value, grads, _, metrics = run(algorithm, batch)
    assert value == 0.0
    np.testing.assert_array_equal(grads["logprobs"], np.zeros((2, 2, 3)))
    assert all(np.isfinite(metric) for metric in metrics.values())


# The equations again, in float64.


def normalized(hp, b):
  centered = b["rewards"] - b["rewards"].mean(axis=1, keepdims=True)
  deviation = b["rewards"].std(axis=1, keepdims=True)
  return (centered / (deviation + hp["epsilon"]))[..., None]


def weighed(hp, b, logprobs, stopped):
  ratio = np.exp(b.log_ratio(b["logprobs"], "old_logprobs"))
  weight = np.minimum(ratio, hp["ratio_cap"]) * ~stopped
  return b.token_mean(-weight * normalized(hp, b) * logprobs)


def dppo_tv(hp, b, logprobs, entropy):
  moved = np.exp(b["logprobs"]) - np.exp(b["old_logprobs"])
  low, high = hp["threshold_low"], hp["threshold_high"]
  stopped = np.where(normalized(hp, b) > 0, moved > high, -moved > low)
  return weighed(hp, b, logprobs, stopped)


def dppo_kl(hp, b, logprobs, entropy):
  # A batch may hold a log-probability above 0.
  p, q = np.exp(np.minimum(b["logprobs"], 0)), np.exp(b["old_logprobs"])
  divergence = -q * b.log_ratio(b["logprobs"], "old_logprobs")
  divergence += (1 - q) * np.log((1 - q + 1e-8) / (1 - p + 1e-8))
  away = np.where(normalized(hp, b) > 0, p > q, p < q)
  stopped = away & (divergence > hp["threshold"])
  return weighed(hp, b, logprobs, stopped)


def covariance(b, adv):
  """With the last digits, in which equal tokens may differ, left out."""
  adv, logp = np.broadcast_to(adv, b.live.shape), b["logprobs"]
  cov = (adv - b.token_mean(adv)) * (logp - b.token_mean(logp))
  return np.where(b.live, np.round(cov, 9), -np.inf)


def clip_cov(hp, b, logprobs, entropy):
  adv = normalized(hp, b)
  low, high = 1 - hp["clip_eps_low"], 1 + hp["clip_eps_high"]
  fixed = np.exp(b.log_ratio(b["logprobs"], "old_logprobs"))
  bound = np.where(adv > 0, fixed > high, (adv < 0) & (fixed < low))
  cov = covariance(b, adv)
  eligible = (cov > hp["cov_low"]) & (cov < hp["cov_high"]) & ~bound
  k = max(1, np.floor(hp["cov_fraction"] * b.live.sum()))
  dropped = eligible * min(1, k / max(eligible.sum(), 1))
  ratio = np.exp(b.log_ratio(logprobs, "old_logprobs"))
  loss = -np.minimum(ratio * adv, np.clip(ratio, low, high) * adv)
  return b.token_mean((1 - dropped) * loss)


def kl_cov(hp, b, logprobs, entropy):
  adv = normalized(hp, b)
  cov = covariance(b, adv)
  k = int(max(1, np.floor(hp["cov_fraction"] * b.live.sum())))
  last = np.sort(cov.ravel())[::-1][k - 1]
  # Those that tie for the last places share them.
  above, tied = cov > last, b.live & (cov == last)
  selected = above + tied * (k - above.sum()) / max(tied.sum(), 1)
  x = b.log_ratio(logprobs, "old_logprobs")
  loss = -np.exp(x) * adv + hp["kl_coef"] * selected * np.abs(x)
  return b.token_mean(loss)


# With constants at which some tokens are held back, not all.
ORACLES = {
    "dppo_tv": (
        dppo_tv,
        {"threshold_low": 0.05, "threshold_high": 0.1, "ratio_cap": 1.2},
    ),
    "dppo_kl": (dppo_kl, {"threshold": 0.01, "ratio_cap": 1.2}),
    "clip_cov": (
        clip_cov,
        {"cov_low": 0.1, "cov_high": 1.5, "cov_fraction": 0.05},
    ),
    "kl_cov": (kl_cov, {"kl_coef": 0.7, "cov_fraction": 0.04}),
}


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_float64(name, agrees_with_float64):
  oracle, constants = ORACLES[name]
  agrees_with_float64(catalog.make(name, **constants), oracle)
