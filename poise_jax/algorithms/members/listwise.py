"""Losses of whole groups: no completion has a term of its own."""

import jax.numpy as jnp

from poise_jax import types
from poise_jax.algorithms import advantages, sequence_losses
from poise_jax.shapes import Array, Float

GVPO_HPARAMS = {"kl_coef": 0.1}
TPO_HPARAMS = {"eta": 1.0, "sigma_floor": 1e-6}


def gvpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GVPO: regress centred log-ratios on centred rewards.

    S_i = Σ_t (log π - log π_old)
    d_i = kl_coef (S_i - mean_j S_j) - (r_i - mean_j r_j)
    loss = (1/P) Σ_g 1/(2 (G - 1)) Σ_i d_i²

  No clip and no ratio: the pull to the old policy is in the square, and any
  sampler may have drawn the completions. On-policy the gradient is
  kl_coef times that of REINFORCE with leave-one-out advantages, so kl_coef
  also scales the learning rate.
  A group of one gives 0.

  Reconstructed: kl_coef, that of the recipe in verl. It is the β of the paper.
  Peers: a recipe of verl, whose loss function takes the mean of S as constant
  (the same gradient) and sums over the rows of a micro-batch instead of
  averaging over prompts.
  Source: Group Variance Policy Optimization
  (https://arxiv.org/abs/2504.19599).
  """
  mask = batch.completion_mask
  values = sequence_losses.gvpo(
      batch.logprobs,
      batch.old_logprobs,
      mask,
      batch.rewards,
      beta=hparams["kl_coef"],
  )
  loss = sequence_losses.prompt_mean(values, mask)
  adv = advantages.group_centered(batch.rewards)
  metrics = {"advantages/mean_abs": jnp.mean(jnp.abs(adv))}
  return loss, state, metrics


def tpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """TPO: fit the policy over a group to the old one tilted by the rewards.

    u = (r - μ) / max(σ, sigma_floor),   l_i = Σ_t log π(y_t)
    p = softmax_i(l),   q = stop_gradient( softmax_i(l_old + u / eta) )
    loss = -(1/P) Σ_g Σ_i q_i log p_i

  The gradient with respect to l_i is (p_i - q_i) / P: it vanishes where the
  target is met, so a batch can be used for several updates. A group of equal
  rewards has q = p_old: no gradient in the first update, an anchor to the old
  policy in later ones. Sums of log-probabilities of hundreds of tokens make p
  and q nearly one-hot in a group; expect little signal from long answers.

  Published: eta.
  Reconstructed: sigma_floor, which stands for the u = 0 of the paper where σ =
  0; above it u is the z-score with the population deviation.
  Peers: the author's repository JeanKaddour/tpo, in JAX; closed unmerged in
  TRL.
  Source: Target Policy Optimization (https://arxiv.org/abs/2604.06159).
  """
  mask = batch.completion_mask
  scores = advantages.analytic_variance(
      batch.rewards, sigma_min=hparams["sigma_floor"]
  )
  values = sequence_losses.target_policy(
      batch.logprobs,
      batch.old_logprobs,
      mask,
      scores,
      eta=hparams["eta"],
  )
  loss = sequence_losses.prompt_mean(values, mask)
  metrics = {"advantages/mean_abs": jnp.mean(jnp.abs(scores))}
  return loss, state, metrics
