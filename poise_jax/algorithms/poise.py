"""Variants of GRPO that the POISE search discovered, as losses.

See "POISE" (https://arxiv.org/abs/2603.23951), appendix A.2, for the
equations of the advantages. The paper states hardly any constant: it gives
the clip of ±3, and every other value below is our reconstruction, as the
docstrings say. Its entropy and KL terms have coefficients that it does not
state; they are 0 here, which is how the reference figures were measured.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from poise_jax import types
from poise_jax.algorithms import advantages, aggregation, kl, ratios

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
    "sigma_min": 0.1,
    "format_penalty": 1.0,
}

VM_AV_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "alpha": 1.0,
    "beta": 1.0,
    "sigma_floor": 0.1,
    "invalid_advantage": -3.5,
    "length_low": 0.5,
    "length_high": 2.0,
    "advantage_clip": 3.0,
}


def bn_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """BN-GRPO: centre by the group, scale by the batch, clip.

    a = r - μ_group,  A = clip(a / (rms_batch(a) + epsilon), ±advantage_clip)
    loss = token_mean( ℓ_clip(A) + kl_coef k3 - entropy_coef H )

  Rare and common successes keep their proportion: one scale for all groups.
  A group of equal rewards gives no gradient.

  Our reconstruction: every constant but advantage_clip.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  adv = advantages.batch_normalized(
      batch.rewards,
      clip=hparams["advantage_clip"],
      epsilon=hparams["epsilon"],
  )
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = ratios.clipped_surrogate(
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
  metrics = {
      "advantages/mean_abs": jnp.mean(jnp.abs(adv)),
      "clip_ratio/low_mean": ratios.clip_fraction_low(
          ratio, adv, mask, clip_eps_low=hparams["clip_eps_low"]
      ),
      "clip_ratio/high_mean": ratios.clip_fraction_high(
          ratio, adv, mask, clip_eps_high=hparams["clip_eps_high"]
      ),
      "kl": aggregation.token_mean(divergence, mask),
  }
  return loss, state, metrics


def av_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """AV-GRPO: a floor under the group deviation, and a format penalty.

    r' = r - format_penalty (1 - valid)
    A = (r' - μ) / max(sqrt(E[r'²] - μ²), sigma_min)
    loss = token_mean( ℓ_clip(A) )

  The analytic deviation is the population one, so with format_penalty 0 this
  is GRPO wherever the floor is inactive; a group of equal r' gives no
  gradient. With the penalty, a group that mixes wrong and invalid answers
  rewards the wrong ones.

  Our reconstruction: sigma_min, format_penalty (the paper says "strict") and
  the clip. Left out: its "lower" entropy coefficient, which has no number.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  penalty = hparams["format_penalty"] * (1.0 - batch.format_valid)
  adv = advantages.analytic_variance(
      batch.rewards - penalty, sigma_min=hparams["sigma_min"]
  )
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = ratios.clipped_surrogate(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  loss = aggregation.token_mean(surrogate, mask)
  metrics = {
      "advantages/mean_abs": jnp.mean(jnp.abs(adv)),
      "clip_ratio/low_mean": ratios.clip_fraction_low(
          ratio, adv, mask, clip_eps_low=hparams["clip_eps_low"]
      ),
      "clip_ratio/high_mean": ratios.clip_fraction_high(
          ratio, adv, mask, clip_eps_high=hparams["clip_eps_high"]
      ),
  }
  return loss, state, metrics


def vm_av_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """VM-AV-GRPO: judge valid answers among themselves, invalid ones apart.

    μ = (Σ_V r + alpha) / (|V| + alpha + beta)          V: the valid ones
    A = (r - μ) / max(sqrt(μ (1 - μ)), sigma_floor)     on V
    A = A / clip(L / mean_V L, length_low, length_high) on V where A < 0
    A = clip(A, ±advantage_clip) on V, invalid_advantage elsewhere
    loss = token_mean( ℓ_clip(A) )

  Groups where all fail, or all succeed, keep a gradient. A group without a
  valid answer gets A = 0: the same push for everyone has no direction.

  Our reconstruction: every constant but the length bounds; and the clip on
  V, without which a short wrong answer could fall below an invalid one.
  Left out: the adaptive entropy controller, for which the paper has no
  formula and without which the reference figures were measured.
  Source: POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  mask = batch.completion_mask
  valid = batch.format_valid
  adv = advantages.beta_smoothed_valid(
      batch.rewards,
      valid,
      alpha=hparams["alpha"],
      beta=hparams["beta"],
      sigma_floor=hparams["sigma_floor"],
      invalid_advantage=hparams["invalid_advantage"],
  )
  tempered = advantages.relative_length_tempered(
      adv,
      batch.lengths,
      valid,
      low=hparams["length_low"],
      high=hparams["length_high"],
  )
  limit = hparams["advantage_clip"]
  adv = jnp.where(valid > 0, jnp.clip(tempered, -limit, limit), adv)
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = ratios.clipped_surrogate(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  loss = aggregation.token_mean(surrogate, mask)
  metrics = {
      "advantages/mean_abs": jnp.mean(jnp.abs(adv)),
      "clip_ratio/low_mean": ratios.clip_fraction_low(
          ratio, adv, mask, clip_eps_low=hparams["clip_eps_low"]
      ),
      "clip_ratio/high_mean": ratios.clip_fraction_high(
          ratio, adv, mask, clip_eps_high=hparams["clip_eps_high"]
      ),
  }
  return loss, state, metrics
