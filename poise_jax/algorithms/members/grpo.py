"""GRPO as published, as the trainers default to, and its nearest variants.

The defaults of trainers were read in their source: TRL at f2cd57710 (July
2026), verl at 1dda039b9 and tunix at c7d8950f (both August 2026).
"""

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    kl,
    ratios,
    surrogates,
)
from poise_jax.shapes import Array, Float

GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "kl_coef": 0.0,
}
DR_GRPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "length_constant": 31.0,
}
DAPO_HPARAMS = {"clip_eps_low": 0.2, "clip_eps_high": 0.28, "epsilon": 1e-6}
GRPO_FORMAT_PENALTY_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "format_penalty": 1.0,
}
GRPO_DEEPSEEK_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "kl_coef": 0.04,
}
GRPO_TRL_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "ddof": 1.0,
    "epsilon": 1e-4,
    "kl_coef": 0.0,
}
GRPO_VERL_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "dual_clip": 3.0,
    "ddof": 1.0,
    "epsilon": 1e-6,
}
GRPO_TUNIX_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "ddof": 1.0,
    "epsilon": 1e-6,
    "kl_coef": 0.04,
}


def grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GRPO: normalise by the group, clip the ratio, stay near the reference.

    A = (r - μ) / (σ + epsilon)                  μ, σ over the group
    loss = token_mean( ℓ_clip(A) + kl_coef k3 )

  The baseline here, not the setting of DeepSeekMath: there the mean over
  tokens is taken in each completion first, here every token weighs the same,
  as trainers default to. σ is the population deviation. A group of equal
  rewards gives no gradient.

  Published: kl_coef, as 0.04; here it is 0, as trainers default to.
  Reconstructed: clip_eps_low, clip_eps_high and epsilon, for which the paper
  has no numbers; σ in the population form, as in POISE; the mean over all
  tokens. What the paper has is grpo_deepseek.
  Peers: everywhere. TRL, verl and tunix divide by the sample deviation; their
  defaults are grpo_trl, grpo_verl and grpo_tunix. maxtext and EasyDeL divide
  by the population deviation, Simply too, floored at 1e-5.
  Source: DeepSeekMath (https://arxiv.org/abs/2402.03300).
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
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  loss = aggregation.token_mean(
      surrogate + hparams["kl_coef"] * divergence, mask
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


def dr_grpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """Dr. GRPO: no division by the deviation, none by the length.

    A = r - μ,   loss = Σ m ℓ_clip(A) / (N length_constant)

  No completion, and no group, weighs more for being short or uneven.

  Reconstructed: clip_eps_low and clip_eps_high, those of PPO; length_constant,
  where 31 is the completion budget of the embedded task: set it to the budget
  of yours.
  Peers: TRL with loss_type "dr_grpo" and scale_rewards "none". verl and tunix
  divide by the padded width of the batch at hand unless told a constant.
  TRL's N counts completions without tokens.
  Source: Understanding R1-Zero-Like Training
  (https://arxiv.org/abs/2503.20783).
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
  loss = aggregation.constant_norm(
      surrogate, mask, length_constant=hparams["length_constant"]
  )
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  return loss, state, metrics


def dapo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """DAPO, the loss part: a wider upper clip, every token weighs the same.

    A = (r - μ) / (σ + epsilon),   loss = token_mean( ℓ_clip(A) )

  The wider upper clip leaves rare good tokens room to grow. Dynamic sampling
  and overlong penalties belong to the sampler and the reward.

  Published: clip_eps_low and clip_eps_high.
  Reconstructed: epsilon, and σ in the population form.
  Peers: TRL has the aggregation as its default, with a clip of 0.2 on both
  sides; verl has all of it, with the sampling in a recipe; tunix the
  aggregation. The paper prints a mean over the tokens of each prompt; these
  three, and this one, take it over the batch.
  Source: DAPO (https://arxiv.org/abs/2503.14476).
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
  loss = aggregation.token_mean(surrogate, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  return loss, state, metrics


def grpo_format_penalty_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GRPO on a reward that is lowered where no answer could be parsed.

    r' = r - format_penalty (1 - valid)
    A = (r' - μ') / (σ' + epsilon),   loss = token_mean( ℓ_clip(A) )

  A group that mixes wrong and invalid answers rewards the wrong ones.

  Reconstructed: clip_eps_low, clip_eps_high, epsilon and format_penalty.
  Peers: TRL, verl and tunix leave the penalty to the reward functions.
  Source: the common baseline with a format reward; the size of the penalty
  is our choice.
  """
  mask = batch.completion_mask
  penalty = hparams["format_penalty"] * (1.0 - batch.format_valid)
  rewards = advantages.penalized(batch.rewards, penalty)
  adv = advantages.group_normalized(rewards, epsilon=hparams["epsilon"])
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


def grpo_deepseek_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GRPO as first published: the mean of each completion, k3 in the loss.

    A = (r - μ) / (σ + epsilon)                  μ, σ over the group
    loss = seq_mean( ℓ_clip(A) + kl_coef k3 )

  A token of a long completion weighs less than one of a short completion.

  Published: kl_coef.
  Reconstructed: clip_eps_low, clip_eps_high and epsilon, for which the paper
  has no numbers, and σ in the population form.
  Peers: TRL with loss_type "grpo", beta > 0 and use_bias_correction_kl=False
  (its default multiplies k3 by the ratio), and a mean that counts completions
  without tokens; verl with seq-mean-token-mean and low_var_kl (k3, its value
  clamped to ±10), tunix with another KL: all with the sample deviation.
  Source: DeepSeekMath (https://arxiv.org/abs/2402.03300).
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
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  loss = aggregation.seq_mean(surrogate + hparams["kl_coef"] * divergence, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  metrics["kl"] = aggregation.token_mean(divergence, mask)
  return loss, state, metrics


def grpo_trl_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GRPO with the defaults of TRL: every token weighs the same, no KL.

    A = (r - μ) / (σ + epsilon)                  σ with ddof
    loss = token_mean( ℓ_clip(A) + kl_coef k3 )

  ddof 1 is the sample deviation: |A| is sqrt(7/8) of that of `grpo` in a group
  of eight. kl_coef, its beta, is 0.

  Published: clip_eps_low, clip_eps_high, ddof, epsilon and kl_coef, in its
  source.
  Peers: TRL, where the denominator of the mean covers the batch that was
  generated together, and a correction for the sampler is multiplied in when
  vLLM generates. With beta > 0, TRL 1.16 multiplies k3 by the ratio
  (`use_bias_correction_kl`, on by default); k3 alone, as here, is False.
  Source: TRL, GRPOTrainer (https://github.com/huggingface/trl).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(
      batch.rewards, ddof=hparams["ddof"], epsilon=hparams["epsilon"]
  )
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
  loss = aggregation.token_mean(
      surrogate + hparams["kl_coef"] * divergence, mask
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


def grpo_verl_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GRPO with the defaults of verl: a second clip for bad tokens, no KL.

    A = (r - μ) / (σ + epsilon)                  σ with ddof
    ℓ' = min(ℓ_clip(A), -dual_clip A) where A < 0,   ℓ' = ℓ_clip(A) elsewhere
    loss = token_mean( ℓ' )

  The second clip matters only where a token became dual_clip times likelier.

  Published: clip_eps_low, clip_eps_high, dual_clip, ddof and epsilon, in its
  source.
  Peers: verl, which gives a group of one its raw reward as advantage, and
  whose token mean is over a mini-batch, however that is split into
  micro-batches (version 0.9.1). With use_kl_loss it adds 0.001 k3.
  Source: verl (https://github.com/verl-project/verl).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(
      batch.rewards, ddof=hparams["ddof"], epsilon=hparams["epsilon"]
  )
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.dual_clipped(
      ratio,
      adv,
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
  metrics["clip_ratio/dual_mean"] = surrogates.clip_fraction_dual(
      ratio, adv, mask, bound=hparams["dual_clip"]
  )
  return loss, state, metrics


def grpo_tunix_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GRPO with the defaults of tunix: the mean of each completion, k1 as loss.

    A = (r - μ) / (σ + epsilon)                  σ with ddof
    loss = seq_mean( ℓ_clip(A) + kl_coef k1 )

  k1 = log π - log π_ref in the loss does **not** keep π near π_ref: its
  gradient is that of log π whatever π_ref is, and on-policy E[∇ log π] = 0.
  The term moves the value of the loss and adds noise.

  Published: clip_eps_low, clip_eps_high, ddof, epsilon and kl_coef, in its
  source.
  Peers: tunix with its default kl_loss_mode "kl". TRL puts k3 times the ratio
  there, verl k3, both off by default.
  Source: tunix (https://github.com/google/tunix).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(
      batch.rewards, ddof=hparams["ddof"], epsilon=hparams["epsilon"]
  )
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  divergence = kl.k1(batch.logprobs, batch.ref_logprobs, mask)
  loss = aggregation.seq_mean(surrogate + hparams["kl_coef"] * divergence, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  metrics["kl"] = aggregation.token_mean(divergence, mask)
  return loss, state, metrics
