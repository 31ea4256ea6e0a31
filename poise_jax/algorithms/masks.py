"""Which completions and groups count: float masks, 1.0 to keep, 0.0 to drop.

Masks of completions are [P, G], masks of groups [P, 1]; they combine by
multiplication and reach the tokens through `apply`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def apply(
    completion_mask: Float[Array, "P G T"], keep: Float[Array, "P #G"]
) -> Float[Array, "P G T"]:
  """Removes the tokens of the completions or groups that are not kept.

  Pass the result to the aggregation, so that numerator and denominator leave
  out the same tokens.

  Args:
    completion_mask: token mask of the batch.
    keep: 1.0 for each completion [P, G] or group [P, 1] to keep.
  """
  return jnp.where(keep[..., None] > 0, completion_mask, 0.0)


def valid_completions(
    format_valid: Float[Array, "P G"],
) -> Float[Array, "P G"]:
  """Keeps completions from which an answer could be parsed."""
  return (format_valid > 0).astype(format_valid.dtype)


def untruncated(truncated: Float[Array, "P G"]) -> Float[Array, "P G"]:
  """Keeps completions that ended by themselves (overlong filtering).

  See "DAPO" by Yu et al. (https://arxiv.org/abs/2503.14476).
  """
  return (truncated <= 0).astype(truncated.dtype)


def mixed_groups(correct: Float[Array, "P G"]) -> Float[Array, "P 1"]:
  """Keeps groups with 0 < #correct < G, the only ones GRPO learns from.

  See dynamic sampling in "DAPO" (https://arxiv.org/abs/2503.14476).
  """
  return 1.0 - failed_groups(correct) - solved_groups(correct)


def failed_groups(correct: Float[Array, "P G"]) -> Float[Array, "P 1"]:
  """Keeps groups in which no completion is correct."""
  return (jnp.max(correct, axis=1, keepdims=True) <= 0).astype(correct.dtype)


def solved_groups(correct: Float[Array, "P G"]) -> Float[Array, "P 1"]:
  """Keeps groups in which every completion is correct."""
  return (jnp.min(correct, axis=1, keepdims=True) > 0).astype(correct.dtype)


def nonzero_spread(rewards: Float[Array, "P G"]) -> Float[Array, "P 1"]:
  """Keeps groups whose rewards are not all equal."""
  highest = jnp.max(rewards, axis=1, keepdims=True)
  lowest = jnp.min(rewards, axis=1, keepdims=True)
  return (highest > lowest).astype(rewards.dtype)
