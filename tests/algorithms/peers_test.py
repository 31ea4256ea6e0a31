"""Our losses against those of TRL and verl, recorded by `record_peers.py`.

The judges ran in float64 on the numbers in `peers.json`. Values and gradients
agree to 2e-5, where definitions agree. Where they differ by a factor, the
factor is stated here.
"""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    controllers,
    corrections,
    kl,
    length_shaping,
    ratios,
    sequence_losses,
    surrogates,
)
from poise_jax.algorithms.members import (
    controlled,
    estimators,
    grpo,
    off_policy,
    policy_gradient,
    sequences,
    token_clips,
    trust_region,
)

PEERS = json.loads(
    pathlib.Path(__file__).with_name("peers.json").read_text("utf-8")
)
ARRAYS = {k: np.array(v, np.float32) for k, v in PEERS["arrays"].items()}
ARRAYS["step"] = np.array(3, np.int32)
G = ARRAYS["rewards"].shape[1]

CLIP = {"clip_eps_low": 0.2, "clip_eps_high": 0.28}
NARROW = {"clip_eps_low": 0.05, "clip_eps_high": 0.1}
TAU = {"tau_positive": 1.5, "tau_negative": 2.5}
VESPO = {"k_pos": 1.5, "lambda_pos": 2.5, "k_neg": 2.0, "lambda_neg": 1.25}
DPPO = {"ratio_cap": 1.4}

# The peers divide by the sample deviation, most members by that of the
# population, σ_0 = SAMPLE σ_1. Hence, with A_d = (r - μ) / (σ_d + epsilon_d)
# and epsilon_0 = SAMPLE epsilon_1, A_1 = SAMPLE A_0.
SAMPLE = ((G - 1) / G) ** 0.5
EPSILON = {"trl": 1e-4, "verl": 1e-6}

EQUAL = {
    "trl/dapo": (grpo, "grpo_trl", CLIP),
    "trl/bnpo": (grpo, "grpo_trl", CLIP),
    "trl/dapo/k3": (grpo, "grpo_trl", CLIP | {"kl_coef": 0.04}),
    "verl/vanilla": (grpo, "grpo_verl", CLIP | {"dual_clip": 1.5}),
    "verl/clip_cov/none": (grpo, "grpo_verl", CLIP | {"dual_clip": 9.0}),
    "trl/dr_grpo": (grpo, "dr_grpo", CLIP | {"length_constant": 31.0}),
    "verl/dr_grpo": (grpo, "dr_grpo", CLIP | {"length_constant": 31.0}),
    "verl/rloo": (estimators, "rloo", CLIP),
    "trl/lite_ppo": (estimators, "lite_ppo", CLIP),
    "trl/gdpo": (estimators, "gdpo", CLIP | {"other_weight": 0.5}),
    "verl/reinforce_pp": (
        estimators,
        "reinforce_pp",
        CLIP | {"kl_coef": 0.05},
    ),
    "verl/opo": (policy_gradient, "opo", {}),
    "verl/rloo/sum": (policy_gradient, "rloo_sequence", {"kl_coef": 0.0}),
    "trl/rloo": (sequences, "rloo_trl", CLIP),
    "trl/deepseek_v32": (
        off_policy,
        "deepseek_v32",
        CLIP | {"off_policy_threshold": 0.02, "kl_coef": 0.04},
    ),
}
# Terms without A are divided by SAMPLE, so that all of the loss has the factor.
POPULATION = {
    "trl/dapo": (grpo, "dapo", CLIP),
    "trl/dapo/k3": (grpo, "grpo", CLIP | {"kl_coef": 0.04 / SAMPLE}),
    "trl/grpo/k3": (grpo, "grpo_deepseek", CLIP | {"kl_coef": 0.04 / SAMPLE}),
    "trl/gspo": (sequences, "gspo", NARROW),
    "verl/gspo/seq": (sequences, "gspo_token", NARROW),
    "trl/gmpo": (sequences, "gmpo", CLIP),
    "verl/gmpo": (sequences, "gmpo", CLIP),
    "trl/luspo": (sequences, "luspo", NARROW),
    "trl/vespo/sampler": (sequences, "vespo", VESPO),
    "trl/cispo": (token_clips, "cispo", {"ratio_cap": 1.2}),
    "trl/sapo": (token_clips, "sapo", TAU),
    "verl/sapo": (token_clips, "sapo", TAU),
    "trl/delta": (token_clips, "intellect2", CLIP | {"delta": 1.5}),
    "verl/vanilla": (token_clips, "intellect2", CLIP | {"delta": 1.5}),
    "verl/dppo_tv": (
        trust_region,
        "dppo_tv",
        DPPO | {"threshold_low": 0.02, "threshold_high": 0.03},
    ),
    "verl/dppo_kl": (trust_region, "dppo_kl", DPPO | {"threshold": 0.03}),
    "verl/clip_cov/mean": (
        trust_region,
        "clip_cov",
        CLIP
        | {
            "cov_low": 0.1 / SAMPLE,
            "cov_high": 1.0 / SAMPLE,
            "cov_fraction": 0.05,
        },
    ),
    "verl/kl_cov": (
        trust_region,
        "kl_cov",
        {"kl_coef": 0.7 / SAMPLE, "cov_fraction": 0.2},
    ),
    "trl/tis": (off_policy, "grpo_tis", CLIP | {"sampler_cap": 1.1}),
    "verl/tis": (off_policy, "grpo_tis", CLIP | {"sampler_cap": 1.1}),
    "trl/mis": (off_policy, "grpo_mis", CLIP | {"sampler_cap": 1.1}),
    "trl/icepop": (
        off_policy,
        "icepop",
        CLIP | {"sampler_low": 0.9, "sampler_high": 1.15},
    ),
    "verl/icepop": (
        off_policy,
        "icepop",
        CLIP | {"sampler_low": 0.9, "sampler_high": 1.15},
    ),
    "trl/entropy_bonus": (
        controlled,
        "grpo_adaptive_entropy",
        CLIP | {"entropy_coef": 0.3 / SAMPLE, "entropy_target": 1.5},
    ),
}


def agrees(name, result, factor=1.0):
  """Checks `factor` times ours against the record of the peer."""
  value, grads, _, _ = result
  peer = PEERS[name]
  live = ARRAYS["completion_mask"] > 0
  # Terms of both signs cancel in the value; this is about their size.
  size = np.abs(peer["logprobs"]).sum()
  np.testing.assert_allclose(
      factor * value, peer["value"], rtol=2e-5, atol=2e-6 * size
  )
  for field in ("logprobs", "entropy"):
    expected = np.zeros(live.shape)
    expected[live] = peer.get(field, 0.0)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(
        factor * grads[field], expected, rtol=2e-5, atol=2e-6 * largest
    )


def of_atoms(loss):
  """An algorithm without state from a function of the batch."""
  return types.Algorithm(
      "atoms",
      {},
      lambda _: {},
      lambda _, state, batch: (loss(batch), state, {}),
  )


@pytest.mark.parametrize("name", EQUAL)
def test_member_is_that_of_the_peer(name, member, run):
  module, ours, constants = EQUAL[name]
  agrees(name, run(member(module, ours, **constants), ARRAYS))


@pytest.mark.parametrize("name", POPULATION)
def test_member_is_that_of_the_peer_but_for_the_deviation(name, member, run):
  module, ours, constants = POPULATION[name]
  epsilon = SAMPLE * EPSILON[name.split("/")[0]]
  algorithm = member(module, ours, epsilon=epsilon, **constants)
  agrees(name, run(algorithm, ARRAYS), factor=SAMPLE)


def test_gpg_of_verl_counts_rewards_that_are_not_zero(member, run):
  # 24 completions of three groups with unequal rewards, 26 rewards not zero:
  # our factor is 32/24, that of verl 32/26.
  result = run(member(policy_gradient, "gpg"), ARRAYS)
  agrees("verl/gpg", result, factor=24 / 26)


def test_high_entropy_of_trl_divides_by_all_tokens(member, run):
  # ceil(.2 * 117) = 24 tokens of 117 are kept, in TRL floor(.2 * 116) + 1.
  tokens = ARRAYS["completion_mask"].sum()
  assert tokens == 117
  algorithm = member(
      off_policy, "high_entropy_grpo", epsilon=SAMPLE * 1e-4, **CLIP
  )
  agrees("trl/high_entropy", run(algorithm, ARRAYS), SAMPLE * 24 / 117)


# What no member is, put together from atoms.


def scored(batch, epsilon):
  return advantages.group_normalized(batch.rewards, ddof=1, epsilon=epsilon)


def ratio_of(batch):
  return ratios.token_ratio(
      batch.logprobs, batch.old_logprobs, batch.completion_mask
  )


def clipped(batch, adv):
  return surrogates.clipped(ratio_of(batch), adv, **CLIP)


def averaged(batch, values):
  return aggregation.token_mean(values, batch.completion_mask)


def to_ref(batch):
  return batch.logprobs, batch.ref_logprobs, batch.completion_mask


def to_sampler(batch):
  return batch.old_logprobs, batch.sampler_logprobs, batch.completion_mask


def verl_with_kl(b):
  loss = surrogates.dual_clipped(
      ratio_of(b), scored(b, 1e-6), dual_clip=1.5, **CLIP
  )
  return averaged(b, loss + 0.04 * kl.k3(*to_ref(b)))


def trl_with_unbiased_kl(b):
  divergence = kl.unbiased_k3(
      b.logprobs, b.old_logprobs, b.ref_logprobs, b.completion_mask
  )
  return averaged(b, clipped(b, scored(b, 1e-4)) + 0.04 * divergence)


def verl_gspo_by_token(b):
  """A mean over tokens: long completions weigh more."""
  ratio = ratios.gspo_token_ratio(b.logprobs, b.old_logprobs, b.completion_mask)
  return averaged(b, surrogates.clipped(ratio, scored(b, 1e-6), **NARROW))


def trl_gspo_by_token(b):
  ratio = ratios.sequence_ratio(b.logprobs, b.old_logprobs, b.completion_mask)
  return averaged(b, surrogates.clipped(ratio, scored(b, 1e-4), **NARROW))


def verl_cispo(b):
  """The weight is clipped on both sides."""
  weighted = surrogates.cispo(
      b.logprobs,
      ratio_of(b),
      scored(b, 1e-6),
      b.completion_mask,
      ratio_cap=1.28,
      ratio_floor=0.8,
  )
  return averaged(b, weighted)


def verl_dro(b):
  loss = surrogates.policy_gradient(
      b.logprobs, scored(b, 1e-6), b.completion_mask
  )
  distance = kl.k2(b.logprobs, b.old_logprobs, b.completion_mask)
  return averaged(b, loss + 0.3 * distance)


def trl_vespo(b):
  """Without a sampler of its own: the ratio is to the policy before."""
  values = sequence_losses.vespo(
      b.logprobs, b.old_logprobs, b.completion_mask, scored(b, 1e-4), **VESPO
  )
  return averaged(b, values)


def whitened_by_token(b, scores):
  scores = jnp.broadcast_to(scores[..., None], b.logprobs.shape)
  return advantages.token_whitened(scores, b.completion_mask)


def verl_reinforce_pp_baseline(b):
  """Whitened over tokens; `reinforce_pp_baseline` does it by completion."""
  adv = whitened_by_token(b, advantages.group_centered(b.rewards))
  return averaged(b, clipped(b, adv) + 0.05 * kl.k2(*to_ref(b)))


def verl_gdpo(b):
  """Whitened over tokens; `gdpo` does it by completion."""
  scores = advantages.group_normalized(
      b.reward_components, ddof=1, epsilon=1e-6
  )
  adv = whitened_by_token(b, scores @ jnp.array([1.0, 0.5]))
  return averaged(b, clipped(b, adv))


def truncated_by_sequence(epsilon):
  def loss(b):
    weight = corrections.truncated_sequence(*to_sampler(b), cap=1.1)
    return averaged(b, weight * clipped(b, scored(b, epsilon)))

  return loss


def trl_mis_with_kl(b):
  """The weight is on the policy term only."""
  weight = corrections.sequence_mask(*to_sampler(b), cap=1.1)
  loss = weight * clipped(b, scored(b, 1e-4))
  return averaged(b, loss + 0.04 * kl.k3(*to_ref(b)))


def verl_rejected_tokens(b):
  """Bounds are on π_sampler / π_old; the rejected leave the denominator."""
  kept = corrections.icepop(*to_sampler(b), low=1 / 1.15, high=1 / 0.9)
  mask = b.completion_mask * (kept > 0)
  return aggregation.token_mean(b.logprobs, mask)


def verl_rejected_completions(b):
  kept = corrections.geometric_filter(
      *to_sampler(b), low=1 / 1.05, high=1 / 0.98
  )
  return aggregation.token_mean(b.logprobs, b.completion_mask * kept)


def penalty(estimator):
  return lambda batch: averaged(batch, estimator(*to_ref(batch)))


ATOMS = {
    "verl/kl": verl_with_kl,
    "trl/dapo/unbiased_k3": trl_with_unbiased_kl,
    "verl/gspo": verl_gspo_by_token,
    "trl/gspo/token_mean": trl_gspo_by_token,
    "verl/cispo": verl_cispo,
    "verl/dro": verl_dro,
    "trl/vespo": trl_vespo,
    "verl/reinforce_pp_baseline": verl_reinforce_pp_baseline,
    "verl/gdpo": verl_gdpo,
    "trl/tis/sequence": truncated_by_sequence(1e-4),
    "verl/tis/sequence": truncated_by_sequence(1e-6),
    "trl/mis/k3": trl_mis_with_kl,
    "verl/rejected/token_k1": verl_rejected_tokens,
    "verl/rejected/seq_mean_k1": verl_rejected_completions,
    "verl/kl/k1": penalty(kl.k1),
    "verl/kl/abs": penalty(kl.absolute),
    "verl/kl/k2": penalty(kl.k2),
    "verl/kl/low_var_kl": penalty(kl.k3),
    "verl/kl/k3+": penalty(kl.k3_value_k2_gradient),
}


@pytest.mark.parametrize("name", ATOMS)
def test_atoms_make_what_the_peer_has(name, run):
  agrees(name, run(of_atoms(ATOMS[name]), ARRAYS))


def test_kl_controller_is_that_of_verl():
  coefficient = jnp.float32(0.02)
  for divergence, expected in zip(
      (0.05, 0.11, 0.5), PEERS["verl/adaptive_kl"], strict=True
  ):
    coefficient = controllers.proportional_kl(
        coefficient,
        jnp.float32(divergence),
        target=0.1,
        horizon=1000,
        count=ARRAYS["rewards"].size,
    )
    np.testing.assert_allclose(coefficient, expected, rtol=2e-5)


def test_soft_overlong_is_that_of_trl():
  lengths = jnp.arange(1.0, 9.0)[None]
  punished = length_shaping.soft_overlong(lengths, max_length=6, buffer=3)
  np.testing.assert_allclose(punished[0], PEERS["trl/soft_overlong"], rtol=2e-5)


def test_every_record_is_compared():
  # Two relations have a test of their own.
  compared = {"versions", "arrays", "verl/gpg", "trl/high_entropy"}
  compared |= {"verl/adaptive_kl", "trl/soft_overlong"}
  assert compared | set(EQUAL) | set(POPULATION) | set(ATOMS) == set(PEERS)
