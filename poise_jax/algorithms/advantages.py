"""Advantages: from the rewards of a batch to one number per completion.

Rewards, flags and lengths are [P, G]: P prompts, G completions in the group of
each. Advantages are constants to the loss, so every function stops the
gradient of what it is given. Statistics of a group have shape [P, 1] and
broadcast against the completions.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float


def group_mean(values: Float[Array, "P G"]) -> Float[Array, "P 1"]:
  """Averages over each group: μ = mean_i x_i."""
  return jnp.mean(jax.lax.stop_gradient(values), axis=1, keepdims=True)


def group_std(
    values: Float[Array, "P G"], *, ddof: int = 0
) -> Float[Array, "P 1"]:
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


def group_pass_rate(correct: Float[Array, "P G"]) -> Float[Array, "P 1"]:
  """Computes the fraction of each group that is correct, in [0, 1]."""
  return group_mean(correct)


def beta_mean(
    values: Float[Array, "P G"],
    weights: Float[Array, "P G"],
    *,
    alpha: ArrayLike,
    beta: ArrayLike,
) -> Float[Array, "P 1"]:
  """Averages 0/1 values over a subset, smoothed by a Beta(α, β) prior.

    μ = (Σ_{i in V} x_i + α) / (|V| + α + β)

  A baseline that stays inside (0, 1): it lies above the group mean where most
  fail and below it where most succeed. With V empty it is the prior mean
  α / (α + β).

  Args:
    values: outcomes in [0, 1].
    weights: 1.0 on the members of V.
    alpha: prior successes, > 0.
    beta: prior failures, > 0.
  """
  values = jax.lax.stop_gradient(jnp.where(weights > 0, values, 0.0))
  size = jnp.sum(weights, axis=1, keepdims=True)
  return (jnp.sum(values, axis=1, keepdims=True) + alpha) / (
      size + alpha + beta
  )


def group_centered(rewards: Float[Array, "P G"]) -> Float[Array, "P G"]:
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
    rewards: Float[Array, "P G"],
    *,
    ddof: int = 0,
    epsilon: ArrayLike = 1e-6,
) -> Float[Array, "P G"]:
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


def beta_smoothed_valid(
    rewards: Float[Array, "P G"],
    format_valid: Float[Array, "P G"],
    *,
    alpha: ArrayLike,
    beta: ArrayLike,
    sigma_floor: ArrayLike,
    invalid_advantage: ArrayLike,
) -> Float[Array, "P G"]:
  """Scores valid completions against a Beta-smoothed baseline of their own.

  With V the format-valid completions of the group and μ = `beta_mean` over V,

    A_i = (r_i - μ) / max(sqrt(μ (1 - μ)), sigma_floor)   for i in V,
    A_i = invalid_advantage                               otherwise.

  Does not sum to zero: a group where all fail pushes down, one where all
  succeed still pushes up. A group with V empty gets 0, because the same
  negative number for everyone points nowhere (the paper leaves this open).

  See VM-AV-GRPO in POISE (https://arxiv.org/abs/2603.23951), A.2.

  Args:
    rewards: in [0, 1] on V.
    format_valid: 1.0 on V.
    alpha: prior successes, > 0.
    beta: prior failures, > 0.
    sigma_floor: floor under the Bernoulli deviation, > 0.
    invalid_advantage: what a completion outside V gets.
  """
  valid = jax.lax.stop_gradient(format_valid)
  mean = beta_mean(rewards, valid, alpha=alpha, beta=beta)
  sigma = jnp.sqrt(jnp.maximum(mean * (1.0 - mean), 0.0))
  scored = (jax.lax.stop_gradient(rewards) - mean) / jnp.maximum(
      sigma, sigma_floor
  )
  any_valid = jnp.max(valid, axis=1, keepdims=True) > 0
  return jnp.where(
      valid > 0, scored, jnp.where(any_valid, invalid_advantage, 0.0)
  )


def relative_length_tempered(
    advantages: Float[Array, "P G"],
    lengths: Float[Array, "P G"],
    format_valid: Float[Array, "P G"],
    *,
    low: ArrayLike = 0.5,
    high: ArrayLike = 2.0,
) -> Float[Array, "P G"]:
  """Softens the blame on long valid failures and sharpens it on short ones.

    ℓ_i = clip(L_i / mean_{j in V} L_j, low, high)
    A'_i = A_i / ℓ_i   if i in V and A_i < 0,   else A_i

  See VM-AV-GRPO in POISE (https://arxiv.org/abs/2603.23951), A.2.

  Args:
    advantages: before the correction.
    lengths: tokens of each completion.
    format_valid: 1.0 on V.
    low: smallest divisor, > 0.
    high: largest divisor.
  """
  advantages = jax.lax.stop_gradient(advantages)
  valid = jax.lax.stop_gradient(format_valid)
  total = jnp.sum(lengths * valid, axis=1, keepdims=True)
  mean = total / jnp.maximum(jnp.sum(valid, axis=1, keepdims=True), 1.0)
  relative = jnp.clip(lengths / jnp.where(mean > 0, mean, 1.0), low, high)
  tempered = (valid > 0) & (advantages < 0)
  return jnp.where(tempered, advantages / relative, advantages)


def length_efficiency(
    lengths: Float[Array, "P G"], correct: Float[Array, "P G"]
) -> Float[Array, "P G"]:
  """Scores brevity among the correct completions of a group.

  The z-score of -L_i (population form) inside the correct subset: positive
  for a short correct answer. Exactly 0 for wrong completions, where fewer
  than two are correct, and where the correct ones are equally long.

  See DACE and CDA-GRPO in POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  subset = jax.lax.stop_gradient(correct) > 0
  lengths = jax.lax.stop_gradient(lengths)
  size = jnp.sum(subset, axis=1, keepdims=True, dtype=lengths.dtype)
  size = jnp.maximum(size, 1.0)
  shortest = jnp.min(jnp.where(subset, lengths, jnp.inf), axis=1, keepdims=True)
  excess = jnp.where(subset, lengths - shortest, 0.0)
  mean = jnp.sum(excess, axis=1, keepdims=True) / size
  saved = jnp.where(subset, mean - excess, 0.0)
  sigma = jnp.sqrt(jnp.sum(saved**2, axis=1, keepdims=True) / size)
  return saved / jnp.where(sigma > 0, sigma, 1.0)


def fixed_failure(
    rewards: Float[Array, "P G"],
    format_valid: Float[Array, "P G"],
    *,
    invalid: ArrayLike = -2.0,
    wrong: ArrayLike = -0.5,
) -> Float[Array, "P G"]:
  """Gives groups in which nobody succeeds a constant push away.

  Where max_i r_i <= 0: `wrong` for a valid completion, `invalid` for the
  others. Exactly 0 in every other group, so that it can be selected or added
  where a normalised advantage has nothing to say.

  See FA-GRPO in POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  failed = jnp.max(rewards, axis=1, keepdims=True) <= 0
  constant = jnp.where(format_valid > 0, wrong, invalid)
  return jnp.where(failed, constant, 0.0).astype(rewards.dtype)


def difficulty_weight(
    correct: Float[Array, "P G"], *, strength: ArrayLike
) -> Float[Array, "P 1"]:
  """Weighs hard prompts up: w = 1 + strength (1 - pass rate of the group).

  See DACE in POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  return 1.0 + strength * (1.0 - group_pass_rate(correct))
