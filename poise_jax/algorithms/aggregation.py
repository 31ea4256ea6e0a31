"""From a loss per token to one number: which tokens weigh how much.

Values and masks are [P, G, T], of the whole optimizer batch. In all of them a
masked slot is left out whatever it holds (NaN, inf), numerator and denominator
use the same mask, a completion without tokens counts nowhere, and a batch
without tokens gives 0 with zero gradients.
"""

import jax.numpy as jnp
from jax.typing import ArrayLike

from poise_jax.shapes import Array, Float


def token_mean(
    values: Float[Array, "P G T"], mask: Float[Array, "P G T"]
) -> Float[Array, ""]:
  """Averages over all tokens: Σ m ℓ / Σ m. Every token weighs the same.

  See "DAPO" by Yu et al. (https://arxiv.org/abs/2503.14476).
  """
  return _ratio(jnp.sum(_selected(values, mask)), jnp.sum(_live(mask)))


def token_mean_prompt(
    values: Float[Array, "P G T"], mask: Float[Array, "P G T"]
) -> Float[Array, ""]:
  """Averages over the tokens of each group, then over groups.

    (1/P) Σ_g [ Σ_{i in g} Σ_t m ℓ / Σ_{i in g} L_i ]

  Every prompt weighs the same; this is the formula that "DAPO" prints
  (https://arxiv.org/abs/2503.14476).
  """
  tokens = jnp.sum(_live(mask), axis=(1, 2))
  means = _ratio(jnp.sum(_selected(values, mask), axis=(1, 2)), tokens)
  return _ratio(jnp.sum(means), jnp.sum(_nonempty(tokens)))


def seq_mean(
    values: Float[Array, "P G T"], mask: Float[Array, "P G T"]
) -> Float[Array, ""]:
  """Averages over the tokens of each completion, then over completions.

    (1/N) Σ_i (1/L_i) Σ_t m ℓ

  Every completion weighs the same, hence a token of a long one weighs less.

  See "DeepSeekMath" by Shao et al. (https://arxiv.org/abs/2402.03300).
  """
  lengths = jnp.sum(_live(mask), axis=2)
  means = _ratio(jnp.sum(_selected(values, mask), axis=2), lengths)
  return _ratio(jnp.sum(means), jnp.sum(_nonempty(lengths)))


def seq_sum_mean(
    values: Float[Array, "P G T"], mask: Float[Array, "P G T"]
) -> Float[Array, ""]:
  """Sums over the tokens of each completion, averages over completions.

    (1/N) Σ_i Σ_t m ℓ

  The objective of plain REINFORCE on whole sequences; grows with length.
  """
  completions = jnp.sum(_nonempty(jnp.sum(_live(mask), axis=2)))
  return _ratio(jnp.sum(_selected(values, mask)), completions)


def constant_norm(
    values: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    *,
    length_constant: ArrayLike,
) -> Float[Array, ""]:
  """Divides the sum of each completion by a constant: Σ m ℓ / (N L_max).

  Every token weighs the same, in every batch: no dependence on how long the
  completions of this batch, or its padding, happen to be.

  See "Understanding R1-Zero-Like Training" by Liu et al.
  (https://arxiv.org/abs/2503.20783).

  Args:
    values: loss per token.
    mask: 1.0 on tokens that count.
    length_constant: L_max, the completion budget of the task, > 0.
  """
  return seq_sum_mean(values, mask) / length_constant


def length_power_norm(
    values: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    *,
    alpha: ArrayLike,
    length_constant: ArrayLike,
) -> Float[Array, ""]:
  """Weighs completions by a power of their length, inside their group.

    w_i = L_i^-alpha / mean_{j in group} L_j^-alpha
    (1/N) Σ_i w_i Σ_t m ℓ / length_constant

  If the variance of a summed gradient grows with its length, alpha = 1 gives
  the unbiased mean of least variance, and less than 1 keeps more of the long
  completions. alpha = 0 equals `constant_norm`. The mean is over completions
  with tokens; a group of one has w = 1.

  See "VL Norm" by He et al. (https://arxiv.org/abs/2509.07558).

  Args:
    values: loss per token.
    mask: 1.0 on tokens that count.
    alpha: >= 0.
    length_constant: as for `constant_norm`.
  """
  lengths = jnp.sum(_live(mask), axis=2)
  nonempty = _nonempty(lengths)
  powers = nonempty * jnp.maximum(lengths, 1.0) ** -jnp.asarray(alpha)
  in_group = jnp.sum(nonempty, axis=1, keepdims=True)
  mean = _ratio(jnp.sum(powers, axis=1, keepdims=True), in_group)
  weights = powers / jnp.where(mean > 0, mean, 1.0)
  totals = weights * jnp.sum(_selected(values, mask), axis=2)
  return _ratio(jnp.sum(totals), jnp.sum(nonempty)) / length_constant


def _live(mask: Float[Array, "P G T"]) -> Float[Array, "P G T"]:
  """Turns any positive mask entry into 1.0."""
  return (mask > 0).astype(mask.dtype)


def _selected(
    values: Float[Array, "P G T"], mask: Float[Array, "P G T"]
) -> Float[Array, "P G T"]:
  """Replaces, rather than multiplies, masked values: 0 * NaN is NaN."""
  return jnp.where(mask > 0, values, 0.0)


def _nonempty(counts: Float[Array, "*N"]) -> Float[Array, "*N"]:
  """Marks with 1.0 where there is at least one token."""
  return (counts > 0).astype(counts.dtype)


def _ratio(
    total: Float[Array, "*N"], count: Float[Array, "*N"]
) -> Float[Array, "*N"]:
  """Divides, and gives 0 where there is nothing to divide by."""
  return jnp.where(count > 0, total, 0.0) / jnp.where(count > 0, count, 1.0)
