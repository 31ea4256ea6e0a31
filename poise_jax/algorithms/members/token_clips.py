"""Other ways to bound what a single token may do than the PPO clip."""

import jax.numpy as jnp

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    masks,
    ratios,
    surrogates,
)
from poise_jax.shapes import Array, Float

CISPO_HPARAMS = {"ratio_cap": 5.0, "epsilon": 1e-6}

SCALERL_HPARAMS = {"ratio_cap": 5.0, "epsilon": 1e-6}

SAPO_HPARAMS = {"tau_positive": 1.0, "tau_negative": 1.05, "epsilon": 1e-6}

ASPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "dual_clip": 3.0,
    "epsilon": 1e-6,
}

INTELLECT2_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "delta": 4.0,
    "epsilon": 1e-6,
}


def cispo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """CISPO: clip the importance weight, never the update of a token.

    A = (r - μ) / (σ + epsilon)
    loss = token_mean( -stop_gradient( min(π/π_old, ratio_cap) ) A log π )

  Gradient -min(π/π_old, ratio_cap) A on every token. There is no lower bound
  on the weight, as in the source. The value of the loss is not a measure of
  progress.

  Reconstructed: ratio_cap, for which the source gives no number: 5 is the value
  of ScaleRL; epsilon, and σ in the population form.
  Peers: TRL and Liger cap the ratio at `epsilon_high` itself, whose default
  of 0.2 is that of PPO; verl, NeMo and slime clip it to
  [1 - clip_ratio_low, 1 + clip_ratio_high]. Here ratio_cap is the largest
  ratio.
  Source: MiniMax-M1 (https://arxiv.org/abs/2506.13585).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.cispo(
      batch.logprobs, ratio, adv, mask, ratio_cap=hparams["ratio_cap"]
  )
  loss = aggregation.token_mean(surrogate, mask)
  metrics = {"advantages/mean_abs": jnp.mean(jnp.abs(adv))}
  return loss, state, metrics


def scalerl_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """ScaleRL, the loss part: CISPO, scaled by the batch, averaged by prompt.

    a = r - μ_group,   A = a / (std_kept(a) + epsilon)
    loss = token_mean_prompt(
        -stop_gradient( min(π/π_sampler, ratio_cap) ) A log π )

  Groups of equal rewards are left out of everything: of the deviation, of the
  mean over prompts. Every other prompt weighs the same. The ratio is to the
  policy that sampled, as its sampler reports it. Leaving out prompts that are
  nearly solved is up to the sampler.

  Published: ratio_cap.
  Reconstructed: that the ratio is to the sampler and not to π_old, that the
  deviation is of the kept completions alone, and epsilon.
  Peers: TRL's scale_rewards="batch" takes the deviation of the raw rewards,
  all groups included, instead of that of the centred ones.
  Source: The Art of Scaling Reinforcement Learning Compute for LLMs
  (https://arxiv.org/abs/2510.13786).
  """
  mask = batch.completion_mask
  keep = masks.nonzero_spread(batch.rewards)
  kept = masks.apply(mask, keep)
  centered = advantages.group_centered(batch.rewards)
  size = jnp.sum(keep * jnp.ones_like(centered))
  std = jnp.sqrt(jnp.sum(centered**2) / jnp.maximum(size, 1.0))
  adv = centered / (std + hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.sampler_logprobs, kept)
  surrogate = surrogates.cispo(
      batch.logprobs, ratio, adv, kept, ratio_cap=hparams["ratio_cap"]
  )
  loss = aggregation.token_mean_prompt(surrogate, kept)
  metrics = {"advantages/mean_abs": jnp.mean(jnp.abs(adv))}
  return loss, state, metrics


def sapo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """SAPO: a sigmoid of the ratio instead of a clip.

    A = (r - μ) / (σ + epsilon)
    loss = seq_mean( -A (4/τ) σ( τ (π/π_old - 1) ) )
    τ = tau_positive where A > 0, tau_negative elsewhere

  On policy the gradient is that of the plain ratio. Off policy it fades and
  never stops; that of bad tokens fades faster, for they lift all others.

  Published: tau_positive and tau_negative.
  Reconstructed: epsilon, and σ in the population form.
  Peers: TRL and verl, the same but for the sample deviation; TRL's mean
  counts completions without tokens.
  Source: Soft Adaptive Policy Optimization
  (https://arxiv.org/abs/2511.20347).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.soft_gate(
      ratio,
      adv,
      tau_positive=hparams["tau_positive"],
      tau_negative=hparams["tau_negative"],
  )
  loss = aggregation.seq_mean(surrogate, mask)
  metrics = {"advantages/mean_abs": jnp.mean(jnp.abs(adv))}
  return loss, state, metrics


def aspo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """ASPO: the ratio of good tokens turned over, and every weight bounded.

    A = (r - μ) / (σ + epsilon)
    loss = token_mean( ℓ_aspo(A) ), whose gradient in log π is
      A > 0:  -A min(π_old/π, dual_clip),  0 where π/π_old > 1 + clip_eps_high
      A < 0:  -A min(π/π_old, dual_clip),  0 where π/π_old < 1 - clip_eps_low

  A good token that has become rarer is pushed harder, where the plain ratio
  would let it go.

  Published: dual_clip; clip_eps_low and clip_eps_high, as 0.2 for one part of
  the tokens and 0.4 for the other, divided at the 0.8 quantile of entropy.
  Reconstructed: one clip for all tokens; epsilon. The KL term of the authors is
  left out.
  Peers: in none of TRL, verl and tunix; the authors' fork of verl has it.
  Source: ASPO (https://arxiv.org/abs/2510.06062).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.aspo(
      batch.logprobs,
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
      dual_clip=hparams["dual_clip"],
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


def intellect2_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """INTELLECT-2: a PPO clip that is bounded for bad tokens as well.

    A = (r - μ) / (σ + epsilon)
    loss = token_mean( -min( min(π/π_old, delta) A,
                             clip(π/π_old, 1 ± clip_eps) A ) )

  A bad token that became more than delta times as likely gets no gradient
  instead of a huge one. KL and entropy terms are left out.

  Published: delta, by this name, which is also TRL's.
  Reconstructed: clip_eps_low and clip_eps_high, those of PPO; epsilon, σ in the
  population form and the mean over tokens.
  Peers: TRL has it as `delta`, off by default. verl's dual clip of 3 is the
  same function with another bound.
  Source: INTELLECT-2 (https://arxiv.org/abs/2505.07291).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.two_sided(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
      delta=hparams["delta"],
  )
  loss = aggregation.token_mean(surrogate, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  metrics["clip_ratio/dual_mean"] = surrogates.clip_fraction_dual(
      ratio, adv, mask, bound=hparams["delta"]
  )
  return loss, state, metrics
