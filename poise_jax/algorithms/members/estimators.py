"""Other ways from the rewards of a group to advantages, under the PPO clip."""

import jax.numpy as jnp

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    kl,
    ratios,
    surrogates,
)
from poise_jax.shapes import Array, Float

RLOO_HPARAMS = {"clip_eps_low": 0.2, "clip_eps_high": 0.2}
LITE_PPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "ddof": 1.0,
    "epsilon": 1e-4,
}
VL_NORM_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "length_decay": 0.75,
    "length_constant": 31.0,
}
PASSK_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.28,
    "k": 4.0,
    "epsilon": 1e-6,
}
MAXRL_HPARAMS = {"clip_eps_low": 0.2, "clip_eps_high": 0.2, "epsilon": 1e-6}
REINFORCE_PP_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "kl_coef": 1e-3,
    "epsilon": 1e-8,
}
REINFORCE_PP_BASELINE_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "ddof": 1.0,
    "epsilon": 1e-6,
    "kl_coef": 1e-3,
}
GDPO_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "correct_weight": 1.0,
    "other_weight": 1.0,
    "ddof": 1.0,
    "epsilon": 1e-4,
}


def rloo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """RLOO: each completion against the mean of the others in its group.

    A_i = r_i - mean_{j≠i} r_j,   loss = token_mean( ℓ_clip(A) )

  The clipped ratio replaces the plain log-probability of the paper, so that
  several updates may be made with one batch. Its KL term in the reward is
  left out.

  Reconstructed: the ratio with clip_eps_low and clip_eps_high, those of PPO,
  and the mean over tokens.
  Peers: TRL's RLOOTrainer clips the ratio of the whole completion and can
  divide by the deviation. verl gives a group of one its raw reward ("rloo")
  or 0 ("rloo_vectorized"); here it gets 0. SkyRL has it, tunix does not
  expose its own. The form of the paper is rloo_sequence.
  Source: Back to Basics (https://arxiv.org/abs/2402.14740).
  """
  mask = batch.completion_mask
  adv = advantages.leave_one_out(batch.rewards)
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


def lite_ppo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """Lite PPO: centre by the group, scale by the rewards of the batch.

    A = (r - μ_group) / (σ_batch(r) + epsilon)
    loss = token_mean( ℓ_clip(A) )

  σ_batch is the deviation of the raw rewards, with ddof: it includes how much
  prompts differ in difficulty, which bn_grpo leaves out. One scale for all
  groups, so that rare and common successes keep their proportion.

  Reconstructed: clip_eps_low and clip_eps_high, those of PPO; ddof and epsilon,
  which are TRL's.
  Peers: TRL with scale_rewards "batch".
  Source: Tricks or Traps? (https://arxiv.org/abs/2508.08221).
  """
  mask = batch.completion_mask
  adv = advantages.batch_scaled(
      batch.rewards, ddof=hparams["ddof"], epsilon=hparams["epsilon"]
  )
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


def vl_norm_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """VL Norm: Dr. GRPO with less weight on long completions.

    A = r - μ,   w_i = L_i^-length_decay / mean_group L^-length_decay
    loss = Σ_i w_i Σ_t m ℓ_clip(A) / (N length_constant)

  With length_decay = 1 the estimator of least variance if that of a
  completion's gradient grows with its length; 0 is dr_grpo.

  Published: length_decay, for mathematics; 1 for CountDown.
  Reconstructed: clip_eps_low and clip_eps_high, those of PPO; length_constant,
  where 31 is the completion budget of the embedded task: set it to the budget
  of yours.
  Peers: the authors' code; none of TRL, verl and tunix.
  Source: VL Norm (https://arxiv.org/abs/2509.07558).
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
  loss = aggregation.length_power_norm(
      surrogate,
      mask,
      alpha=hparams["length_decay"],
      length_constant=hparams["length_constant"],
  )
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  return loss, state, metrics


def passk_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """Pass@k training: reward the sets of k completions that solve a prompt.

    f = C(N₋, k) / C(G, k),   σ = sqrt(f (1 - f))
    A₊ = f / (σ + epsilon),   A₋ = -A₊ N₊ / N₋
    loss = token_mean( ℓ_clip(A) )

  N₊ of the G completions of a group are correct, N₋ wrong. The mean over all
  sets, in closed form. Groups with fewer than k wrong completions give no
  gradient: pass@k is solved there. So no group does for k >= G: choose k
  from 1, which is GRPO on correctness, to G - 1.

  Published: k, in the authors' code.
  Reconstructed: epsilon; clip_eps_low and clip_eps_high, those of DAPO.
  Peers: the authors' code. verl's grpo_passk is another method: the best of
  the group gets its lead over the second, the others 0.
  Source: Pass@k Training (https://arxiv.org/abs/2508.10751).
  """
  mask = batch.completion_mask
  adv = advantages.pass_at_k(
      batch.correct, k=hparams["k"], epsilon=hparams["epsilon"]
  )
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


def maxrl_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """MaxRL: divide by the mean reward, which maximises the likelihood.

    A = (r - μ) / (μ + epsilon) where μ > 0, else 0
    loss = token_mean( ℓ_clip(A) )

  For rewards that are not negative. For right and wrong, the expectation of
  Σ_i A_i ∇ log π_i / G is, on-policy, the gradient of Σ_{k<G} pass@k / k: the
  start of the series for the log of the pass rate. A lone success among G
  weighs G - 1.

  Reconstructed: clip_eps_low and clip_eps_high, as the paper has plain policy
  gradients; epsilon, which is SkyRL's.
  Peers: prime-rl, and SkyRL with the same epsilon.
  Source: Maximum Likelihood Reinforcement Learning
  (https://arxiv.org/abs/2602.02710).
  """
  mask = batch.completion_mask
  adv = advantages.mean_scaled(batch.rewards, epsilon=hparams["epsilon"])
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


def reinforce_pp_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """REINFORCE++: KL in the reward, standardise over all tokens.

    R_t = r - kl_coef Σ_{u>=t} (log π_old - log π_ref)
    A_t = (R_t - mean) / sqrt(var + epsilon)       over the tokens of the batch
    loss = token_mean( ℓ_clip(A) )

  No baseline of the group: a prompt that is always solved is always
  encouraged. Undiscounted; var is the sample variance. Where all rewards are
  equal the KL alone is standardised, however small.

  Reconstructed: clip_eps_low, clip_eps_high, kl_coef and epsilon, which are
  those of implementations.
  Peers: verl and OpenRLHF, with a discount that is 1 by default, and SkyRL.
  Source: REINFORCE++ (https://arxiv.org/abs/2501.03262).
  """
  mask = batch.completion_mask
  divergence = kl.k1(batch.old_logprobs, batch.ref_logprobs, mask)
  # Whitening does not see the shift; in f32 a large reward hides the penalty.
  shifted = batch.rewards - jnp.min(batch.rewards)
  returns = advantages.penalized_returns(
      shifted, divergence, coefficient=hparams["kl_coef"]
  )
  adv = advantages.token_whitened(returns, mask, epsilon=hparams["epsilon"])
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
  metrics["advantages/mean_abs"] = aggregation.token_mean(jnp.abs(adv), mask)
  metrics["kl"] = aggregation.token_mean(divergence, mask)
  return loss, state, metrics


def reinforce_pp_baseline_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """REINFORCE++ with baseline: centre by the group, then whiten the batch.

    c = r - μ_group,   A = c / (σ_batch(c) + epsilon)
    loss = token_mean( ℓ_clip(A) + kl_coef k2 )

  c has mean 0 over the batch. σ_batch is the deviation of c with ddof, every
  completion weighing the same; lite_ppo takes that of r. k2 has, in the loss,
  the gradient of KL(π || π_ref).

  Reconstructed: clip_eps_low, clip_eps_high, ddof, epsilon and kl_coef; that
  completions weigh the same when whitened.
  Peers: verl, OpenRLHF and ms-swift. verl whitens over tokens, with 1e-8
  inside the root, so that long completions weigh more in the mean and the
  deviation.
  Source: REINFORCE++ (https://arxiv.org/abs/2501.03262).
  """
  mask = batch.completion_mask
  # Not centred again: rounding would move the groups that are exactly 0.
  centered = advantages.group_centered(batch.rewards)
  scale = advantages.batch_std(centered, ddof=hparams["ddof"])
  adv = centered / (scale + hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  divergence = kl.k2(batch.logprobs, batch.ref_logprobs, mask)
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


def gdpo_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GDPO: standardise each reward component apart, then add, then whiten.

    z_k = (c_k - μ_k) / (σ_k + epsilon)          μ, σ over the group
    s = Σ_k w_k z_k,   A = (s - mean_batch) / (σ_batch(s) + epsilon)
    loss = token_mean( ℓ_clip(A) )

  w is correct_weight for component 0 and other_weight for all others. Reads
  the components, not `rewards`: components that cancel in the sum still
  teach, and a rare one counts as much as a common one.

  Reconstructed: clip_eps_low and clip_eps_high, those of PPO; equal weights,
  correct_weight and other_weight; ddof and epsilon, which are TRL's.
  Peers: TRL with multi_objective_aggregation "normalize_then_sum"; verl,
  which, with epsilon 1e-6, whitens over tokens with 1e-8 inside the root, so
  that long completions weigh more; NeMo.
  Source: GDPO (https://arxiv.org/abs/2601.05242).
  """
  mask = batch.completion_mask
  others = jnp.full_like(batch.reward_components[0, 0], hparams["other_weight"])
  adv = advantages.component_normalized(
      batch.reward_components,
      weights=others.at[0].set(hparams["correct_weight"]),
      ddof=hparams["ddof"],
      epsilon=hparams["epsilon"],
  )
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
