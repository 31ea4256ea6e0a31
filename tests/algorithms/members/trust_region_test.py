import jax.numpy as jnp
import numpy as np
import pytest

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


def normalized(hp, b):
  r = b["rewards"]
  mean, std = r.mean(axis=1, keepdims=True), r.std(axis=1, keepdims=True)
  return ((r - mean) / (std + hp["epsilon"]))[..., None]


def token_mean(b, loss):
  return np.sum(b["completion_mask"] * loss) / np.sum(b["completion_mask"])


def live_mean(b, values):
  return token_mean(b, np.broadcast_to(values, b["logprobs"].shape))


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


def test_dppo_tv_agrees(member, agrees_with_float64):
  def oracle(hp, b, logprobs, entropy):
    adv = normalized(hp, b)
    new, old = np.exp(b["logprobs"]), np.exp(b["old_logprobs"])
    stopped = np.where(
        adv > 0,
        new - old > hp["threshold_high"],
        old - new > hp["threshold_low"],
    )
    weight = np.minimum(new / old, hp["ratio_cap"]) * ~stopped
    return token_mean(b, -weight * adv * logprobs)

  agrees_with_float64(
      member(
          trust_region,
          "dppo_tv",
          threshold_low=0.05,
          threshold_high=0.08,
          ratio_cap=1.2,
      ),
      oracle,
  )


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


def test_dppo_kl_agrees(member, agrees_with_float64):
  def oracle(hp, b, logprobs, entropy):
    adv = normalized(hp, b)
    p = np.minimum(np.exp(b["logprobs"]), 1.0)
    q = np.exp(b["old_logprobs"])
    divergence = q * (b["old_logprobs"] - b["logprobs"])
    divergence += (1 - q) * np.log((1 - q + 1e-8) / (1 - p + 1e-8))
    away = np.where(adv > 0, p > q, p < q)
    keep = ~(away & (divergence > hp["threshold"]))
    weight = np.minimum(
        np.exp(b["logprobs"] - b["old_logprobs"]), hp["ratio_cap"]
    )
    return token_mean(b, -weight * adv * logprobs * keep)

  agrees_with_float64(
      member(trust_region, "dppo_kl", threshold=0.01, ratio_cap=1.2), oracle
  )


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


def covariance(b, adv):
  logp = b["logprobs"]
  return (adv - live_mean(b, adv)) * (logp - live_mean(b, logp))


def test_clip_cov_agrees(member, agrees_with_float64):
  def oracle(hp, b, logprobs, entropy):
    adv, m = normalized(hp, b), b["completion_mask"]
    low, high = 1 - hp["clip_eps_low"], 1 + hp["clip_eps_high"]
    fixed = np.exp(b["logprobs"] - b["old_logprobs"])
    bound = np.where(adv > 0, fixed > high, (adv < 0) & (fixed < low))
    cov = covariance(b, adv)
    eligible = (cov > hp["cov_low"]) & (cov < hp["cov_high"])
    eligible = eligible & ~bound & (m > 0)
    assert np.any(eligible & (fixed != 1)) and np.any(bound)
    k = max(1, np.floor(hp["cov_fraction"] * m.sum()))
    assert 1 < k < eligible.sum()
    weight = np.where(eligible, 1 - k / eligible.sum(), 1)
    ratio = np.exp(logprobs - b["old_logprobs"])
    loss = -np.minimum(ratio * adv, np.clip(ratio, low, high) * adv)
    return token_mean(b, weight * loss)

  agrees_with_float64(
      member(
          trust_region,
          "clip_cov",
          cov_low=0.1,
          cov_high=1.5,
          cov_fraction=0.05,
      ),
      oracle,
  )


# The largest covariance is .798, of the bad token of ratio .5; then .301.
@pytest.mark.parametrize(
    "fraction, penalised",
    [
        (2e-4, [[0.0, 0.0], [0.0, 1.0]]),
        (0.4, [[1.0, 0.0], [0.0, 1.0]]),
        # floor(.5 * 6) = 3: the two tokens of covariance 0 share a place.
        (0.5, [[1.0, 0.0], [0.0, 1.0]]),
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


def test_kl_cov_agrees(member, agrees_with_float64):
  def oracle(hp, b, logprobs, entropy):
    adv, m = normalized(hp, b), b["completion_mask"]
    cov = np.where(m > 0, covariance(b, adv), -np.inf)
    k = int(max(1, np.floor(hp["cov_fraction"] * m.sum())))
    ordered = np.sort(cov.ravel())[::-1]
    assert 1 < k and ordered[k - 1] > ordered[k]
    x = logprobs - b["old_logprobs"]
    loss = -np.exp(x) * adv
    loss += hp["kl_coef"] * (cov >= ordered[k - 1]) * np.abs(x)
    return token_mean(b, loss)

  agrees_with_float64(
      member(trust_region, "kl_cov", kl_coef=0.7, cov_fraction=0.1), oracle
  )


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
