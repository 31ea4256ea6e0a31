"""Losses whose ratio, clip or weight belongs to a whole completion."""

import jax.numpy as jnp

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    kl,
    ratios,
    sequence_losses,
    surrogates,
)
from poise_jax.shapes import Array, Float

GSPO_HPARAMS = {
    "clip_eps_low": 3e-4,
    "clip_eps_high": 4e-4,
    "epsilon": 1e-6,
}
GSPO_TOKEN_HPARAMS = {
    "clip_eps_low": 3e-4,
    "clip_eps_high": 4e-4,
    "epsilon": 1e-6,
}
GMPO_HPARAMS = {"clip_eps_low": 0.4, "clip_eps_high": 0.4, "epsilon": 1e-6}
LUSPO_HPARAMS = {
    "clip_eps_low": 2e-3,
    "clip_eps_high": 2.5e-3,
    "epsilon": 1e-6,
}
VESPO_HPARAMS = {
    "k_pos": 2.0,
    "lambda_pos": 3.0,
    "k_neg": 3.0,
    "lambda_neg": 2.0,
    "epsilon": 1e-6,
}
RLOO_TRL_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "kl_coef": 0.05,
}


def gspo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GSPO: one ratio for a completion, the geometric mean of its tokens'.

    A = (r - μ) / (σ + epsilon)
    s_i = exp( (1/L_i) Σ_t (log π - log π_old) )
    loss = (1/N) Σ_i ℓ_clip(s_i, A_i)

  Clips whole completions, and every completion weighs the same. The mean
  log-ratio moves far less than that of a token, hence the narrow clip; with
  one update per batch it never binds.

  Published: clip_eps_low and clip_eps_high.
  Reconstructed: epsilon, and σ in the population form.
  Peers: TRL has it as importance_sampling_level="sequence" with
  loss_type="grpo", and divides by the deviation with ddof 1 plus 1e-4; also
  SkyRL, slime, NeMo-RL and EasyDeL. "gspo" in verl and "gspo-token" in tunix
  are `gspo_token`. TRL's mean counts completions without tokens.
  Source: Group Sequence Policy Optimization
  (https://arxiv.org/abs/2507.18071).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.sequence_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  loss = aggregation.seq_mean(surrogate, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  return loss, state, metrics


def gspo_token_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GSPO-token: the ratio of the completion, a gradient for each token.

    A = (r - μ) / (σ + epsilon)
    s_{i,t} = stop_gradient(s_i) π(y_t) / stop_gradient(π(y_t))
    loss = seq_mean( ℓ_clip(s_{i,t}, A_i) )

  With one advantage for a completion, as here, value and gradient are those
  of `gspo`. It is the form to start from when tokens get advantages of their
  own.

  Published: clip_eps_low and clip_eps_high.
  Reconstructed: epsilon, and σ in the population form.
  Peers: "gspo" in verl and "gspo-token" in tunix, both with the log-ratio cut
  at 10 from above; experimental in TRL. Under a mean over tokens, instead of
  `seq_mean`, long completions would weigh more than in GSPO.
  Source: Group Sequence Policy Optimization
  (https://arxiv.org/abs/2507.18071).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.gspo_token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  loss = aggregation.seq_mean(surrogate, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  return loss, state, metrics


def gmpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GMPO: the geometric mean of token ratios, each clipped in log space.

    A = (r - μ) / (σ + epsilon),   x = log π - log π_old
    z = sgn(A) min( sgn(A) x, sgn(A) clip(x, -clip_eps_low, clip_eps_high) )
    loss = -(1/N) Σ_i A_i exp( (1/L_i) Σ_t z )

  An outlier token is clipped alone instead of its completion, so the range
  can be wide: exp(±.4) is .67 to 1.49.

  Published: clip_eps_low and clip_eps_high.
  Reconstructed: epsilon, and σ in the population form.
  Peers: "geo_mean" in verl and GMPOTrainer, experimental, in TRL; both
  average over all rows, those without any token included; ms-swift has
  something close.
  Source: Geometric-Mean Policy Optimization
  (https://arxiv.org/abs/2507.20673).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  values = sequence_losses.geometric_clipped(
      batch.logprobs,
      batch.old_logprobs,
      mask,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  loss = sequence_losses.completion_mean(values, mask)
  metrics = surrogates.clip_metrics(
      ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask),
      adv,
      mask,
      clip_eps_low=-jnp.expm1(-hparams["clip_eps_low"]),
      clip_eps_high=jnp.expm1(hparams["clip_eps_high"]),
  )
  return loss, state, metrics


def luspo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """LUSPO: GSPO with each completion weighted by its length.

    A = (r - μ) / (σ + epsilon),   s_i = exp( (1/L_i) Σ_t (log π - log π_old) )
    loss = (1/N) Σ_i L_i ℓ_clip(s_i, A_i)

  The length cancels the 1/L_i in the gradient of s_i, so every token weighs
  the same. The loss grows with the length of the completions: a learning
  rate tuned for `gspo` is too large here by about their mean length.

  Published: clip_eps_low and clip_eps_high.
  Reconstructed: epsilon, and σ in the population form.
  Peers: loss_type="luspo" in TRL and Liger, whose mean over rows counts rows
  without any token and whose default clip is .2; the values here are those of
  the paper.
  Source: Length-Unbiased Sequence Policy Optimization
  (https://arxiv.org/abs/2602.05261).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.sequence_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  # The same value at each token, so its sum over them is L_i times it.
  loss = aggregation.seq_sum_mean(surrogate, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  return loss, state, metrics


def vespo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """VESPO: a smooth weight on the whole ratio instead of a clip.

    A = (r - μ) / (σ + epsilon),   W_i = Π_t π(y_t) / π_sampler(y_t)
    φ_i = W_i^k exp(λ (1 - W_i)),   (k, λ) by the sign of A
    loss = token_mean( -stop_gradient(φ_i) A_i log π )

  φ(1) = 1, so on-policy this is REINFORCE. The ratio is to the policy that
  drew the tokens: staleness and sampler mismatch are one. With the defaults a
  bad completion fades fast once the policy has left it (k_neg > k_pos), a
  good one once the policy has overtaken it (lambda_pos > lambda_neg).

  Reconstructed: k_pos, lambda_pos, k_neg and lambda_neg, which are TRL's;
  epsilon, and σ at all, and the mean over tokens, as in TRL. The paper writes A
  = r - μ and the log-probability of the whole completion, a sum.
  Peers: loss_type="vespo" in TRL and Liger. Their W is π / π_old times the
  sampler-mismatch weights when these are in use, which may be truncated, and
  log W is cut at -18.4 and 20; here at ±20. φ is below 1e-14 either way.
  Source: VESPO (https://arxiv.org/abs/2602.10693).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  values = sequence_losses.vespo(
      batch.logprobs,
      batch.sampler_logprobs,
      mask,
      adv,
      k_pos=hparams["k_pos"],
      lambda_pos=hparams["lambda_pos"],
      k_neg=hparams["k_neg"],
      lambda_neg=hparams["lambda_neg"],
  )
  loss = aggregation.token_mean(values, mask)
  metrics = {"advantages/mean_abs": jnp.mean(jnp.abs(adv))}
  return loss, state, metrics


def rloo_trl_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """RLOO on whole completions, with the KL penalty inside the reward.

    r'_i = r_i - kl_coef Σ_t (log π_old - log π_ref)
    A_i = r'_i - mean_{j≠i} r'_j,   R_i = Π_t π(y_t) / π_old(y_t)
    loss = (1/N) Σ_i ℓ_clip(R_i, A_i)

  Detached in the reward, the plain log-ratio has, on-policy and on average,
  the exact gradient of KL(π || π_ref). The product R_i leaves the clip range
  after a small drift of each token: with long completions nearly all are
  clipped in a second update. `rloo` is the form with token ratios and no KL.

  Reconstructed: clip_eps_low, clip_eps_high and kl_coef, which are TRL's, as is
  the clipped ratio.
  Peers: TRL RLOOTrainer at its defaults (beta .05, no normalisation of
  advantages, no clip of rewards); it does not clamp the log of R, and its
  mean counts completions without tokens. verl, tunix and SkyRL have the
  advantage alone, under a ratio and clip of tokens.
  Source: Back to Basics (https://arxiv.org/abs/2402.14740).
  """
  mask = batch.completion_mask
  divergence = kl.k1(batch.old_logprobs, batch.ref_logprobs, mask)
  penalty = hparams["kl_coef"] * jnp.sum(divergence, axis=2)
  adv = advantages.leave_one_out(advantages.penalized(batch.rewards, penalty))
  ratio = ratios.sequence_product_ratio(
      batch.logprobs, batch.old_logprobs, mask
  )
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  loss = aggregation.seq_mean(surrogate, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  metrics["kl"] = aggregation.token_mean(divergence, mask)
  return loss, state, metrics
