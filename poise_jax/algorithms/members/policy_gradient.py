"""Policy gradients without a ratio: -A log π, for one update a batch.

The gradient is right only while π is the policy that sampled the batch: with
several updates on one batch nothing corrects for the distance, and nothing
bounds it.
"""

import jax.numpy as jnp

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    kl,
    surrogates,
)
from poise_jax.shapes import Array, Float

REINFORCE_BASELINE_HPARAMS = {}
RLOO_SEQUENCE_HPARAMS = {"kl_coef": 0.05}
OPO_HPARAMS = {}
GPG_HPARAMS = {}


def reinforce_baseline_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """REINFORCE against the mean reward of the batch.

    A = r - mean_batch r,   loss = token_mean( -A log π )

  No baseline of the group: a prompt that is always solved is always
  encouraged, and one that never is, always discouraged.

  Reconstructed: the mean over tokens, and over the batch for the baseline.
  Peers: verl and OpenRLHF, whose ReMax has the reward of a greedy completion
  as baseline; TRL and tunix have none.
  Source: Simple Statistical Gradient-Following Algorithms for Connectionist
  Reinforcement Learning (https://doi.org/10.1007/BF00992696).
  """
  mask = batch.completion_mask
  adv = advantages.batch_centered(batch.rewards)
  surrogate = surrogates.policy_gradient(batch.logprobs, adv, mask)
  loss = aggregation.token_mean(surrogate, mask)
  metrics = {"advantages/mean_abs": jnp.mean(jnp.abs(adv))}
  return loss, state, metrics


def rloo_sequence_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """RLOO as published: whole completions, KL in the reward, no clip.

    R_i = r_i - kl_coef Σ_t (log π - log π_ref)         a constant
    A_i = R_i - mean_{j≠i} R_j
    loss = (1/N) Σ_i -A_i Σ_t log π

  A completion is one action, so the loss grows with its length.

  Reconstructed: kl_coef, from the range 0.03 to 0.05 in use.
  Peers: TRL's RLOOTrainer, with a clipped ratio of the whole completion;
  verl, with the KL in the reward off by default, and its usual loss.
  Source: Back to Basics (https://arxiv.org/abs/2402.14740).
  """
  mask = batch.completion_mask
  divergence = kl.k1(batch.logprobs, batch.ref_logprobs, mask)
  penalty = hparams["kl_coef"] * jnp.sum(divergence, axis=2)
  adv = advantages.leave_one_out(advantages.penalized(batch.rewards, penalty))
  surrogate = surrogates.policy_gradient(batch.logprobs, adv, mask)
  loss = aggregation.seq_sum_mean(surrogate, mask)
  metrics = {"advantages/mean_abs": jnp.mean(jnp.abs(adv))}
  metrics["kl"] = aggregation.token_mean(divergence, mask)
  return loss, state, metrics


def opo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """OPO: the baseline of least variance, weighted by length.

    A_i = r_i - Σ_j L_j r_j / Σ_j L_j              j over the group
    loss = token_mean( -A log π )

  The advantage sums to zero over the tokens of a group, not over its
  completions. Published for exactly one update a batch, without KL, entropy
  or deviation.

  Peers: verl; -A log π there is its policy loss "gpg", its default is the
  clipped ratio. A group of one has baseline 0 there; here it has A = 0.
  Source: On-Policy RL with Optimal Reward Baseline
  (https://arxiv.org/abs/2505.23585).
  """
  mask = batch.completion_mask
  adv = advantages.length_weighted(batch.rewards, batch.lengths)
  surrogate = surrogates.policy_gradient(batch.logprobs, adv, mask)
  loss = aggregation.token_mean(surrogate, mask)
  metrics = {"advantages/mean_abs": jnp.mean(jnp.abs(adv))}
  return loss, state, metrics


def gpg_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GPG: plain policy gradient, scaled up for groups that teach nothing.

    A = alpha (r - μ),   alpha = N / N_active
    loss = seq_mean( -A log π )

  N_active completions are in groups whose rewards are not all equal; the
  others have A = 0, and alpha takes them out of the mean.

  Left out: the divisor F_norm, 1 by default, and the sampling that replaces
  groups of equal rewards.
  Peers: the authors' code adds 1e-5 to 1/alpha. verl counts completions whose
  reward is not zero instead of N_active, and averages over tokens by default.
  Source: GPG (https://arxiv.org/abs/2504.02546).
  """
  mask = batch.completion_mask
  adv = advantages.active_scaled(batch.rewards)
  surrogate = surrogates.policy_gradient(batch.logprobs, adv, mask)
  loss = aggregation.seq_mean(surrogate, mask)
  metrics = {"advantages/mean_abs": jnp.mean(jnp.abs(adv))}
  return loss, state, metrics
