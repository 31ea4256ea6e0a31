import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.algorithms.members import poise_routing

NAMES = ["fa_grpo", "gla_grpo", "pr_grpo", "cda_grpo", "dfr_grpo", "rf_grpo"]
ROOT3 = 3**0.5
# Scores of one right, or one invalid, in four: mean 1/4, deviation sqrt(3)/4.
MIXED = np.array([ROOT3, -1 / ROOT3, -1 / ROOT3, -1 / ROOT3])
ONE_INVALID = -MIXED[::-1]


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def twice(row):
  return np.tile(row, 2)


def regime_batch(arrays, **fields):
  """On policy: a mixed, a failed, a solved and a spoiled group, in fours.

  Of each four completions one is right in the first group, none in the second
  and fourth; the last is invalid in the second, all in the fourth. Lengths 2,
  1, 1, 4 everywhere.
  """
  correct = [[1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
  valid = [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
  rows = {"correct": correct, "format_valid": valid, "rewards": correct}
  rows["lengths"] = [[2, 1, 1, 4]] * 4
  rows |= fields
  rows = {k: np.tile(v, (1, 2)).astype(np.float32) for k, v in rows.items()}
  return arrays | rows | {"logprobs": arrays["old_logprobs"]}


def advantages_of(run, algorithm, arrays):
  """On policy the gradient at the first token of completion i is -A_i / n."""
  _, grads, _, _ = run(algorithm, arrays)
  return -grads["logprobs"][..., 0] * arrays["completion_mask"].sum()


def test_fa_grpo(run, member, arrays):
  algorithm = member(poise_routing, "fa_grpo")
  adv = advantages_of(run, algorithm, regime_batch(arrays))
  expected = [MIXED, [-0.5, -0.5, -0.5, -2.0], [0.0] * 4, [-2.0] * 4]
  close(adv, [twice(row) for row in expected])
  tight = member(poise_routing, "fa_grpo", advantage_clip=1.0)
  adv = advantages_of(run, tight, regime_batch(arrays))
  close(adv[0], twice([1, *MIXED[1:]]))


def test_fa_grpo_asks_for_a_positive_reward(run, member, arrays):
  # Failed rewards that differ are not normalised; one above 0 ends the regime.
  rewards = [[0, 0, 0, -1], [0.5, 0, 0, 0], [1] * 4, [0, 0, 0, -1]]
  batch = regime_batch(arrays, rewards=rewards)
  adv = advantages_of(run, member(poise_routing, "fa_grpo"), batch)
  expected = [[-0.5] * 4, MIXED, [0.0] * 4, [-2.0] * 4]
  close(adv, [twice(row) for row in expected])


def test_gla_grpo_ignores_residuals_in_failed_groups(run, member, arrays):
  rewards = [[1, 0, 0, 0], [0, 0, 0, -1], [1, 1, 1, 0.5], [0, 0, 0, -1]]
  batch = regime_batch(arrays, rewards=rewards)
  adv = advantages_of(run, member(poise_routing, "gla_grpo"), batch)
  expected = [MIXED, [0.0] * 4, ONE_INVALID, [0.0] * 4]
  close(adv, [twice(row) for row in expected])
  np.testing.assert_array_equal(adv[[1, 3]], np.zeros((2, 8)))
  tight = member(poise_routing, "gla_grpo", advantage_clip=1.0)
  adv = advantages_of(run, tight, batch)
  close(adv[[0, 2]], np.clip([twice(MIXED), twice(ONE_INVALID)], -1, 1))


def test_pr_grpo(run, member, arrays):
  # What the rewards say beyond correctness is heard in the mixed group only.
  rewards = [[1, 0, 0, 0], [0, 0, 0, -1], [1, 1, 1, 0.5], [0, 0, 0, -1]]
  batch = regime_batch(arrays, rewards=rewards)
  adv = advantages_of(run, member(poise_routing, "pr_grpo"), batch)
  expected = [MIXED, [-0.5] * 4, [0.0] * 4, [-0.5] * 4]
  close(adv, [twice(row) for row in expected])
  np.testing.assert_array_equal(adv[2], np.zeros(8))


def test_cda_grpo(run, member, arrays):
  # Beta(2, 2) on 2, 0, 8, 0 of 8: b = 1/3, 1/6, 5/6, 1/6, whence sqrt(2) and
  # -1/sqrt(2), -1/sqrt(5), 1/sqrt(5). Format: 0 but in the second group.
  # Brevity: the right ones of the first group are equally long; solved
  # lengths 2, 1, 1, 4 have mean 2 and deviation sqrt(3/2).
  algorithm = member(
      poise_routing,
      "cda_grpo",
      prior_successes=2.0,
      prior_failures=2.0,
      format_coef=0.5,
      length_coef=0.25,
  )
  adv = advantages_of(run, algorithm, regime_batch(arrays))
  root2, root5 = 2**0.5, 5**0.5
  brevity = np.array([0, 1, 1, -2]) / 1.5**0.5
  expected = [
      [root2] + [-1 / root2] * 3,
      -1 / root5 + 0.5 * ONE_INVALID,
      1 / root5 + 0.25 * brevity,
      [-1 / root5] * 4,
  ]
  close(adv, [twice(row) for row in expected])


def test_cda_grpo_default_is_optimistic(run, member, arrays):
  # Beta(1, 1/2): b = 2/19 in failed groups, a push of -sqrt(2/17); 18/19 in
  # solved ones, a pull of sqrt(1/18).
  algorithm = member(poise_routing, "cda_grpo")
  hparams = algorithm.hparams
  assert hparams["prior_successes"] > hparams["prior_failures"]
  batch = regime_batch(arrays, lengths=np.ones((4, 4)))
  adv = advantages_of(run, algorithm, batch)
  close(adv[2:], [[18**-0.5] * 8, [-((2 / 17) ** 0.5)] * 8])


def test_dfr_grpo(run, member, arrays):
  # Mean entropies 1, 1, 1, 3 in each four: -1/sqrt(3) and sqrt(3), cut at 1.
  means = np.broadcast_to(twice([1.0, 1, 1, 3])[:, None], (4, 8, 6))
  batch = regime_batch(arrays) | {"entropy": means.astype(np.float32)}
  algorithm = member(
      poise_routing,
      "dfr_grpo",
      kappa=0.5,
      format_coef=0.25,
      entropy_epsilon=1e-6,
  )
  adv = advantages_of(run, algorithm, batch)
  unsure = 0.5 * np.array([-1 / ROOT3, -1 / ROOT3, -1 / ROOT3, 1])
  expected = [MIXED, unsure + 0.25 * ONE_INVALID, [0.0] * 4, unsure]
  close(adv, [twice(row) for row in expected])
  opposite = member(poise_routing, "dfr_grpo", kappa=-0.5, advantage_clip=1.0)
  adv = advantages_of(run, opposite, batch)
  np.testing.assert_allclose(adv[3], twice(-unsure), rtol=1e-3)
  close(adv[0], twice([1, *MIXED[1:]]))


def test_rf_grpo_damps(run, member, arrays):
  # Rewards 1.1, .1, .1, .1 spread by sqrt(3)/4, and .1, .1, .1, 0 by a tenth
  # of that; .1 is added to either.
  algorithm = member(poise_routing, "rf_grpo")
  adv = advantages_of(
      run, algorithm, regime_batch(arrays) | on_reference(arrays)
  )
  rows = [
      np.array([3, -1, -1, -1]) / 4 / (ROOT3 / 4 + 0.1),
      np.array([1, 1, 1, -3]) / 40 / (ROOT3 / 40 + 0.1),
      [0.0] * 4,
      [0.0] * 4,
  ]
  close(adv, [twice(row) for row in rows])
  tight = member(poise_routing, "rf_grpo", advantage_clip=0.5)
  adv = advantages_of(run, tight, regime_batch(arrays) | on_reference(arrays))
  close(adv[0], twice([0.5, *np.maximum(rows[0][1:], -0.5)]))


def on_reference(arrays):
  return {"ref_logprobs": arrays["old_logprobs"]}


def test_rf_grpo_returns_to_the_reference_where_all_fail(run, member, arrays):
  # Log-ratio log 2 to the reference: k3 = 1/2 - 1 + log 2, slope 1 - 1/2.
  batch = regime_batch(arrays)
  mask = batch["completion_mask"]
  batch["ref_logprobs"] = batch["old_logprobs"] - np.float32(np.log(2)) * mask
  plain = run(member(poise_routing, "rf_grpo", kl_coef=0.0), batch)
  value, grads, _, metrics = run(
      member(poise_routing, "rf_grpo", kl_coef=2.0), batch
  )
  k3 = np.log(2) - 0.5
  share = mask[[1, 3]].sum() / mask.sum()
  close(value - plain[0], 2.0 * k3 * share)
  close(metrics["kl"], k3)
  slopes = (grads["logprobs"] - plain[1]["logprobs"]) * mask.sum()
  failed = np.array([0, 1, 0, 1])[:, None, None]
  close(slopes, 2.0 * 0.5 * mask * failed)


@pytest.mark.parametrize("name", NAMES)
def test_masked_junk_does_not_leak(run, member, arrays, name):
  algorithm = member(poise_routing, name, kl_coef=0.3)
  value, grads, _, metrics = run(algorithm, arrays)
  masked = arrays["completion_mask"] == 0
  fields = ("logprobs", "entropy", "old_logprobs", "ref_logprobs")
  junk = {k: np.where(masked, np.float32(np.nan), arrays[k]) for k in fields}
  junk_value, junk_grads, _, junk_metrics = run(algorithm, arrays | junk)
  np.testing.assert_array_equal(junk_value, value)
  np.testing.assert_array_equal(junk_grads["logprobs"], grads["logprobs"])
  assert junk_metrics == metrics
  assert np.all(grads["entropy"] == 0)


# Independent evaluation, in double precision.


def z_score(values, epsilon):
  return (values - values.mean()) / (values.std() + epsilon)


def fa(hp, b, g):
  if b["rewards"][g].max() > 0:
    limit = hp["advantage_clip"]
    return np.clip(z_score(b["rewards"][g], hp["epsilon"]), -limit, limit)
  wrong, invalid = hp["wrong_advantage"], hp["invalid_advantage"]
  return np.where(b["format_valid"][g] == 1, wrong, invalid)


def gla(hp, b, g):
  limit = hp["advantage_clip"]
  if b["correct"][g].sum() == 0:
    return np.zeros(len(b["correct"][g]))
  return np.clip(z_score(b["rewards"][g], hp["epsilon"]), -limit, limit)


def pr(hp, b, g):
  right, size = b["correct"][g].sum(), len(b["correct"][g])
  if right == 0:
    return np.full(size, hp["failed_advantage"])
  mixed = right < size
  return z_score(b["rewards"][g], hp["epsilon"]) if mixed else np.zeros(size)


def cda(hp, b, g):
  correct, lengths = b["correct"][g], b["lengths"][g]
  wins, losses = hp["prior_successes"], hp["prior_failures"]
  base = (correct.sum() + wins) / (len(correct) + wins + losses)
  adv = (correct - base) / max((base * (1 - base)) ** 0.5, hp["sigma_floor"])
  adv += hp["format_coef"] * z_score(b["format_valid"][g], hp["epsilon"])
  subset = correct == 1
  if subset.any() and lengths[subset].std() > 0:
    saved = -z_score(lengths[subset], 0.0)
    adv[subset] += hp["length_coef"] * saved
  return adv


def dfr(hp, b, g):
  limit, correct = hp["advantage_clip"], b["correct"][g]
  if correct.max() > 0:
    adv = np.clip(z_score(correct, hp["epsilon"]), -limit, limit)
  else:
    adv, some = np.zeros(len(correct)), b.tokens[g] > 0
    means = (b["entropy"][g] * b.live[g])[some].sum(axis=1) / b.tokens[g][some]
    if some.any():
      scores = np.clip(z_score(means, hp["entropy_epsilon"]), -1, 1)
      adv[some] = hp["kappa"] * scores
  return adv + hp["format_coef"] * z_score(b["format_valid"][g], hp["epsilon"])


def rf(hp, b, g):
  rewards = b["rewards"][g] + hp["format_reward"] * b["format_valid"][g]
  limit = hp["advantage_clip"]
  return np.clip(z_score(rewards, hp["damping"]), -limit, limit)


def oracle_of(group_advantage, gated=False):
  def advantages(hp, b):
    return np.stack(
        [group_advantage(hp, b, g) for g in range(len(b["rewards"]))]
    )

  def oracle(hp, b, logprobs, entropy):
    adv = b.once(advantages, hp)[..., None]
    ratio = np.exp(b.log_ratio(logprobs, "old_logprobs"))
    cut = np.clip(ratio, 1 - hp["clip_eps_low"], 1 + hp["clip_eps_high"])
    x = b.log_ratio(logprobs, "ref_logprobs")
    penalty = hp["kl_coef"] * (np.exp(-x) - 1 + x)
    if gated:
      penalty[b["correct"].sum(axis=1) > 0] = 0.0
    return b.token_mean(-np.minimum(ratio * adv, cut * adv) + penalty)

  return oracle


# With constants at which every term is active.
ORACLES = {
    "fa_grpo": (oracle_of(fa), {"advantage_clip": 1.1}),
    "gla_grpo": (oracle_of(gla), {"advantage_clip": 1.1}),
    "pr_grpo": (oracle_of(pr), {}),
    "cda_grpo": (oracle_of(cda), {"sigma_floor": 0.35}),
    "dfr_grpo": (oracle_of(dfr), {"advantage_clip": 1.1}),
    "rf_grpo": (oracle_of(rf, gated=True), {"advantage_clip": 1.1}),
}


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_float64(name, agrees_with_float64, arrays):
  oracle, constants = ORACLES[name]
  # Rewards with a second part, so that rewards and correctness differ.
  bonus = np.linspace(-0.3, 0.0, 32).reshape(4, 8)
  arrays["rewards"] = (arrays["rewards"] + bonus).astype(np.float32)
  algorithm = catalog.make(name, kl_coef=0.3, **constants)
  agrees_with_float64(algorithm, oracle, arrays)
