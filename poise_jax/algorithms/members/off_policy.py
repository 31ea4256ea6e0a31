"""Variants of GRPO that leave out, or weigh down, what should not be learnt.

Tokens that the trained policy would hardly have drawn, tokens at which there
was nothing to decide, and completions that the length limit cut off.
"""

import jax.numpy as jnp

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    corrections,
    kl,
    masks,
    ratios,
    surrogates,
)
from poise_jax.shapes import Array, Float

GRPO_TIS_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "sampler_cap": 2.0,
}
GRPO_MIS_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "sampler_cap": 3.0,
}
ICEPOP_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "sampler_low": 0.5,
    "sampler_high": 5.0,
}
DEEPSEEK_V32_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "off_policy_threshold": 0.5,
    "kl_coef": 0.001,
}
HIGH_ENTROPY_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.28,
    "epsilon": 1e-6,
    "entropy_fraction": 0.2,
}
OVERLONG_FILTERED_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
}


def grpo_tis_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GRPO with truncated importance weights for the sampler (TIS).

    A = (r - μ) / (σ + epsilon)                  μ, σ over the group
    w = π_old / π_sampler                        of each token
    loss = token_mean( min(w, sampler_cap) ℓ_clip(A) )

  The weights are constants. Where the sampler reports the log-probabilities
  of the trainer this is GRPO.

  Reconstructed: sampler_cap, tunix's; clip_eps_low, clip_eps_high, epsilon and
  aggregation, which are those of GRPO here.
  Peers: tunix (`sampler_is="token"`, cap 2, off by default), verl
  (`rollout_is=token`), TRL (`token_truncate`), slime and OpenRLHF have the
  same weight.
  Source: Your Efficient RL Framework Secretly Brings You Off-Policy RL Training
  (https://fengyao.notion.site/off-policy-rl).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  weight = corrections.truncated_token(
      batch.old_logprobs,
      batch.sampler_logprobs,
      mask,
      cap=hparams["sampler_cap"],
  )
  loss = aggregation.token_mean(weight * surrogate, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  metrics["sampling/importance_sampling_ratio/mean"] = aggregation.token_mean(
      weight, mask
  )
  return loss, state, metrics


def grpo_mis_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GRPO that drops completions too unlike the sampler, and weighs the others.

    A = (r - μ) / (σ + epsilon)                  μ, σ over the group
    W = Π_t π_old / π_sampler                    of each completion
    loss = token_mean( [W <= sampler_cap] W ℓ_clip(A) )

  W multiplies every token of its completion and is a constant. The tokens of
  dropped completions stay in the denominator. W has only an upper bound, and
  drifts from 1 exponentially with the length.

  Reconstructed: sampler_cap, TRL's; clip_eps_low, clip_eps_high, epsilon and
  aggregation, which are those of GRPO here.
  Peers: the default of TRL with vLLM (`sequence_mask`, 3.0), which normalises
  the rewards with the sample deviation and 1e-4. OpenRLHF's and NeMo's
  "seq-mask-tis" filter by the geometric mean and weigh each token.
  Source: Defeating the Training-Inference Mismatch via FP16
  (https://arxiv.org/abs/2510.26788), its sequence-level MIS.
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  weight = corrections.sequence_mask(
      batch.old_logprobs,
      batch.sampler_logprobs,
      mask,
      cap=hparams["sampler_cap"],
  )
  loss = aggregation.token_mean(weight * surrogate, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  metrics["sampling/importance_sampling_ratio/mean"] = aggregation.token_mean(
      weight, mask
  )
  return loss, state, metrics


def icepop_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """IcePop: drop tokens too unlike the sampler on either side.

    A = (r - μ) / (σ + epsilon)                  μ, σ over the group
    w = π_old / π_sampler                        of each token
    loss = token_mean( [sampler_low <= w <= sampler_high] w ℓ_clip(A) )

  The weights are constants; dropped tokens stay in the denominator. Published
  with the mean over tokens taken in each completion first, and a KL penalty,
  which is left out; every token weighs the same here, so that the variants of
  this family differ in their weight alone.

  Published: sampler_low and sampler_high.
  Reconstructed: clip_eps_low, clip_eps_high, epsilon and aggregation, which are
  those of GRPO here.
  Peers: TRL (`token_mask`, with only an upper bound by default), verl
  (`rollout_is=token` with `rollout_is_threshold="0.5_5.0"`; its `rollout_rs`
  on tokens bounds the reciprocal of w, does not weigh, and takes the dropped
  tokens out of the denominator) and NeMo ("icepop").
  Source: Every Step Evolves (https://arxiv.org/abs/2510.18855).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  weight = corrections.icepop(
      batch.old_logprobs,
      batch.sampler_logprobs,
      mask,
      low=hparams["sampler_low"],
      high=hparams["sampler_high"],
  )
  loss = aggregation.token_mean(weight * surrogate, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  metrics["sampling/importance_sampling_ratio/mean"] = aggregation.token_mean(
      weight, mask
  )
  return loss, state, metrics


def deepseek_v32_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """DeepSeek-V3.2: ignore stale bad completions, with a KL that is unbiased.

    A = r - μ                                    μ over the group
    M = 0 if A < 0 and mean_t(log π_sampler - log π) > off_policy_threshold
    M = 1 otherwise                              of each completion
    loss = seq_mean( M ℓ_clip(A) + kl_coef ratio k3 )

  M stops only the policy term: a completion that is ignored still feels the
  KL penalty and counts in the mean. The gradient of the penalty flows through
  the ratio, which makes it that of KL(π || π_ref). The paper keeps the routing
  of experts and the sampling mask as well, which is up to the model and the
  sampler.

  Reconstructed: clip_eps_low, clip_eps_high, kl_coef and off_policy_threshold,
  none of which is published; 0.5 is where TRL suggests to start. The ratio is
  taken to π_old of the trainer.
  Peers: TRL (`off_policy_mask_threshold`, `use_bias_correction_kl`), slime.
  ms-swift also takes the ignored completions out of the denominator and the
  KL penalty.
  Source: DeepSeek-V3.2 (https://arxiv.org/abs/2512.02556).
  """
  mask = batch.completion_mask
  adv = advantages.group_centered(batch.rewards)
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  keep = masks.off_policy_negatives(
      adv,
      batch.logprobs,
      batch.sampler_logprobs,
      mask,
      threshold=hparams["off_policy_threshold"],
  )
  divergence = kl.unbiased_k3(
      batch.logprobs, batch.old_logprobs, batch.ref_logprobs, mask
  )
  loss = aggregation.seq_mean(
      keep[..., None] * surrogate + hparams["kl_coef"] * divergence, mask
  )
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  metrics["kl"] = aggregation.token_mean(divergence, mask)
  metrics["off_policy_mask/kept"] = jnp.mean(keep)
  return loss, state, metrics


def high_entropy_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GRPO on the tokens at which the policy was least sure (80/20).

    A = (r - μ) / (σ + epsilon)                  μ, σ over the group
    m = [H_t among the entropy_fraction n highest of the n tokens of the batch]
    loss = Σ m ℓ_clip(A) / Σ m

  Most tokens of a derivation follow from those before; the few at which it
  forks get all of the gradient. H is that of the current policy, a constant.
  Tokens that tie with the last one kept are kept. Numerator and denominator
  leave out the same tokens; the paper divides by n, which makes its loss, and
  its step without an adaptive optimizer, entropy_fraction times this one.

  Published: entropy_fraction; clip_eps_low and clip_eps_high, those of DAPO.
  Reconstructed: epsilon, and the denominator.
  Peers: TRL (`top_entropy_quantile`, 0.2 in the paper, off by default) divides
  by n, and interpolates its threshold.
  Source: Beyond the 80/20 Rule (https://arxiv.org/abs/2506.01939).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  kept = masks.high_entropy(
      batch.entropy, mask, fraction=hparams["entropy_fraction"]
  )
  loss = aggregation.token_mean(surrogate, kept)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      kept,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  return loss, state, metrics


def overlong_filtered_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GRPO that learns nothing from completions cut off by the length limit.

    A = (r - μ) / (σ + epsilon)                  μ, σ over the whole group
    m = completion_mask (1 - truncated)
    loss = Σ m ℓ_clip(A) / Σ m

  The reward of what was cut off says little about its tokens, but it stays
  in the baseline. Numerator and denominator leave out the same tokens. If
  everything was cut off the loss is 0.

  Reconstructed: clip_eps_low, clip_eps_high and epsilon, which are those of
  GRPO here, and that the baseline keeps what was cut off.
  Peers: TRL (`mask_truncated_completions`) and NeMo keep them in the baseline
  too; TRL left them in the denominator for long (#6369). Simply drops them
  from both.
  Source: DAPO (https://arxiv.org/abs/2503.14476), its overlong filtering.
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  kept = masks.apply(mask, masks.untruncated(batch.truncated))
  loss = aggregation.token_mean(surrogate, kept)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      kept,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  return loss, state, metrics
