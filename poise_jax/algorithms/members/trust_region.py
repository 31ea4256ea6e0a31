"""Losses that choose which tokens may move, other than by their ratio."""

import jax.numpy as jnp

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    kl,
    ratios,
    surrogates,
    trust_regions,
)
from poise_jax.shapes import Array, Float

DPPO_TV_HPARAMS = {
    "threshold_low": 0.2,
    "threshold_high": 0.2,
    "ratio_cap": 20.0,
    "epsilon": 1e-6,
}

DPPO_KL_HPARAMS = {"threshold": 0.2, "ratio_cap": 20.0, "epsilon": 1e-6}

CLIP_COV_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "cov_low": 1.0,
    "cov_high": 5.0,
    "cov_fraction": 2e-4,
    "epsilon": 1e-6,
}

KL_COV_HPARAMS = {"kl_coef": 1.0, "cov_fraction": 2e-4, "epsilon": 1e-6}


def dppo_tv_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """DPPO, total variation: stop tokens that moved far in probability.

    A = (r - μ) / (σ + epsilon)
    M = 0 where A > 0 and π - π_old > threshold_high,
          or A <= 0 and π_old - π > threshold_low;   M = 1 elsewhere
    loss = token_mean( -stop_gradient( min(π/π_old, ratio_cap) ) A log π M )

  Unlike a clipped ratio it lets a rare token become many times as likely, and
  holds back a frequent one. Stopped tokens stay in the denominator. The value
  of the loss is not a measure of progress.

  Reconstructed: threshold_low and threshold_high, the clip range of verl;
  ratio_cap, the number in verl's function; epsilon.
  Peers: verl's dppo_tv is this, with its clip range as thresholds and
  old_log_prob as here. prime-rl measures from the sampler, adds a squared
  log-ratio and does not cap the ratio. verl's ratio cap is clip_ratio_c, 3
  unless set; the 20 in its function is never reached.
  Source: DPPO (https://arxiv.org/abs/2602.04879).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  keep = trust_regions.total_variation(
      batch.logprobs,
      batch.old_logprobs,
      adv,
      mask,
      threshold_low=hparams["threshold_low"],
      threshold_high=hparams["threshold_high"],
  )
  surrogate = surrogates.cispo(
      batch.logprobs, ratio, adv, mask, ratio_cap=hparams["ratio_cap"]
  )
  loss = aggregation.token_mean(surrogate * keep, mask)
  metrics = {
      "advantages/mean_abs": jnp.mean(jnp.abs(adv)),
      "clip_ratio/region_mean": aggregation.token_mean(1.0 - keep, mask),
  }
  return loss, state, metrics


def dppo_kl_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """DPPO, binary KL: stop tokens whose Bernoulli divergence is large.

    A = (r - μ) / (σ + epsilon)
    D = KL( Bernoulli(π_old) || Bernoulli(π) ) of the sampled token
    M = 0 where D > threshold and π has moved the way that A pushes it
    loss = token_mean( -stop_gradient( min(π/π_old, ratio_cap) ) A log π M )

  Stopped tokens stay in the denominator. The value of the loss is not a
  measure of progress.

  Reconstructed: threshold, the clip range of verl; ratio_cap, the number in
  verl's function; epsilon.
  Peers: verl's dppo_kl has one threshold for each sign of A, its clip range.
  Its ratio cap is 3 unless set, as in dppo_tv.
  Source: DPPO (https://arxiv.org/abs/2602.04879).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  keep = trust_regions.bernoulli_kl(
      batch.logprobs,
      batch.old_logprobs,
      adv,
      mask,
      threshold=hparams["threshold"],
  )
  surrogate = surrogates.cispo(
      batch.logprobs, ratio, adv, mask, ratio_cap=hparams["ratio_cap"]
  )
  loss = aggregation.token_mean(surrogate * keep, mask)
  metrics = {
      "advantages/mean_abs": jnp.mean(jnp.abs(adv)),
      "clip_ratio/region_mean": aggregation.token_mean(1.0 - keep, mask),
  }
  return loss, state, metrics


def clip_cov_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """Clip-Cov: hold back some tokens that cost entropy, in expectation.

    A = (r - μ) / (σ + epsilon)
    c = (A - mean A) (log π - mean log π)         means over all tokens
    E = tokens with cov_low < c < cov_high that the PPO clip leaves alone
    k = max(1, floor(cov_fraction n)),   w = 1 - min(1, k / |E|) on E, else 1
    loss = token_mean( w ℓ_clip(A) )

  The source drops k of the tokens in E, chosen at random. A loss here has no
  random numbers: each of them weighs as much as it does in the mean over all
  choices. Dropped tokens stay in the denominator.

  Published: cov_low, cov_high and cov_fraction, in the authors' code, which is
  now verl's.
  Reconstructed: the expectation in place of the choice; clip_eps_low,
  clip_eps_high and epsilon.
  Peers: verl draws the tokens in each micro-batch, from torch's global
  generator; k counts the tokens of the micro-batch.
  Source: The Entropy Mechanism of Reinforcement Learning for Reasoning
  Language Models (https://arxiv.org/abs/2505.22617).
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
  band = trust_regions.covariance_band(
      trust_regions.covariance(batch.logprobs, adv, mask),
      mask,
      low=hparams["cov_low"],
      high=hparams["cov_high"],
  )
  unclipped = surrogate <= -ratio * adv[..., None]
  eligible = jnp.where(unclipped, band, 0.0)
  quota = trust_regions.token_quota(mask, fraction=hparams["cov_fraction"])
  dropped = jnp.minimum(1.0, quota / jnp.maximum(jnp.sum(eligible), 1.0))
  weighted = surrogate * (1.0 - dropped * eligible)
  loss = aggregation.token_mean(weighted, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  return loss, state, metrics


def kl_cov_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """KL-Cov: a penalty on the few tokens that cost most entropy, no clip.

    A = (r - μ) / (σ + epsilon)
    c = (A - mean A) (log π - mean log π)         means over all tokens
    S = the k tokens of largest c,   k = max(1, floor(cov_fraction n))
    loss = token_mean( -(π/π_old) A + kl_coef |log π - log π_old| on S )

  On policy the penalty has no gradient, so it acts from the second update of
  a batch on. Tokens that tie for the last places share them.

  Published: kl_coef and cov_fraction, in the authors' code, which is now
  verl's.
  Reconstructed: epsilon, and σ in the population form.
  Peers: verl's kl_cov ranks the tokens of each micro-batch by themselves; its
  function documents a coefficient of 1, its configuration sets 0.1.
  Source: The Entropy Mechanism of Reinforcement Learning for Reasoning
  Language Models (https://arxiv.org/abs/2505.22617).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  selected = trust_regions.high_covariance(
      trust_regions.covariance(batch.logprobs, adv, mask),
      mask,
      fraction=hparams["cov_fraction"],
  )
  surrogate = -ratio * adv[..., None]
  distance = kl.absolute(batch.logprobs, batch.old_logprobs, mask)
  penalty = hparams["kl_coef"] * selected * distance
  loss = aggregation.token_mean(surrogate + penalty, mask)
  metrics = {"advantages/mean_abs": jnp.mean(jnp.abs(adv))}
  return loss, state, metrics
