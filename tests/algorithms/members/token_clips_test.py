import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.algorithms.members import token_clips

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


def test_cispo(member, run):
  # Weights 1.5, .5 and 2 (capped), .5; six tokens. The losses of the two
  # tokens of ratio .5 cancel.
  algorithm = member(token_clips, "cispo", ratio_cap=2.0)
  value, grads, state, metrics = run(algorithm, make_batch())
  close(value, (-1.5 * (np.log(1.5) - 2) + 2 * (np.log(5.0) - 2)) / 6)
  close(slopes_of(grads), np.array([[-1.5, -0.5], [2.0, 0.5]]) / 6)
  close(metrics["advantages/mean_abs"], 0.5)
  assert state == {}


def test_scalerl_leaves_out_groups_of_equal_rewards(member, run):
  # One prompt left: a = ±1/2 with deviation 1/2, so A = ±1; four tokens.
  # Twice the ratio: the sampler gave log π_old - log 2. Cap 5 at ratio 10.
  batch = make_batch()
  batch["sampler_logprobs"] = batch["sampler_logprobs"] - np.log(2.0)
  algorithm = member(token_clips, "scalerl")
  value, grads, _, metrics = run(algorithm, batch)
  good = 3 * (np.log(1.5) - 2) + np.log(0.5) - 2
  bad = 5 * (np.log(5.0) - 2) + np.log(0.5) - 2
  close(value, (bad - good) / 4)
  close(slopes_of(grads), np.array([[-3.0, -1.0], [5.0, 1.0]]) / 4)
  close(metrics["advantages/mean_abs"], 0.5)


def test_scalerl_weighs_prompts_equally(member, run):
  # a = 1/2, -1/2 and -1/4, 1/4: deviation sqrt(5/32). Two prompts of four
  # and two tokens; ratio 1 in the second.
  rewards = np.array([[1.0, 0.0], [0.0, 0.5]])
  batch = make_batch(rewards=rewards)
  _, grads, _, _ = run(member(token_clips, "scalerl"), batch)
  first, second = np.array([0.5, 0.25]) / (5 / 32) ** 0.5
  grads = grads["logprobs"]
  close(
      grads[0, :, :2],
      first * np.array([[-1.5, -0.5], [5.0, 0.5]]) / (2 * 4),
  )
  close(grads[1, :, 0], second * np.array([1.0, -1.0]) / (2 * 2))


def test_sapo(member, run):
  # (4/τ) σ(τ (r - 1)) with slope 4 r σ(1 - σ), τ = 2 and 1: arguments 1, -1
  # and 4, -1/2. Two tokens of each of four completions.
  algorithm = member(token_clips, "sapo", tau_positive=2.0, tau_negative=1.0)
  value, grads, _, metrics = run(algorithm, make_batch())
  sigma = 1 / (1 + np.exp([[-1.0, 1.0], [-4.0, 0.5]]))
  expected = -2 * sigma[0].sum() + 4 * sigma[1].sum()
  close(value, expected / 8)
  ratio = np.array([GOOD, BAD])
  slopes = 4 * ratio * sigma * (1 - sigma) * [[-1.0], [1.0]]
  close(slopes_of(grads), slopes / 8)
  close(metrics["advantages/mean_abs"], 0.5)


def test_aspo(member, run):
  # Good: clipped at 1.2, and 1/.5. Bad: 3 log π instead of 5, clipped at .8.
  value, grads, _, metrics = run(member(token_clips, "aspo"), make_batch())
  close(value, (-1 / 1.2 - 2 + 3 * (np.log(5.0) - 2) + 0.8) / 6)
  close(slopes_of(grads), np.array([[0.0, -2.0], [3.0, 0.0]]) / 6)
  close(metrics["clip_ratio/high_mean"], 1 / 6)
  close(metrics["clip_ratio/low_mean"], 1 / 6)
  # The weight of the rarer good token is bounded as well.
  algorithm = member(token_clips, "aspo", dual_clip=1.5)
  value, grads, _, _ = run(algorithm, make_batch())
  linear = -1.5 * (np.log(0.5) - 2) + 1.5 * (np.log(5.0) - 2)
  close(value, (-1 / 1.2 + linear + 0.8) / 6)
  close(slopes_of(grads), np.array([[0.0, -1.5], [1.5, 0.0]]) / 6)


def test_intellect2(member, run):
  # Good: clipped at 1.2, and .5. Bad: bounded at 4, clipped at .8.
  algorithm = member(token_clips, "intellect2")
  value, grads, _, metrics = run(algorithm, make_batch())
  close(value, (-1.2 - 0.5 + 4.0 + 0.8) / 6)
  close(slopes_of(grads), np.array([[0.0, -0.5], [0.0, 0.0]]) / 6)
  close(metrics["clip_ratio/high_mean"], 1 / 6)
  close(metrics["clip_ratio/low_mean"], 1 / 6)
  close(metrics["clip_ratio/dual_mean"], 1 / 6)
  algorithm = member(token_clips, "intellect2", delta=9.0)
  _, grads, _, metrics = run(algorithm, make_batch())
  close(slopes_of(grads), np.array([[0.0, -0.5], [5.0, 0.0]]) / 6)
  close(metrics["clip_ratio/dual_mean"], 0.0)


@pytest.mark.parametrize(
    "name", ["cispo", "scalerl", "sapo", "aspo", "intellect2"]
)
def test_nothing_to_learn_from(member, run, name):
  # Equal rewards, or no token at all: exactly no gradient.
  algorithm = member(token_clips, name)
  equal = make_batch(rewards=np.ones((2, 2)))
  empty = make_batch(completion_mask=np.zeros((2, 2, 3)))
  for batch in (equal, empty):
    value, grads, _, metrics = run(algorithm, batch)
    assert value == 0.0
    np.testing.assert_array_equal(grads["logprobs"], np.zeros((2, 2, 3)))
    assert all(np.isfinite(metric) for metric in metrics.values())


# The equations again, in float64.


def normalized(hp, b):
  r = b["rewards"]
  mean, std = r.mean(axis=1, keepdims=True), r.std(axis=1, keepdims=True)
  return ((r - mean) / (std + hp["epsilon"]))[..., None]


def ratio_of(b, logprobs, key="old_logprobs"):
  return np.exp(b.log_ratio(logprobs, key))


def cispo(hp, b, logprobs, entropy):
  weight = np.minimum(ratio_of(b, b["logprobs"]), hp["ratio_cap"])
  return b.token_mean(-weight * normalized(hp, b) * logprobs)


def scalerl(hp, b, logprobs, entropy):
  spread = np.ptp(b["rewards"], axis=1) > 0
  if not spread.any():
    return 0.0
  centered = b["rewards"] - b["rewards"].mean(axis=1, keepdims=True)
  adv = centered / (centered[spread].std() + hp["epsilon"])
  weight = ratio_of(b, b["logprobs"], "sampler_logprobs")
  loss = -np.minimum(weight, hp["ratio_cap"]) * adv[..., None] * logprobs
  kept = [g for g in np.flatnonzero(spread) if b.live[g].any()]
  return sum(loss[g][b.live[g]].mean() for g in kept) / max(len(kept), 1)


def sapo(hp, b, logprobs, entropy):
  adv = normalized(hp, b)
  tau = np.where(adv > 0, hp["tau_positive"], hp["tau_negative"])
  # 1 / (1 + exp(-x)), without overflow.
  gate = np.exp(-np.logaddexp(0, -tau * (ratio_of(b, logprobs) - 1)))
  return b.seq_mean(-adv * 4 / tau * gate)


def aspo(hp, b, logprobs, entropy):
  adv, c, high = normalized(hp, b), hp["dual_clip"], 1 + hp["clip_eps_high"]
  ratio, fixed = ratio_of(b, logprobs), ratio_of(b, b["logprobs"])
  flipped = np.minimum(ratio, high) / np.minimum(fixed, high) ** 2
  flipped = np.where(1 / fixed > c, c * logprobs, flipped)
  plain = np.maximum(ratio, 1 - hp["clip_eps_low"])
  plain = np.where(fixed > c, c * logprobs, plain)
  return b.token_mean(-adv * np.where(adv > 0, flipped, plain))


def intellect2(hp, b, logprobs, entropy):
  adv, ratio = normalized(hp, b), ratio_of(b, logprobs)
  low, high = 1 - hp["clip_eps_low"], 1 + hp["clip_eps_high"]
  bounded = np.minimum(ratio, hp["delta"]) * adv
  return b.token_mean(-np.minimum(bounded, np.clip(ratio, low, high) * adv))


# With constants at which every term is active.
ORACLES = {
    "cispo": (cispo, {"ratio_cap": 1.1}),
    "scalerl": (scalerl, {"ratio_cap": 1.1}),
    "sapo": (sapo, {"tau_positive": 2.0, "tau_negative": 3.0}),
    "aspo": (aspo, {"clip_eps_high": 0.3, "dual_clip": 1.4}),
    "intellect2": (intellect2, {"clip_eps_high": 0.1, "delta": 1.3}),
}


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_float64(name, agrees_with_float64):
  oracle, constants = ORACLES[name]
  agrees_with_float64(catalog.make(name, **constants), oracle)
