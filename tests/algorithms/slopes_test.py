"""How every algorithm weighs tokens off policy, derived by hand.

`measuring.slopes` looks at a batch of four groups in each of which three of
seven completions of six tokens succeed, all policies agree, and everything is
valid; then at the first group with the old policy moved under one completion.
"""

import dataclasses

import numpy as np
import pytest

from poise_jax.algorithms import catalog, examples, measuring

FIELDS = examples.on_policy()
# Of the rewards of a group: 3/7 ± . The scores are 4/7 and -3/7 by it.
DEVIATION = 12**0.5 / 7
GOOD, BAD = 4 / 7 / DEVIATION, 3 / 7 / DEVIATION
MEAN = (3 * GOOD + 4 * BAD) / 7
# All |z| of the batch, one for each token.
Z = np.where(FIELDS["correct"] > 0, GOOD, BAD)[..., None] * np.ones(6)


def unit(good, bad):
  """The unit slope of advantages `good` and -`bad`, averaged over tokens."""
  return (3 * good + 4 * bad) / 7 / MEAN


def scaled(divisor):
  """That of advantages r - μ over a divisor."""
  return DEVIATION / divisor


# Slopes at ratio 0.5 of a good and a bad token, then at 1.5. The gradient of
# the surrogate is the ratio times that at 1 ...
RATIO = (0.5, 0.5, 1.5, 1.5)
# ... but a clip stops bad tokens below 1 - 0.2 and good ones above 1 + 0.2.
PPO = (0.5, 0, 0, 1.5)
# -A log π knows no ratio.
PLAIN = (1, 1, 1, 1)

# From here on for what the tables below need words.


def tunix(kl_coef=0.04):
  """GRPO with the sample deviation; k1 adds kl_coef to every slope."""
  good, bad = (z * (6 / 7) ** 0.5 for z in (GOOD, BAD))
  good, bad = good - kl_coef, bad + kl_coef
  # What the surrogate has left, plus the penalty as before.
  low_good = 0.5 * (good + kl_coef) - kl_coef
  high_bad = 1.5 * (bad - kl_coef) + kl_coef
  cells = (low_good / good, kl_coef / bad, -kl_coef / good, high_bad / bad)
  return cells, unit(good, bad)


def sapo():
  """r 4 σ (1 - σ) at x = τ (r - 1), which is r / cosh²(x / 2)."""
  cells = [
      r / np.cosh(tau * (r - 1) / 2) ** 2
      for r in (0.5, 1.5)
      for tau in (1, 1.05)
  ]
  return cells, 1


def dppo(stopped):
  """The ratio, but tokens of a bad completion stop once they fell too far.

  From 2π to π. A rise from π / 1.5, which at π <= 0.45 is at most 0.15 in
  probability, stops none of a good one.
  """
  probability = np.exp(FIELDS["logprobs"][0, 0])
  return (0.5, 0.5 * np.mean(~stopped(probability)), 1.5, 1.5), 1


def bernoulli_kl(p):
  q = 2 * p
  return q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))


def clip_cov():
  """One token less, in expectation, of those with 1 < c < 5.

  c = z (log π - mean log π), for the mean of z is 0.
  """
  sign = np.where(FIELDS["correct"] > 0, 1, -1)[..., None]
  logp = FIELDS["logprobs"]
  cov = sign * Z * (logp - logp.mean())
  held_back = Z[(cov > 1) & (cov < 5)]
  assert held_back.size
  # None of them in the two completions that are moved.
  assert not np.any(cov[0, :2] > 1)
  return PPO, 1 - held_back.mean() / Z.sum()


def vespo():
  """φ(W) = W^k exp(λ (1 - W)) of six tokens."""
  phi = lambda w, k, rate: w**k * np.exp(rate * (1 - w))
  cells = [
      phi(r**6, *constants)
      for r in (0.5, 1.5)
      for constants in ((2, 3), (3, 2))
  ]
  return cells, 1


def rloo_trl(kl_coef=0.05):
  """The ratio of six tokens, clipped; the KL to the reference in the reward.

  A = 2/3 or -1/2 at ratio 1; moving π_old by -log r moves it by
  6 kl_coef log r. A token has the slope R A / N of its completion.
  """
  low, high = (6 * kl_coef * np.log(r) for r in (0.5, 1.5))
  low_good = 0.5**6 * (2 / 3 + low) / (2 / 3)
  high_bad = 1.5**6 * (1 / 2 - high) / (1 / 2)
  return (low_good, 0, 0, high_bad), 6 * scaled(6 / 7)


def tpo():
  """p - q of each completion at each of its six tokens, over four prompts.

  With π_old moved, q = softmax(l - 6 log r + u) in the first group.
  """
  total = FIELDS["logprobs"].astype(float).sum(axis=2)
  u = np.where(FIELDS["correct"] > 0, GOOD, -BAD)

  def softmax(x):
    weights = np.exp(x - x.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)

  slopes = softmax(total) - softmax(total + u)
  cells = []
  for r in (0.5, 1.5):
    for i in (1, 0):
      old = total.copy()
      old[0, i] -= 6 * np.log(r)
      moved = softmax(total) - softmax(old + u)
      cells.append(moved[0, i] / slopes[0, i])
  return cells, 6 * np.abs(slopes).sum() / 4 / MEAN


def gvpo(kl_coef=0.1):
  """d = kl_coef (S - mean S) - (r - μ), where S = 6 log r of one of seven.

  The slope is kl_coef d / 6 at each of six tokens.
  """
  cells = [
      (c - kl_coef * 6 / 7 * 6 * np.log(r)) / c
      for r in (0.5, 1.5)
      for c in (4 / 7, -3 / 7)
  ]
  return cells, kl_coef * 7 * DEVIATION


def high_entropy():
  """The mean over the 34 of 168 tokens, a fifth, of the highest entropy."""
  entropy = FIELDS["entropy"]
  kept = entropy >= np.sort(entropy.ravel())[-34]
  assert kept[0, :2].any(axis=1).all()
  return PPO, Z[kept].mean() / MEAN


SAMPLE, BATCH = (7 / 6) ** 0.5, (28 / 27) ** 0.5
# z of the components, by the sample deviation plus 1e-4; the second is 0.
GDPO = DEVIATION / (DEVIATION * SAMPLE + 1e-4)

# The four slopes and `unit_slope`. A unit slope of 1 is the claim that on
# policy d loss / d log π = -A / n at each of the n tokens, A the z-score. The
# others claim -A w as well: with their own A, whose size is worked out here,
# or another weight w. tunix, tpo and gvpo claim neither; see there.
EXPECTED = {
    "grpo": (PPO, 1),
    "grpo_poise": (PPO, 1),
    "grpo_deepseek": (PPO, 1),
    # A clip of 10.
    "grpo_r1": (RATIO, 1),
    "grpo_trl": (PPO, scaled(DEVIATION * SAMPLE + 1e-4)),
    "grpo_verl": (PPO, 1 / SAMPLE),
    "grpo_tunix": tunix(),
    # A = r - μ, and 6 tokens over L_max.
    "dr_grpo": (PPO, DEVIATION * 6 / 31),
    "dapo": (PPO, 1),
    "grpo_format_penalty": (PPO, 1),
    # A = r - μ.
    "reinforce_baseline": (PLAIN, DEVIATION),
    # 7/6 (r - μ), summed over 6 tokens.
    "rloo_sequence": (PLAIN, 6 * scaled(6 / 7)),
    "opo": (PLAIN, DEVIATION),
    "gpg": (PLAIN, DEVIATION),
    "rloo": (PPO, scaled(6 / 7)),
    "lite_ppo": (PPO, scaled(DEVIATION * BATCH + 1e-4)),
    # As dr_grpo where lengths are equal.
    "vl_norm": (PPO, DEVIATION * 6 / 31),
    # f = 1 / C(7, 4), A = f / sqrt(f (1 - f)) = 1 / sqrt(34), and 3/4 of it.
    "passk": (PPO, unit(1 / 34**0.5, 0.75 / 34**0.5)),
    "maxrl": (PPO, scaled(3 / 7)),
    "gdpo": (PPO, GDPO / (GDPO * BATCH + 1e-4)),
    # By the sample variance of 168 tokens. Nearly PPO: see LOOSE.
    "reinforce_pp": (PPO, (167 / 168) ** 0.5),
    "reinforce_pp_baseline": (PPO, 1 / BATCH),
    # The cap of 5 is above all.
    "cispo": (RATIO, 1),
    "scalerl": (RATIO, 1),
    "sapo": sapo(),
    # Good tokens have 1 / r.
    "aspo": ((2, 0, 0, 1.5), 1),
    "intellect2": (PPO, 1),
    "dppo_tv": dppo(lambda p: p > 0.2),
    "dppo_kl": dppo(lambda p: bernoulli_kl(p) > 0.2),
    "clip_cov": clip_cov(),
    # No clip. The penalty is on one token, of another completion.
    "kl_cov": (RATIO, 1),
    # The mean ratio is the ratio.
    "gspo": (PPO, 1),
    "gspo_token": (PPO, 1),
    # exp(0.4) = 1.49 clips 1.5, exp(-0.4) = 0.67 clips 0.5.
    "gmpo": (PPO, 1),
    # Six tokens.
    "luspo": (PPO, 6),
    "vespo": vespo(),
    "rloo_trl": rloo_trl(),
    "tpo": tpo(),
    "gvpo": gvpo(),
    # The sampler is the old policy.
    "grpo_tis": (PPO, 1),
    "grpo_mis": (PPO, 1),
    "icepop": (PPO, 1),
    # A = r - μ. What is ignored off policy is clipped already.
    "deepseek_v32": (PPO, DEVIATION),
    "high_entropy_grpo": high_entropy(),
    "overlong_filtered_grpo": (PPO, 1),
    "grpo_adaptive_entropy": (PPO, 1),
    "grpo_adaptive_kl": (PPO, 1),
    # All groups have the same spread.
    "bn_grpo": (PPO, 1),
    "av_grpo": (PPO, 1),
    # μ = 4/9, sqrt(μ (1 - μ)) = sqrt(20)/9. All lengths are equal.
    "vm_av_grpo": (PPO, unit(5 / 20**0.5, 4 / 20**0.5)),
    "vm_av_grpo_entropy": (PPO, unit(5 / 20**0.5, 4 / 20**0.5)),
    "msa_grpo": (PPO, 1),
    # The anchors are μ, the scale is 1/2.
    "sa_grpo": (PPO, scaled(1 / 2)),
    "fa_grpo": (PPO, 1),
    "gla_grpo": (PPO, 1),
    "pr_grpo": (PPO, 1),
    # b = 4 / 8.5, sqrt(b (1 - b)) = sqrt(72)/17.
    "cda_grpo": (PPO, unit(9 / 72**0.5, 8 / 72**0.5)),
    "dfr_grpo": (PPO, 1),
    "rf_grpo": (PPO, scaled(DEVIATION + 0.1)),
    # 1 + (1 - 3/7).
    "dace": (PPO, 11 / 7),
    # All lengths are equal.
    "cag": (PPO, 1),
    "dcbe": (PPO, 1),
    "zero_gradient": ((None,) * 4, None),
    # -A: the clip is on the other side.
    "sign_flipped": ((0, 0.5, 1.5, 0), 1),
}
# Moving π_old moves the KL in the reward, by 0.001 log r a token.
LOOSE = {"reinforce_pp": 5e-3}
# No gradient, and the wrong one.
RAISES_GOOD = {"zero_gradient": None, "sign_flipped": False}


def test_every_algorithm_is_in_the_table():
  assert tuple(EXPECTED) == catalog.names()


@pytest.mark.parametrize("name", catalog.names())
def test_slopes(name):
  measured = measuring.slopes(catalog.make(name))
  assert measured.raises_good is RAISES_GOOD.get(name, True)
  cells, unit_slope = EXPECTED[name]
  found = dataclasses.astuple(measured)[:5]
  expected = (*cells, unit_slope)
  if None in expected:
    assert found == expected
    return
  rtol = LOOSE.get(name, 2e-5)
  np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-6)
  # A clip leaves nothing at all.
  zeros = [x for x, y in zip(found, expected, strict=True) if y == 0]
  assert not any(zeros)
