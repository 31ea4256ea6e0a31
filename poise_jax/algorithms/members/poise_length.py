"""The length branch of the POISE search: shorter answers, correct ones first.

See "POISE" (https://arxiv.org/abs/2603.23951), appendix A.2. Its equations
are complete but for the constants, and the entropy controllers have none.
Lengths are tokens; a pass rate is the fraction of a group that is correct,
which for rewards of 0 and 1 is the paper's test r > 0.5.
"""

import jax.numpy as jnp

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    controllers,
    kl,
    length_shaping,
    ratios,
    regimes,
    surrogates,
)
from poise_jax.shapes import Array, Float

DACE_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "difficulty_coef": 1.0,
    "length_coef": 0.2,
    "kl_coef": 0.0,
    "entropy_coef": 0.001,
    "entropy_target_start": 0.4,
    "entropy_target_end": 0.2,
    "entropy_rate": 0.05,
    "entropy_coef_max": 0.1,
}

CAG_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "length_coef": 0.5,
    "kl_coef": 0.0,
}

DCBE_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "length_coef": 0.5,
    "kl_coef": 0.0,
    "entropy_coef": 0.001,
    "entropy_target": 0.3,
    "entropy_rate": 0.05,
    "entropy_coef_max": 0.1,
}


def dace_init(hparams: types.HParams) -> types.State:
  """Starts the weight of the entropy bonus at entropy_coef."""
  return {"entropy_coef": jnp.asarray(hparams["entropy_coef"], jnp.float32)}


def dace_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """DACE: learn the hard prompts, then shorten the answers to the easy ones.

    A_acc = (r - μ) / (σ + epsilon),  p: pass rate of the group
    A_eff = z-score of -L among the correct, 0 elsewhere
    A = A_acc (1 + difficulty_coef (1 - p)) + length_coef p A_eff
    loss = token_mean( ℓ_clip(A) + kl_coef k3 - c H )
    c' = clip(c exp(entropy_rate (target - mean H)), 0, entropy_coef_max)

  The target falls from entropy_target_start to entropy_target_end with the
  progress of the run; c starts at entropy_coef. Brevity counts most in solved
  groups, where A_acc is 0; a lone correct answer has A_eff = 0.

  Reconstructed: clip_eps_low, clip_eps_high, epsilon, kl_coef; difficulty_coef
  and length_coef, α and β of the paper; the schedule and the controller,
  entropy_target_start, entropy_target_end, entropy_coef, entropy_rate,
  entropy_coef_max: the paper says "annealed entropy target". A_acc is taken to
  be that of GRPO.
  Peers: none; prime-rl has a length penalty that grows with the pass rate.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  pass_rate = advantages.group_pass_rate(batch.correct)
  weight = regimes.difficulty_weight(
      batch.correct, strength=hparams["difficulty_coef"]
  )
  scored = advantages.group_normalized(
      batch.rewards, epsilon=hparams["epsilon"]
  )
  brevity = length_shaping.efficiency(batch.lengths, batch.correct)
  adv = weight * scored + hparams["length_coef"] * pass_rate * brevity
  low, high = hparams["clip_eps_low"], hparams["clip_eps_high"]
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio, adv, clip_eps_low=low, clip_eps_high=high
  )
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  penalised = surrogate + hparams["kl_coef"] * divergence
  coef = state["entropy_coef"]
  entropy = aggregation.token_mean(batch.entropy, mask)
  loss = aggregation.token_mean(penalised, mask) - coef * entropy
  start, end = hparams["entropy_target_start"], hparams["entropy_target_end"]
  updated = controllers.proportional_entropy(
      coef,
      entropy,
      target=controllers.linear_schedule(batch.progress, start=start, end=end),
      rate=hparams["entropy_rate"],
      maximum=hparams["entropy_coef_max"],
  )
  state = {"entropy_coef": controllers.kept_if_empty(updated, coef, mask)}
  metrics = surrogates.clip_metrics(
      ratio, adv, mask, clip_eps_low=low, clip_eps_high=high
  )
  divergence = aggregation.token_mean(divergence, mask)
  metrics |= {"kl": divergence, "entropy": entropy, "entropy_coef": coef}
  return loss, state, metrics


def cag_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """CAG: a penalty, never a bonus, for correct answers longer than usual.

    A_acc = (r - μ) / (σ + epsilon),  p: pass rate of the group
    A_eff = min((μ_L - L) / μ_L, 0) on the correct, 0 elsewhere
    A = A_acc + length_coef p² A_eff        μ_L: mean length of the correct
    loss = token_mean( ℓ_clip(A) + kl_coef k3 )

  Does not sum to zero: solved groups only push their long answers away. With
  large p and length_coef, a correct answer can fall below 0.

  Reconstructed: clip_eps_low, clip_eps_high, epsilon, kl_coef and length_coef,
  which is the β_base of the paper. A_acc is taken to be that of GRPO.
  Peers: none; prime-rl has a length penalty that grows with the pass rate.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  pass_rate = advantages.group_pass_rate(batch.correct)
  scored = advantages.group_normalized(
      batch.rewards, epsilon=hparams["epsilon"]
  )
  excess = length_shaping.over_length(batch.lengths, batch.correct)
  adv = scored + hparams["length_coef"] * pass_rate**2 * excess
  low, high = hparams["clip_eps_low"], hparams["clip_eps_high"]
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio, adv, clip_eps_low=low, clip_eps_high=high
  )
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  loss = aggregation.token_mean(
      surrogate + hparams["kl_coef"] * divergence, mask
  )
  metrics = surrogates.clip_metrics(
      ratio, adv, mask, clip_eps_low=low, clip_eps_high=high
  )
  metrics["kl"] = aggregation.token_mean(divergence, mask)
  return loss, state, metrics


def dcbe_init(hparams: types.HParams) -> types.State:
  """Starts the weight of the entropy bonus at entropy_coef."""
  return {"entropy_coef": jnp.asarray(hparams["entropy_coef"], jnp.float32)}


def dcbe_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """DCBE: a bonus for brevity that made answers longer; a known failure.

    A_acc = (r - μ) / (σ + epsilon),  p: pass rate of the group
    RLI = (μ_L - L) / (μ_L + epsilon) on the correct, 0 elsewhere
    A = A_acc + length_coef p² RLI          μ_L: mean length of the correct
    loss = token_mean( ℓ_clip(A) + kl_coef k3 - c H )
    c' = clip(c exp(entropy_rate (entropy_target - mean H)),
              0, entropy_coef_max)               c starts at entropy_coef

  In the paper's run the answers grew to 1.333 times the length under GRPO and
  the score collapsed to 27.8, from 47.8. The paper does not explain it by RLI
  alone. Here as a documented failure to compare with, not as advice.

  Reconstructed: clip_eps_low, clip_eps_high, epsilon, kl_coef; length_coef, the
  λ of the paper; the controller, of which the paper has the word "dynamic":
  entropy_target, entropy_coef, entropy_rate, entropy_coef_max. The cause may
  lie there. A_acc is taken to be that of GRPO.
  Peers: none.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  pass_rate = advantages.group_pass_rate(batch.correct)
  scored = advantages.group_normalized(
      batch.rewards, epsilon=hparams["epsilon"]
  )
  brevity = length_shaping.relative_length(
      batch.lengths, batch.correct, epsilon=hparams["epsilon"]
  )
  adv = scored + hparams["length_coef"] * pass_rate**2 * brevity
  low, high = hparams["clip_eps_low"], hparams["clip_eps_high"]
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio, adv, clip_eps_low=low, clip_eps_high=high
  )
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  penalised = surrogate + hparams["kl_coef"] * divergence
  coef = state["entropy_coef"]
  entropy = aggregation.token_mean(batch.entropy, mask)
  loss = aggregation.token_mean(penalised, mask) - coef * entropy
  updated = controllers.proportional_entropy(
      coef,
      entropy,
      target=hparams["entropy_target"],
      rate=hparams["entropy_rate"],
      maximum=hparams["entropy_coef_max"],
  )
  state = {"entropy_coef": controllers.kept_if_empty(updated, coef, mask)}
  metrics = surrogates.clip_metrics(
      ratio, adv, mask, clip_eps_low=low, clip_eps_high=high
  )
  divergence = aggregation.token_mean(divergence, mask)
  metrics |= {"kl": divergence, "entropy": entropy, "entropy_coef": coef}
  return loss, state, metrics
