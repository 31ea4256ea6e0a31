"""From logits to tokens: inverse-CDF sampling and greedy choice."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

# Maps logits and one uniform number a row to token ids.
Sampler = Callable[[Float[Array, "B V"], Float[Array, "B"]], Int[Array, "B"]]


def row_uniforms(
    key: Key[Array, ""], rows: Int[Array, "B"], length: int
) -> Float[Array, "B T"]:
  """Uniform numbers that depend on a row's number and not on its neighbours.

  Row i gets uniform(fold_in(key, i)), so a completion is the same in any batch.
  """
  draw = lambda row: jax.random.uniform(jax.random.fold_in(key, row), (length,))
  return jax.vmap(draw)(rows)


def sample(
    logits: Float[Array, "B V"], uniforms: Float[Array, "B"]
) -> Int[Array, "B"]:
  """Draws from softmax(logits) by inverting its distribution function.

    token = #{v : F(v) <= u · F(V)}

  One uniform number a row, where the Gumbel trick needs one a vocabulary entry.
  """
  cumulative = jnp.cumsum(jax.nn.softmax(logits, axis=-1), axis=-1)
  thresholds = uniforms[:, None] * cumulative[:, -1:]
  tokens = jnp.sum(cumulative <= thresholds, axis=-1)
  return jnp.minimum(tokens, logits.shape[-1] - 1)


def greedy(
    logits: Float[Array, "B V"], uniforms: Float[Array, "B"]
) -> Int[Array, "B"]:
  """Chooses the most probable token; of equals, the first."""
  del uniforms
  return jnp.argmax(logits, axis=-1)
