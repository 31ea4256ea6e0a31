"""Signals that depend on what kind of group or completion it is.

Valid or not, solved, failed or mixed: each regime gets a statistic or a
constant of its own. Arguments are [P, G] (token values [P, G, T]), constants
to the loss; statistics of a group have shape [P, 1].
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from poise_jax.algorithms import advantages, masks
from poise_jax.shapes import Array, Float


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


def optimistic_baseline(
    correct: Float[Array, "P G"], *, alpha: ArrayLike, beta: ArrayLike
) -> Float[Array, "P 1"]:
  """Expects more than was measured, by the same rule in every group.

    b = (k + α) / (G + α + β)                k: number correct, of G

  `beta_mean` over the whole group. It lies above the pass rate wherever that
  is below α / (α + β), which is more than 1/2 for the optimist, α > β, and
  stays inside (0, 1): no cliff between failed, mixed and solved groups.

  Our reconstruction of the baseline that CDA-GRPO names without a formula,
  see POISE (https://arxiv.org/abs/2603.23951), A.2.

  Args:
    correct: outcomes in [0, 1].
    alpha: prior successes, > 0; more than `beta` is optimistic.
    beta: prior failures, > 0.
  """
  return beta_mean(correct, jnp.ones_like(correct), alpha=alpha, beta=beta)


def optimistic_outcome(
    correct: Float[Array, "P G"],
    *,
    alpha: ArrayLike,
    beta: ArrayLike,
    sigma_floor: ArrayLike,
) -> Float[Array, "P G"]:
  """Scores correctness against `optimistic_baseline`, in Bernoulli units.

    A_i = (x_i - b) / max(sqrt(b (1 - b)), sigma_floor)

  A correct completion gets more than 0 and a wrong one less than 0 in every
  group, failed and solved ones included. Does not sum to zero.

  See CDA-GRPO in POISE (https://arxiv.org/abs/2603.23951), A.2; the formula
  is our reconstruction.

  Args:
    correct: outcomes in [0, 1].
    alpha: prior successes, > 0.
    beta: prior failures, > 0.
    sigma_floor: floor under the Bernoulli deviation, > 0.
  """
  baseline = optimistic_baseline(correct, alpha=alpha, beta=beta)
  sigma = jnp.sqrt(jnp.maximum(baseline * (1.0 - baseline), 0.0))
  centered = jax.lax.stop_gradient(correct) - baseline
  return centered / jnp.maximum(sigma, sigma_floor)


def anchored_std(
    correct: Float[Array, "P G"],
    rewards: Float[Array, "P G"],
    *,
    epsilon: ArrayLike = 1e-6,
) -> Float[Array, "P 1"]:
  """Measures the spread of correctness, or of the reward where that is 0.

    σ = σ_outcome   if σ_outcome > epsilon,   else σ_total

  Population form. In a mixed group the scale of the advantages is then that
  of correctness alone, whatever format and length add to the reward. Still 0
  where the rewards are all equal too: put a floor under it before dividing.

  See MSA-GRPO in POISE (https://arxiv.org/abs/2603.23951), A.2; that "outcome"
  is correctness and "total" the scalar reward is our reading.

  Args:
    correct: outcomes, for σ_outcome.
    rewards: scalar rewards, for σ_total.
    epsilon: the largest spread that counts as none.
  """
  outcome = advantages.group_std(correct)
  return jnp.where(outcome > epsilon, outcome, advantages.group_std(rewards))


def failure_entropy(
    entropy: Float[Array, "P G T"],
    correct: Float[Array, "P G"],
    mask: Float[Array, "P G T"],
    *,
    kappa: ArrayLike,
    epsilon: ArrayLike = 1e-4,
) -> Float[Array, "P G"]:
  """Tells the failures of an all-failed group apart by how unsure they were.

    h_i = mean over the tokens of the entropy, detached
    A_i = kappa clip((h_i - mean_j h_j) / (std_j h_j + epsilon), ±1)

  in groups where nobody is correct, and exactly 0 in the others. Mean and
  population deviation are over the completions of the group that have tokens;
  one without tokens gets 0. Sums to zero where the clip does not bind.

  Our reconstruction of the signal that DFR-GRPO describes without a formula,
  see POISE (https://arxiv.org/abs/2603.23951), A.2.

  Args:
    entropy: per token, in nats; its gradient is stopped.
    correct: 1.0 where the answer is right.
    mask: 1.0 on tokens that count.
    kappa: largest magnitude of the signal; > 0 favours the unsure failure,
      < 0 the sure one.
    epsilon: in nats, > 0; spreads well below it count as none.
  """
  live = mask > 0
  values = jax.lax.stop_gradient(jnp.where(live, entropy, 0.0))
  tokens = jnp.sum(live, axis=2, dtype=values.dtype)
  means = jnp.sum(values, axis=2) / jnp.maximum(tokens, 1.0)
  size = jnp.sum(tokens > 0, axis=1, keepdims=True, dtype=values.dtype)
  size = jnp.maximum(size, 1.0)
  center = jnp.sum(means, axis=1, keepdims=True) / size
  centered = jnp.where(tokens > 0, means - center, 0.0)
  sigma = jnp.sqrt(jnp.sum(centered**2, axis=1, keepdims=True) / size)
  score = jnp.clip(centered / (sigma + epsilon), -1.0, 1.0)
  return jnp.where(masks.failed_groups(correct) > 0, kappa * score, 0.0)


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
  return 1.0 + strength * (1.0 - advantages.group_pass_rate(correct))
