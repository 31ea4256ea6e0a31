"""Advantages: from the rewards of a batch to one number per completion.

Rewards, flags and lengths are [P, G]: P prompts, G completions in the group of
each. Advantages are constants to the loss, so every function stops the
gradient of what it is given. Statistics of a group have shape [P, 1] and
broadcast against the completions; a last axis of reward components [P, G, K]
is carried along. `ddof` says by what a sum of n squares is divided: 0 by n
(population), 1 by n - 1 (sample).
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from poise_jax.algorithms import masks
from poise_jax.shapes import Array, Float


def group_mean(values: Float[Array, "P G *K"]) -> Float[Array, "P 1 *K"]:
  """Averages over each group: μ = mean_i x_i."""
  return jnp.mean(jax.lax.stop_gradient(values), axis=1, keepdims=True)


def group_std(
    values: Float[Array, "P G *K"], *, ddof: ArrayLike = 0
) -> Float[Array, "P 1 *K"]:
  """Measures the spread of each group: σ = sqrt(Σ_i (x_i - μ)² / (G - ddof)).

  A group of one has spread 0 under either convention.

  Args:
    values: rewards, correctness, lengths...
    ddof: 0 for the population form (the POISE paper), 1 for the sample form
      (TRL, verl).
  """
  squares = jnp.sum(group_centered(values) ** 2, axis=1, keepdims=True)
  size = jnp.sum(jnp.ones_like(values), axis=1, keepdims=True)
  return jnp.sqrt(squares / jnp.maximum(size - ddof, 1.0))


def penalized(
    rewards: Float[Array, "P G"], penalties: Float[Array, "P G"]
) -> Float[Array, "P G"]:
  """Subtracts penalties from rewards, up to a constant of each group.

    r'_i = r_i - min_j r_j - d_i

  For advantages that centre by the group, to which the minimum makes no
  difference. Without it a small penalty beside a large reward is lost in f32:
  1000.1 - 1e-5 is 1000.1. A negative penalty is a bonus.
  """
  rewards, penalties = jax.lax.stop_gradient((rewards, penalties))
  return rewards - jnp.min(rewards, axis=1, keepdims=True) - penalties


def group_pass_rate(correct: Float[Array, "P G"]) -> Float[Array, "P 1"]:
  """Computes the fraction of each group that is correct, in [0, 1]."""
  return group_mean(correct)


def group_centered(
    rewards: Float[Array, "P G *K"],
) -> Float[Array, "P G *K"]:
  """Subtracts the mean of the group: A_i = r_i - μ.

  Sums to zero in every group. A group of equal rewards, hence a group of one,
  gives exactly 0 whatever the magnitude of the rewards.

  See "Understanding R1-Zero-Like Training" by Liu et al.
  (https://arxiv.org/abs/2503.20783).
  """
  rewards = jax.lax.stop_gradient(rewards)
  # Shifting by the minimum first is exact for equal rewards; the mean of
  # seven times 1000.1 is off by one ulp, which a later division would amplify.
  shifted = rewards - jnp.min(rewards, axis=1, keepdims=True)
  return shifted - jnp.mean(shifted, axis=1, keepdims=True)


def group_normalized(
    rewards: Float[Array, "P G *K"],
    *,
    ddof: ArrayLike = 0,
    epsilon: ArrayLike = 1e-6,
) -> Float[Array, "P G *K"]:
  """Centres and scales by the group: A_i = (r_i - μ) / (σ + epsilon).

  Sums to zero in every group; a group of equal rewards gives exactly 0.

  See "DeepSeekMath" by Shao et al. (https://arxiv.org/abs/2402.03300).

  Args:
    rewards: scalar reward of each completion.
    ddof: 0 divides the squares by G, 1 by G - 1.
    epsilon: keeps near-constant groups finite; it also shrinks them.
  """
  return group_centered(rewards) / (group_std(rewards, ddof=ddof) + epsilon)


def leave_one_out(rewards: Float[Array, "P G"]) -> Float[Array, "P G"]:
  """Subtracts the mean of the others: A_i = r_i - mean_{j≠i} r_j.

  Equals G/(G-1) (r_i - μ), and is computed so. A group of one gives 0.

  See "Back to Basics" by Ahmadian et al. (https://arxiv.org/abs/2402.14740).
  """
  size = jnp.sum(jnp.ones_like(rewards), axis=1, keepdims=True)
  return group_centered(rewards) * size / jnp.maximum(size - 1.0, 1.0)


def batch_centered(rewards: Float[Array, "P G"]) -> Float[Array, "P G"]:
  """Subtracts the mean of the whole batch: A_i = r_i - mean_{all} r.

  The baseline of plain REINFORCE: a group of equal rewards keeps a signal.
  """
  rewards = jax.lax.stop_gradient(rewards)
  shifted = rewards - jnp.min(rewards)
  return shifted - jnp.mean(shifted)


def batch_std(
    values: Float[Array, "P G"], *, ddof: ArrayLike = 0
) -> Float[Array, ""]:
  """Measures the spread of the batch: σ = sqrt(Σ (x - mean)² / (N - ddof)).

  N counts completions. A batch of one completion has spread 0.
  """
  size = jnp.sum(jnp.ones_like(values))
  squares = jnp.sum(batch_centered(values) ** 2)
  return jnp.sqrt(squares / jnp.maximum(size - ddof, 1.0))


def batch_normalized(
    rewards: Float[Array, "P G"],
    *,
    clip: ArrayLike = 3.0,
    epsilon: ArrayLike = 1e-6,
) -> Float[Array, "P G"]:
  """Centres by the group, scales by the batch, clips.

    a_i = r_i - μ_group,   A_i = clip(a_i / (rms_{all}(a) + epsilon), ±clip)

  A batch without any spread gives exactly 0.

  See BN-GRPO in POISE (https://arxiv.org/abs/2603.23951), A.2.

  Args:
    rewards: scalar reward of each completion.
    clip: largest magnitude of an advantage.
    epsilon: keeps near-constant batches finite.
  """
  centered = group_centered(rewards)
  rms = jnp.sqrt(jnp.mean(centered**2))
  return jnp.clip(centered / (rms + epsilon), -clip, clip)


def analytic_variance(
    rewards: Float[Array, "P G"], *, sigma_min: ArrayLike
) -> Float[Array, "P G"]:
  """Centres and scales by the group, with a floor instead of an epsilon.

    σ = sqrt(E[r²] - μ²),   A_i = (r_i - μ) / max(σ, sigma_min)

  σ is the population standard deviation, and is computed from centred
  rewards, where large rewards do not cancel. Above the floor this is
  `group_normalized` with epsilon 0; below it the scale is constant.

  See AV-GRPO in POISE (https://arxiv.org/abs/2603.23951), A.2.

  Args:
    rewards: scalar reward of each completion.
    sigma_min: floor under σ, > 0.
  """
  return group_centered(rewards) / jnp.maximum(group_std(rewards), sigma_min)


def length_weighted(
    rewards: Float[Array, "P G"], lengths: Float[Array, "P G"]
) -> Float[Array, "P G"]:
  """Subtracts the mean over the tokens of the group, not its completions.

    A_i = r_i - Σ_j L_j r_j / Σ_j L_j

  The baseline that minimises the variance of the gradient where tokens
  contribute independently. A group of equal rewards gives exactly 0; so does
  a group of one. In a group without tokens the baseline is the lowest reward.

  See "On-Policy RL with Optimal Reward Baseline" by Hao et al.
  (https://arxiv.org/abs/2505.23585).
  """
  rewards, lengths = jax.lax.stop_gradient((rewards, lengths))
  shifted = rewards - jnp.min(rewards, axis=1, keepdims=True)
  tokens = jnp.sum(lengths, axis=1, keepdims=True)
  total = jnp.sum(lengths * shifted, axis=1, keepdims=True)
  return shifted - total / jnp.where(tokens > 0, tokens, 1.0)


def mean_scaled(
    rewards: Float[Array, "P G"], *, epsilon: ArrayLike = 1e-6
) -> Float[Array, "P G"]:
  """Centres by the group, divides by its mean: A_i = (r_i - μ) / (μ + epsilon).

  For rewards that are not negative; 0 where μ <= 0. With r in {0, 1} the
  expectation of Σ_i A_i ∇ log π_i / G is, on-policy, the gradient of
  Σ_{k<G} pass@k / k, the start of the series for the log of the pass rate.

  See "Maximum Likelihood Reinforcement Learning" by Tajwar et al.
  (https://arxiv.org/abs/2602.02710).
  """
  mean = group_mean(rewards)
  scale = jnp.where(mean > 0, mean, 1.0) + epsilon
  return jnp.where(mean > 0, group_centered(rewards) / scale, 0.0)


def pass_at_k(
    correct: Float[Array, "P G"],
    *,
    k: ArrayLike,
    epsilon: ArrayLike = 1e-6,
) -> Float[Array, "P G"]:
  """Credits completions for the sets of k that they are drawn into.

    f = C(N₋, k) / C(G, k) = Π_{j<N₊} max(G - k - j, 0) / (G - j)
    σ = sqrt(f (1 - f))
    A₊ = f / (σ + epsilon),   A₋ = -A₊ N₊ / N₋

  A set of k succeeds if one of it is correct, and f is the probability that
  it fails. A_i is the standardised success averaged over the sets that hold
  completion i, for all C(G, k) sets, without drawing any. Sums to zero in a
  group. 0 where all fail, and where fewer than k fail. k = 1 is
  `group_normalized`; k need not be whole and may follow a schedule.

  See "Pass@k Training" by Chen et al. (https://arxiv.org/abs/2508.10751).

  Args:
    correct: 1.0 for N₊, 0.0 for N₋ completions of the group.
    k: size of the sets, from 1 to G - 1.
    epsilon: keeps A finite where success or failure is all but certain.
  """
  correct = (jax.lax.stop_gradient(correct) > 0).astype(correct.dtype)
  ones = jnp.ones_like(correct)
  size = jnp.sum(ones, axis=1, keepdims=True)
  hits = jnp.sum(correct, axis=1, keepdims=True)
  drawn = jnp.cumsum(ones, axis=1) - 1.0
  factors = jnp.maximum(size - k - drawn, 0.0) / (size - drawn)
  failure = jnp.where(drawn < hits, factors, 1.0)
  failure = jnp.prod(failure, axis=1, keepdims=True)
  sigma = jnp.sqrt(failure * (1.0 - failure))
  mixed = sigma > 0
  gain = jnp.where(mixed, failure, 0.0) / (
      jnp.where(mixed, sigma, 1.0) + epsilon
  )
  loss = -gain * hits / jnp.maximum(size - hits, 1.0)
  return jnp.where(correct > 0, gain, loss)


def batch_scaled(
    rewards: Float[Array, "P G"],
    *,
    ddof: ArrayLike,
    epsilon: ArrayLike,
) -> Float[Array, "P G"]:
  """Centres by the group, scales by the spread of the raw rewards.

    A_i = (r_i - μ_group) / (σ_batch(r) + epsilon)

  Unlike `batch_normalized` the scale includes how much groups differ from
  each other. A group of equal rewards gives exactly 0.

  See "Tricks or Traps?" by Liu et al. (https://arxiv.org/abs/2508.08221).
  """
  return group_centered(rewards) / (batch_std(rewards, ddof=ddof) + epsilon)


def component_normalized(
    components: Float[Array, "P G K"],
    *,
    weights: ArrayLike,
    ddof: ArrayLike,
    epsilon: ArrayLike,
) -> Float[Array, "P G"]:
  """Standardises each reward component apart, adds, whitens.

    z_ik = (c_ik - μ_k) / (σ_k + epsilon)      μ, σ over the group
    A_i = Σ_k w_k z_ik / (σ_batch + epsilon)   σ_batch of the sums

  Components that cancel in a sum of rewards keep their signal, and weights
  act after the scales are gone. Where all components of all groups are equal
  A is exactly 0. The sums have mean 0 already, so that whitening them is to
  divide.

  See "GDPO" by Liu et al. (https://arxiv.org/abs/2601.05242).

  Args:
    components: unweighted rewards, last axis K.
    weights: w, of shape [K], or one number for all.
    ddof: of both deviations.
    epsilon: added to both deviations.
  """
  scores = group_normalized(components, ddof=ddof, epsilon=epsilon)
  weights = jnp.broadcast_to(jax.lax.stop_gradient(weights), scores.shape)
  total = jnp.sum(weights * scores, axis=2)
  return total / (batch_std(total, ddof=ddof) + epsilon)


def token_whitened(
    values: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    *,
    epsilon: ArrayLike = 1e-8,
) -> Float[Array, "P G T"]:
  """Standardises over the tokens of the batch, and gives 0 where masked.

    A_t = (x_t - mean) / sqrt( Σ m (x - mean)² / (Σ m - 1) + epsilon )

  A long completion weighs more than a short one. Note epsilon inside the
  root. Equal values give exactly 0, so does a single token.

  See "REINFORCE++" by Hu et al. (https://arxiv.org/abs/2501.03262).
  """
  live = mask > 0
  values = jnp.where(live, jax.lax.stop_gradient(values), 0.0)
  count = jnp.sum(live, dtype=values.dtype)
  # As in `group_centered`: exact for equal values.
  low = jnp.min(jnp.where(live, values, jnp.inf))
  shifted = jnp.where(live, values - low, 0.0)
  mean = jnp.sum(shifted) / jnp.maximum(count, 1.0)
  centered = jnp.where(live, shifted - mean, 0.0)
  variance = jnp.sum(centered**2) / jnp.maximum(count - 1.0, 1.0)
  return centered / jnp.sqrt(variance + epsilon)


def penalized_returns(
    rewards: Float[Array, "P G"],
    penalties: Float[Array, "P G T"],
    *,
    coefficient: ArrayLike,
) -> Float[Array, "P G T"]:
  """Sums what is still to come: the reward at the end, penalties on the way.

    R_t = r - coefficient Σ_{u>=t} d_u

  Undiscounted. For KL in the reward let d be `kl.k1`, whose gradient is
  stopped here; there its expected policy gradient is that of
  -coefficient KL(π || π_ref).

  Args:
    rewards: scalar reward of each completion.
    penalties: d, 0 where masked.
    coefficient: weight of the penalties.
  """
  rewards, penalties = jax.lax.stop_gradient((rewards, penalties))
  # Of the ways to sum backwards over 1024 tokens, the fastest on a processor.
  by_token = jnp.moveaxis(penalties, 2, 0)
  step = lambda total, now: (total + now, total + now)
  start = jnp.zeros_like(rewards)
  _, to_come = jax.lax.scan(step, start, by_token, reverse=True)
  return rewards[..., None] - coefficient * jnp.moveaxis(to_come, 0, 2)


def active_scaled(rewards: Float[Array, "P G"]) -> Float[Array, "P G"]:
  """Centres by the group; makes up for the groups that teach nothing.

    A_i = (N / N_active) (r_i - μ)

  N_active counts the completions of groups whose rewards are not all equal.
  The mean over the batch then is the mean over those. 0 without any.

  See "GPG" by Chu et al. (https://arxiv.org/abs/2504.02546).
  """
  active = jnp.mean(masks.nonzero_spread(jax.lax.stop_gradient(rewards)))
  return group_centered(rewards) / jnp.where(active > 0, active, 1.0)
