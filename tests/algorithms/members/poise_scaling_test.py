import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.algorithms.members import poise_scaling


def make_batch(**fields):
  """Two groups of four completions, one live token each, the second masked.

  In the first group the first answer is right, its token has ratio 1.5, and
  the last answer is invalid. In the second all are valid and wrong.
  """

  def tokens(first, second):
    return np.stack([[first, second], np.zeros((2, 4))], axis=2)

  minus_one = tokens([-1.0] * 4, [-1.0] * 4)
  rewards = np.array([[1.0, 0.0, 0.0, 0.0], [0.0] * 4])
  valid = np.array([[1.0, 1.0, 1.0, 0.0], [1.0] * 4])
  values = {
      "logprobs": tokens([np.log(1.5) - 1, -1, -1, -1], [-1.0] * 4),
      "entropy": -0.5 * minus_one,
      "old_logprobs": minus_one,
      "sampler_logprobs": minus_one,
      "ref_logprobs": minus_one,
      "completion_mask": -minus_one,
      "rewards": rewards,
      "correct": rewards,
      "format_valid": valid,
      "truncated": np.zeros((2, 4)),
      "lengths": np.array([[2.0, 1.0, 3.0, 9.0], [1.0] * 4]),
      "staleness": np.zeros((2, 4)),
      "reward_components": np.stack([rewards, valid], axis=2),
      "history_pass_rate": np.zeros(2),
      "progress": np.array(0.0),
  }
  values = {k: jnp.asarray(v, jnp.float32) for k, v in values.items()}
  return types.RolloutBatch(**{**values, "step": jnp.array(0), **fields})


@functools.cache
def compiled(name):
  """Value, metrics and gradient; lightly optimised, to compile fast."""
  algorithm = catalog.make(name)

  def loss(logprobs, hparams, batch):
    batch = types.RolloutBatch(**{**vars(batch), "logprobs": logprobs})
    value, state, metrics = algorithm.loss(hparams, {}, batch)
    assert state == {}
    return value, metrics

  return jax.jit(
      jax.value_and_grad(loss, has_aux=True),
      compiler_options={"xla_backend_optimization_level": 0},
  )


def evaluate(name, batch, **hparams):
  """The loss, its gradient at the live tokens, and the metrics."""
  constants = catalog.make(name, **hparams).hparams
  (value, metrics), grads = compiled(name)(batch.logprobs, constants, batch)
  np.testing.assert_array_equal(grads[..., 1], np.zeros((2, 4)))
  return value, np.asarray(grads[..., 0]), metrics


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_bn_grpo_scales_by_the_whole_batch():
  # Centred .75, -.25 x 3, and four zeros: rms sqrt(.75 / 8). The first token
  # is clipped at 1.2; eight tokens.
  high, low = np.array([0.75, -0.25]) / (0.75 / 8) ** 0.5
  value, slopes, metrics = evaluate("bn_grpo", make_batch())
  close(value, -(1.2 * high + 3 * low) / 8)
  close(slopes, [[0.0, -low / 8, -low / 8, -low / 8], [0.0] * 4])
  close(metrics["advantages/mean_abs"], (high - 3 * low) / 8)
  close(metrics["clip_ratio/high_mean"], 1 / 8)
  close(metrics["clip_ratio/low_mean"], 0.0)
  close(metrics["kl"], (1 / 1.5 - 1 + np.log(1.5)) / 8)


def test_bn_grpo_clips_advantages():
  value, _, _ = evaluate("bn_grpo", make_batch(), advantage_clip=0.5)
  close(value, -(1.2 * 0.5 - 3 * 0.5) / 8)


def test_bn_grpo_regularisers():
  # k3 = 1/1.5 - 1 + log 1.5 at the first token, 0 at the others.
  plain, _, _ = evaluate("bn_grpo", make_batch())
  value, slopes, _ = evaluate(
      "bn_grpo", make_batch(), kl_coef=2.0, entropy_coef=3.0
  )
  k3 = 1 / 1.5 - 1 + np.log(1.5)
  close(value - plain, 2.0 * k3 / 8 - 3.0 * 0.5)
  close(slopes[0, 0], 2.0 * (1 - 1 / 1.5) / 8)


def test_av_grpo_penalises_invalid_answers():
  # r' = 1, 0, 0, -1: mean 0, deviation sqrt(1/2).
  root2 = 2.0**0.5
  value, slopes, _ = evaluate("av_grpo", make_batch())
  close(value, (-1.2 * root2 + root2) / 8)
  close(slopes, [[0.0, 0.0, 0.0, root2 / 8], [0.0] * 4])


def test_av_grpo_floor():
  value, _, _ = evaluate("av_grpo", make_batch(), sigma_floor=2.0)
  close(value, (-1.2 * 0.5 + 0.5) / 8)


def test_av_grpo_without_penalty_is_grpo():
  value, slopes, _ = evaluate("av_grpo", make_batch(), format_penalty=0.0)
  expected, expected_slopes, _ = evaluate("grpo", make_batch())
  close(value, expected)
  close(slopes, expected_slopes)


def test_vm_av_grpo():
  # Three valid answers, one right: μ = 2/5, σ = sqrt(.24). Their mean length
  # is 2, so the failures of lengths 1 and 3 are divided by .5 and 1.5. Four
  # valid failures of equal length: μ = 1/6, A = -1/sqrt(5).
  sigma = 0.24**0.5
  right, short, long = 0.6 / sigma, -0.4 / sigma / 0.5, -0.4 / sigma / 1.5
  failed = -(5**-0.5)
  value, slopes, _ = evaluate("vm_av_grpo", make_batch())
  close(value, -(1.2 * right + short + long - 3.5 + 4 * failed) / 8)
  expected = [[0.0, -short, -long, 3.5], [-failed] * 4]
  close(slopes, np.array(expected) / 8)


def test_vm_av_grpo_keeps_invalid_below_every_valid_failure():
  # Three of four right under a Beta(1/4, 1/4) prior: μ = 13/18 and the
  # failure gets -13/sqrt(65) = -1.61, doubled for its length to -3.22, and is
  # cut to -3, above the invalid -3.5.
  batch = make_batch(
      rewards=jnp.array([[1.0, 1.0, 1.0, 0.0]] * 2),
      format_valid=jnp.ones((2, 4)),
      lengths=jnp.array([[9.0, 9.0, 9.0, 1.0]] * 2),
  )
  prior = {"prior_successes": 0.25, "prior_failures": 0.25}
  _, slopes, _ = evaluate("vm_av_grpo", batch, **prior)
  close(slopes[:, 3], [3.0 / 8] * 2)
  _, slopes, _ = evaluate("vm_av_grpo", batch, advantage_clip=9.0, **prior)
  close(slopes[:, 3], [26.0 / 65**0.5 / 8] * 2)


@pytest.mark.parametrize("length_low", [0.25, 0.5])
def test_vm_av_grpo_length_bounds(length_low):
  # One of two right: A = -1 for the failure, of relative length 1/5.
  batch = make_batch(
      rewards=jnp.array([[1.0, 0.0] * 2] * 2),
      format_valid=jnp.ones((2, 4)),
      lengths=jnp.array([[9.0, 1.0] * 2] * 2),
  )
  _, slopes, _ = evaluate("vm_av_grpo", batch, length_low=length_low)
  close(slopes[:, [1, 3]], np.full((2, 2), min(1 / length_low, 3.0) / 8))


def test_vm_av_grpo_leaves_groups_without_a_valid_answer_alone():
  batch = make_batch(format_valid=jnp.zeros((2, 4)))
  _, slopes, _ = evaluate("vm_av_grpo", batch)
  np.testing.assert_array_equal(slopes, np.zeros((2, 4)))


# One token each, on policy: the gradient at completion i is -A_i / count.
def advantages_of(run, algorithm, arrays):
  arrays = arrays | {"logprobs": arrays["old_logprobs"]}
  _, grads, _, _ = run(algorithm, arrays)
  return -grads["logprobs"][..., 0] * arrays["completion_mask"].sum()


def eights(arrays, correct, valid, lengths, rewards=None):
  """Four groups of eight with the given rows, in the shape of the fixture."""
  fields = {"correct": correct, "format_valid": valid, "lengths": lengths}
  fields["rewards"] = correct if rewards is None else rewards
  return arrays | {
      k: np.broadcast_to(np.asarray(v, np.float32), (4, 8))
      for k, v in fields.items()
  }


def test_what_the_mask_of_vm_av_changes(run, member, arrays):
  # One right, four wrong, three invalid. AV sees rewards 1, 0, -1 of mean
  # -1/4 and deviation sqrt(7)/4, and rewards being wrong; VM-AV sees one of
  # five, 2/7 and sqrt(10)/7, and blames it.
  right, valid = [1] + [0] * 7, [1] * 5 + [0] * 3
  arrays = eights(arrays, right, valid, [3] * 8)
  adv = advantages_of(run, member(poise_scaling, "av_grpo"), arrays)
  close(adv, [np.array([5] + [1] * 4 + [-3] * 3) / 7**0.5] * 4)
  adv = advantages_of(run, member(poise_scaling, "vm_av_grpo"), arrays)
  masked = [5 / 10**0.5] + [-2 / 10**0.5] * 4 + [-3.5] * 3
  close(adv, [masked] * 4)


@pytest.mark.parametrize("name", ["vm_av_grpo", "vm_av_grpo_entropy"])
@pytest.mark.parametrize("prior", [(1.0, 1.0), (0.1, 0.9), (0.25, 0.25)])
def test_vm_av_ranks_invalid_below_wrong_below_right(
    run, member, arrays, name, prior
):
  rng = np.random.default_rng(7)
  algorithm = member(
      poise_scaling, name, prior_successes=prior[0], prior_failures=prior[1]
  )
  for _ in range(12):
    valid = rng.random((4, 8)) < rng.random((4, 1))
    valid[:, 0] = True
    correct = valid & (rng.random((4, 8)) < rng.random((4, 1)))
    lengths = rng.integers(1, 1000, (4, 8))
    adv = advantages_of(run, algorithm, eights(arrays, correct, valid, lengths))
    assert np.all(adv[correct] > 0)
    assert np.all(adv[valid & ~correct] < 0)
    assert np.all(adv[valid] > -3.0001)
    close(adv[~valid], np.full((~valid).sum(), -3.5))


def test_vm_av_grpo_entropy_is_vm_av_grpo_and_a_bonus(run, member, arrays):
  plain = member(poise_scaling, "vm_av_grpo")
  steered = member(poise_scaling, "vm_av_grpo_entropy", entropy_coef=0.5)
  value, grads, _, _ = run(plain, arrays)
  bonus_value, bonus_grads, _, metrics = run(steered, arrays)
  mask = arrays["completion_mask"]
  mean = (arrays["entropy"] * mask).sum() / mask.sum()
  close(bonus_value, value - 0.5 * mean)
  close(bonus_grads["logprobs"], grads["logprobs"])
  close(bonus_grads["entropy"], -0.5 * mask / mask.sum())
  close(metrics["entropy"], mean)
  close(metrics["entropy_coef"], 0.5)


def test_vm_av_grpo_entropy_steers(run, member):
  # Entropy 1/2 at all tokens. Target 0.3: the coefficient shrinks by
  # exp(-0.05 / 5), and the loss uses the old one; target 0.8 with rate 2: it
  # grows by exp(0.6), to be cut at the maximum.
  arrays = vars(make_batch())
  algorithm = member(poise_scaling, "vm_av_grpo_entropy")
  start = algorithm.init(algorithm.hparams)
  close(start["entropy_coef"], 0.001)
  _, _, state, _ = run(algorithm, arrays)
  close(state["entropy_coef"], 0.001 * np.exp(-0.01))
  _, _, state, metrics = run(algorithm, arrays, state)
  close(metrics["entropy_coef"], 0.001 * np.exp(-0.01))
  close(state["entropy_coef"], 0.001 * np.exp(-0.02))
  eager = member(
      poise_scaling,
      "vm_av_grpo_entropy",
      entropy_target=0.8,
      entropy_rate=2.0,
  )
  close(run(eager, arrays)[2]["entropy_coef"], 0.001 * np.exp(0.6))
  eager.hparams["entropy_coef_max"] = 0.0015
  close(run(eager, arrays)[2]["entropy_coef"], 0.0015)


def test_msa_grpo(run, member, arrays):
  # Mixed, one of two valid wrong and one invalid in a pattern of four:
  # r' = 1, 0, 0, -1 of mean 0, over the sqrt(3)/4 of correctness. Lengths
  # 1, 1, 5, 1 of mean 2, to the power of 1/2 on praise, -1/2 on blame.
  tile = lambda row: np.tile(row, 2)
  mixed = eights(
      arrays, tile([1, 0, 0, 0]), tile([1, 1, 1, 0]), tile([1, 1, 5, 1])
  )
  algorithm = member(poise_scaling, "msa_grpo", length_power=0.5)
  unit, root2 = 4 / 3**0.5, 2**0.5
  adv = advantages_of(run, algorithm, mixed)
  close(adv, [tile([unit / root2, 0, 0, -unit * root2])] * 4)
  # All wrong, one of four invalid: 1/4 and -3/4 over sqrt(3)/4, halved.
  failed = eights(arrays, [0] * 8, tile([1, 1, 1, 0]), tile([1, 1, 5, 1]))
  adv = advantages_of(run, algorithm, failed)
  short, long = 1 / 2**0.5, 2.5**0.5
  expected = np.array([short, short, long, -3 / short]) / 3**0.5 / 2
  close(adv, [tile(expected)] * 4)
  # Nothing differs but the length: nothing to say.
  solved = eights(arrays, [1] * 8, [1] * 8, tile([1, 1, 5, 1]))
  _, grads, _, _ = run(algorithm, solved)
  np.testing.assert_array_equal(grads["logprobs"], 0 * grads["logprobs"])


def test_sa_grpo(run, member, arrays):
  # Groups of eight with 2, 4, 6 and 8 right: mean of the batch 5/8. A quarter
  # of the group, three of the batch: anchors 17/32 and so on; scale 1/2.
  counts = np.array([2, 4, 6, 8])
  correct = (np.arange(8) < counts[:, None]) * 1.0
  arrays = eights(arrays, correct, [1] * 8, [3] * 8)
  algorithm = member(poise_scaling, "sa_grpo", anchor_mix=0.25)
  adv = advantages_of(run, algorithm, arrays)
  anchors = np.array([17, 19, 21, 23])[:, None] / 32
  close(adv, 2 * (correct - anchors))


def test_sa_grpo_regularisers(run, member):
  # k3 = 1/1.5 - 1 + log 1.5 at the first token, 0 at the others.
  arrays = vars(make_batch())
  plain = run(member(poise_scaling, "sa_grpo"), arrays)[0]
  strong = member(poise_scaling, "sa_grpo", kl_coef=2.0, entropy_coef=3.0)
  k3 = 1 / 1.5 - 1 + np.log(1.5)
  value, _, _, metrics = run(strong, arrays)
  close(value - plain, 2.0 * k3 / 8 - 3.0 * 0.5)
  close(metrics["kl"], k3 / 8)
  close(metrics["entropy"], 0.5)


# The equations again, in float64.


def oracle_of(estimate):
  def oracle(hp, b, logprobs, entropy):
    ratio = np.exp(b.log_ratio(logprobs, "old_logprobs"))
    cut = np.clip(ratio, 1 - hp["clip_eps_low"], 1 + hp["clip_eps_high"])
    adv = b.once(estimate, hp)[..., None]
    x = b.log_ratio(logprobs, "ref_logprobs")
    tokens = -np.minimum(ratio * adv, cut * adv)
    tokens += hp.get("kl_coef", 0) * (np.exp(-x) - 1 + x)
    bonus = b["state"].get("entropy_coef", hp.get("entropy_coef", 0))
    return b.token_mean(tokens - bonus * entropy)

  return oracle


def bn(hp, b):
  a = b["rewards"] - b["rewards"].mean(axis=1, keepdims=True)
  scaled = a / ((a**2).mean() ** 0.5 + hp["epsilon"])
  limit = hp["advantage_clip"]
  return np.clip(scaled, -limit, limit)


def av(hp, b):
  r = b["rewards"] - hp["format_penalty"] * (b["format_valid"] == 0)
  # E[r²] - μ², of rewards near 0.
  shifted = r - r.min()
  mean = shifted.mean(axis=1, keepdims=True)
  variance = (shifted**2).mean(axis=1, keepdims=True) - mean**2
  sigma = np.maximum(variance, hp["sigma_floor"] ** 2) ** 0.5
  return (shifted - mean) / sigma


def vm_av(hp, b):
  adv = np.zeros_like(b["rewards"])
  for g, i in np.ndindex(adv.shape):
    valid = b["format_valid"][g] == 1
    if not valid.any():
      continue
    n, k = valid.sum(), b["rewards"][g][valid].sum()
    wins, losses = hp["prior_successes"], hp["prior_failures"]
    mean = (k + wins) / (n + wins + losses)
    sigma = max(mean * (1 - mean), hp["sigma_floor"] ** 2) ** 0.5
    a = (b["rewards"][g, i] - mean) / sigma
    if a < 0:
      relative = b["lengths"][g, i] / max(b["lengths"][g][valid].mean(), 1e-9)
      a /= min(max(relative, hp["length_low"]), hp["length_high"])
    a = min(max(a, -hp["advantage_clip"]), hp["advantage_clip"])
    adv[g, i] = a if valid[i] else hp["invalid_advantage"]
  return adv


def msa(hp, b):
  adv = np.zeros_like(b["rewards"])
  for g, (correct, lengths) in enumerate(
      zip(b["correct"], b["lengths"], strict=True)
  ):
    r = b["rewards"][g] - hp["format_penalty"] * (b["format_valid"][g] == 0)
    sigma = correct.std() if correct.std() > hp["epsilon"] else r.std()
    raw = (r - r.mean()) / max(sigma, hp["epsilon"])
    uniform = correct.min() == correct.max()
    raw *= hp["alpha_uniform"] if uniform else 1
    # A completion without tokens keeps its advantage.
    relative = np.where(lengths > 0, lengths / max(lengths.mean(), 1e-9), 1)
    adv[g] = raw * relative ** (np.sign(raw) * hp["length_power"])
  return adv


def sa(hp, b):
  r, mix = b["rewards"], hp["anchor_mix"]
  anchor = mix * r.mean(axis=1, keepdims=True) + (1 - mix) * r.mean()
  return (r - anchor) / hp["sigma_fixed"]


# With constants at which every term is active.
BONUS = {"kl_coef": 0.3, "entropy_coef": 0.1}
LIMITS = {"advantage_clip": 1.1, "sigma_floor": 0.35, "length_high": 1.2}
ORACLES = {
    "bn_grpo": (oracle_of(bn), BONUS | {"advantage_clip": 1.5}),
    "av_grpo": (oracle_of(av), {"format_penalty": 0.7, "sigma_floor": 0.4}),
    "vm_av_grpo": (oracle_of(vm_av), LIMITS),
    "vm_av_grpo_entropy": (oracle_of(vm_av), LIMITS | {"entropy_coef": 0.4}),
    "msa_grpo": (oracle_of(msa), {"kl_coef": 0.3, "epsilon": 0.4}),
    "sa_grpo": (oracle_of(sa), BONUS | {"anchor_mix": 0.25}),
}


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_float64(name, agrees_with_float64):
  oracle, constants = ORACLES[name]
  agrees_with_float64(catalog.make(name, **constants), oracle)
