"""What POISE discovered about the scale of advantages, as losses.

See "POISE" (https://arxiv.org/abs/2603.23951), appendix A.2, for the
equations of the advantages. The paper states hardly any constant: it gives
the clip of ±3, and every other value below is our reconstruction, as the
docstrings say. Its entropy and KL terms have coefficients that it does not
state; they are 0 here, which is how the reference figures were measured, and
not 0 only in the entry that exists for its entropy controller.
"""

import jax.numpy as jnp

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    controllers,
    kl,
    length_shaping,
    masks,
    ratios,
    regimes,
    surrogates,
)
from poise_jax.shapes import Array, Float

BN_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "advantage_clip": 3.0,
    "epsilon": 1e-6,
    "kl_coef": 0.0,
    "entropy_coef": 0.0,
}

AV_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "sigma_floor": 0.1,
    "format_penalty": 1.0,
}

VM_AV_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "prior_successes": 1.0,
    "prior_failures": 1.0,
    "sigma_floor": 0.1,
    "invalid_advantage": -3.5,
    "length_low": 0.5,
    "length_high": 2.0,
    "advantage_clip": 3.0,
}

VM_AV_GRPO_ENTROPY_HPARAMS = VM_AV_GRPO_HPARAMS | {
    "entropy_coef": 0.001,
    "entropy_target": 0.3,
    "entropy_rate": 0.05,
    "entropy_coef_max": 0.1,
}

MSA_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "format_penalty": 1.0,
    "alpha_uniform": 0.5,
    "length_power": 0.25,
    "kl_coef": 0.0,
}

SA_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "anchor_mix": 0.5,
    "sigma_fixed": 0.5,
    "kl_coef": 0.0,
    "entropy_coef": 0.0,
}


def bn_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """BN-GRPO: centre by the group, scale by the batch, clip.

    a = r - μ_group,  A = clip(a / (rms_batch(a) + epsilon), ±advantage_clip)
    loss = token_mean( ℓ_clip(A) + kl_coef k3 - entropy_coef H )

  Rare and common successes keep their proportion: one scale for all groups.
  A group of equal rewards gives no gradient.

  Published: advantage_clip.
  Reconstructed: clip_eps_low, clip_eps_high, epsilon, kl_coef and entropy_coef.
  Peers: none; REINFORCE++-baseline (verl, OpenRLHF) whitens the same centred
  rewards with every token weighing the same, and TRL's scale_rewards="batch"
  divides by the deviation of the raw rewards; neither clips.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  adv = advantages.batch_normalized(
      batch.rewards,
      clip=hparams["advantage_clip"],
      epsilon=hparams["epsilon"],
  )
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  loss = (
      aggregation.token_mean(surrogate, mask)
      + hparams["kl_coef"] * aggregation.token_mean(divergence, mask)
      - hparams["entropy_coef"] * aggregation.token_mean(batch.entropy, mask)
  )
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  metrics["kl"] = aggregation.token_mean(divergence, mask)
  return loss, state, metrics


def av_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """AV-GRPO: a floor under the group deviation, and a format penalty.

    r' = r - format_penalty (1 - valid)
    A = (r' - μ) / max(sqrt(E[r'²] - μ²), sigma_floor)
    loss = token_mean( ℓ_clip(A) )

  The analytic deviation is the population one, so with format_penalty 0 this
  is GRPO wherever the floor is inactive; a group of equal r' gives no
  gradient. With the penalty, a group that mixes wrong and invalid answers
  rewards the wrong ones.

  Reconstructed: sigma_floor, format_penalty (the paper says "strict"),
  clip_eps_low and clip_eps_high. Left out: its "lower" entropy coefficient,
  which has no number.
  Peers: none; Simply has the same scale, max(σ, 1e-5), without the penalty.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  penalty = hparams["format_penalty"] * (1.0 - batch.format_valid)
  rewards = advantages.penalized(batch.rewards, penalty)
  adv = advantages.analytic_variance(rewards, sigma_min=hparams["sigma_floor"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  loss = aggregation.token_mean(surrogate, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  return loss, state, metrics


def vm_av_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """VM-AV-GRPO: judge valid answers among themselves, invalid ones apart.

    μ = (Σ_V r + prior_successes) / (|V| + prior_successes + prior_failures)
    A = (r - μ) / max(sqrt(μ (1 - μ)), sigma_floor)     on V
    A = A / clip(L / mean_V L, length_low, length_high) on V where A < 0
    A = clip(A, ±advantage_clip) on V, invalid_advantage elsewhere
    loss = token_mean( ℓ_clip(A) )

  V: the valid ones. Groups where all fail, or all succeed, keep a gradient. A
  group without valid answers gets A = 0: a push for everyone has no direction.

  Published: length_low and length_high.
  Reconstructed: clip_eps_low, clip_eps_high, prior_successes, prior_failures,
  sigma_floor, invalid_advantage; and advantage_clip, a clip on V without which
  a short wrong answer could fall below an invalid one. Left out: the adaptive
  entropy controller, for which the paper has no formula and without which the
  reference figures were measured; it is in vm_av_grpo_entropy.
  Peers: none.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  valid = batch.format_valid
  adv = regimes.beta_smoothed_valid(
      batch.rewards,
      valid,
      alpha=hparams["prior_successes"],
      beta=hparams["prior_failures"],
      sigma_floor=hparams["sigma_floor"],
      invalid_advantage=hparams["invalid_advantage"],
  )
  tempered = length_shaping.tempered_failures(
      adv,
      batch.lengths,
      valid,
      low=hparams["length_low"],
      high=hparams["length_high"],
  )
  limit = hparams["advantage_clip"]
  adv = jnp.where(valid > 0, jnp.clip(tempered, -limit, limit), adv)
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  loss = aggregation.token_mean(surrogate, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  return loss, state, metrics


def vm_av_grpo_entropy_init(hparams: types.HParams) -> types.State:
  """Starts the weight of the entropy bonus at entropy_coef."""
  return {"entropy_coef": jnp.asarray(hparams["entropy_coef"], jnp.float32)}


def vm_av_grpo_entropy_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """VM-AV-GRPO with its entropy controller: the whole bundle of the paper.

    A as in vm_av_grpo
    loss = token_mean( ℓ_clip(A) - c H )
    c' = clip(c exp(entropy_rate (entropy_target - mean H)),
              0, entropy_coef_max)               c starts at entropy_coef

  The smoothed baseline rewards what is already likely: the advantages of a
  group sum to more than 0 where most succeed, which narrows the policy. The
  controller pushes back while the entropy is below its target.

  Published: length_low and length_high.
  Reconstructed: clip_eps_low, clip_eps_high, prior_successes, prior_failures,
  sigma_floor, invalid_advantage and advantage_clip, as in vm_av_grpo; and the
  controller, which the paper names as part of the algorithm without a formula
  or a number: entropy_coef, entropy_target, entropy_rate, entropy_coef_max.
  Peers: none; TRL has an adaptive entropy coefficient that moves by a fixed
  step, with a bonus that is off above the target.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2 and A.3.
  """
  mask = batch.completion_mask
  valid = batch.format_valid
  adv = regimes.beta_smoothed_valid(
      batch.rewards,
      valid,
      alpha=hparams["prior_successes"],
      beta=hparams["prior_failures"],
      sigma_floor=hparams["sigma_floor"],
      invalid_advantage=hparams["invalid_advantage"],
  )
  tempered = length_shaping.tempered_failures(
      adv,
      batch.lengths,
      valid,
      low=hparams["length_low"],
      high=hparams["length_high"],
  )
  limit = hparams["advantage_clip"]
  adv = jnp.where(valid > 0, jnp.clip(tempered, -limit, limit), adv)
  low, high = hparams["clip_eps_low"], hparams["clip_eps_high"]
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio, adv, clip_eps_low=low, clip_eps_high=high
  )
  coef = state["entropy_coef"]
  entropy = aggregation.token_mean(batch.entropy, mask)
  loss = aggregation.token_mean(surrogate, mask) - coef * entropy
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
  metrics |= {"entropy": entropy, "entropy_coef": coef}
  return loss, state, metrics


def msa_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """MSA-GRPO: the scale of correctness where there is one, and of length.

    r' = r - format_penalty (1 - valid)
    σ = σ(correct) if > epsilon, else σ(r')                  of the group
    A = (r' - μ') / max(σ, epsilon),  times alpha_uniform in uniform groups
    A = A (L / mean L)^length_power   where A > 0
    A = A (L / mean L)^-length_power  where A < 0
    loss = token_mean( ℓ_clip(A) + kl_coef k3 )

  Uniform: all correct or all wrong; there only the format is left to learn
  from. length_power > 0 favours long completions, < 0 short ones; the paper
  does not say which. A group of equal r' gives no gradient, whatever the
  lengths. With the penalty, a group that mixes wrong and invalid answers may
  reward the wrong ones.

  Reconstructed: clip_eps_low, clip_eps_high, epsilon, alpha_uniform, kl_coef;
  length_power and its sign; format_penalty (taken over from AV-GRPO: without a
  second stream uniform groups have no spread); that σ_outcome is of correctness
  and σ_total of the reward.
  Peers: none.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  penalty = hparams["format_penalty"] * (1.0 - batch.format_valid)
  rewards = advantages.penalized(batch.rewards, penalty)
  sigma = regimes.anchored_std(
      batch.correct, rewards, epsilon=hparams["epsilon"]
  )
  mixed = masks.mixed_groups(batch.correct)
  scale = jnp.where(mixed > 0, 1.0, hparams["alpha_uniform"])
  raw = advantages.group_centered(rewards)
  adv = length_shaping.length_power(
      scale * raw / jnp.maximum(sigma, hparams["epsilon"]),
      batch.lengths,
      power=hparams["length_power"],
  )
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


def sa_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """SA-GRPO: an anchor between the group and the batch, a fixed scale.

    anchor = anchor_mix μ_group + (1 - anchor_mix) μ_batch
    A = (r - anchor) / sigma_fixed
    loss = token_mean( ℓ_clip(A) + kl_coef k3 - entropy_coef H )

  Groups where all fail, or all succeed, keep a gradient: towards prompts that
  go better than the batch, not towards better answers. The paper calls it a
  regression: its run ended at 34.5, where GRPO had 47.8. anchor_mix 1
  with sigma_fixed 1 has the advantages of Dr. GRPO.

  Reconstructed: clip_eps_low, clip_eps_high, anchor_mix, which is the α of the
  paper, sigma_fixed, kl_coef and entropy_coef.
  Peers: none.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  own = advantages.group_centered(batch.rewards)
  shared = advantages.batch_centered(batch.rewards)
  mix = hparams["anchor_mix"]
  adv = (mix * own + (1.0 - mix) * shared) / hparams["sigma_fixed"]
  low, high = hparams["clip_eps_low"], hparams["clip_eps_high"]
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio, adv, clip_eps_low=low, clip_eps_high=high
  )
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  divergence = aggregation.token_mean(divergence, mask)
  entropy = aggregation.token_mean(batch.entropy, mask)
  loss = (
      aggregation.token_mean(surrogate, mask)
      + hparams["kl_coef"] * divergence
      - hparams["entropy_coef"] * entropy
  )
  metrics = surrogates.clip_metrics(
      ratio, adv, mask, clip_eps_low=low, clip_eps_high=high
  )
  metrics |= {"kl": divergence, "entropy": entropy}
  return loss, state, metrics
