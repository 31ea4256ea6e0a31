"""From logits to tokens: inverse-CDF sampling, filters and greedy choice."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

# Maps logits and one uniform number a row to token ids.
Sampler = Callable[[Float[Array, "B V"], Float[Array, "B"]], Int[Array, "B"]]

# Vocabularies up to this are summed in one go, larger ones in blocks.
_BLOCK = 1024


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
  In a large vocabulary the block is found first, then the token in it.
  """
  probabilities = jax.nn.softmax(logits, axis=-1)
  if logits.shape[-1] > _BLOCK:
    return _sample_in_blocks(probabilities, uniforms)
  cumulative = jnp.cumsum(probabilities, axis=-1)
  thresholds = uniforms[:, None] * cumulative[:, -1:]
  tokens = jnp.sum(cumulative <= thresholds, axis=-1)
  return jnp.minimum(tokens, logits.shape[-1] - 1)


def _sample_in_blocks(
    probabilities: Float[Array, "B V"], uniforms: Float[Array, "B"]
) -> Int[Array, "B"]:
  rows, size = probabilities.shape
  padded = jnp.pad(probabilities, ((0, 0), (0, -size % _BLOCK)))
  blocks = padded.reshape(rows, -1, _BLOCK)
  before = jnp.cumsum(jnp.sum(blocks, axis=-1), axis=-1)
  thresholds = uniforms[:, None] * before[:, -1:]
  block = _first_above(before, thresholds)
  take = lambda x, i: jnp.take_along_axis(x, i[:, None], axis=1)
  reached = jnp.where(block > 0, take(before, block - 1)[:, 0], 0.0)
  within = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
  token = _first_above(
      jnp.cumsum(within, axis=-1), thresholds - reached[:, None]
  )
  return block * _BLOCK + token


def _first_above(
    cumulative: Float[Array, "B N"], thresholds: Float[Array, "B 1"]
) -> Int[Array, "B"]:
  """First entry above the threshold, or the last that adds anything.

  Rounding may leave no entry above it.
  """
  last = jnp.sum(cumulative < cumulative[:, -1:], axis=-1)
  return jnp.minimum(jnp.sum(cumulative <= thresholds, axis=-1), last)


def greedy(
    logits: Float[Array, "B V"], uniforms: Float[Array, "B"]
) -> Int[Array, "B"]:
  """Chooses the most probable token; of equals, the first."""
  del uniforms
  return jnp.argmax(logits, axis=-1)


def filtered(top_k: int = 0, top_p: float = 1.0) -> Sampler:
  """Makes a sampler that leaves out improbable tokens.

  First all but the `top_k` most probable ones, then of those all that come
  after a total probability of `top_p`, the one that reaches it included. Ties
  at a border stay. What is left is sampled in proportion.

  Args:
    top_k: how many; 0 is all.
    top_p: which total; 1 is all.

  Raises:
    ValueError: if `top_k` is negative or `top_p` not in (0, 1].
  """
  if top_k < 0:
    raise ValueError(f"`top_k` must be >= 0 tokens, got {top_k}; 0 is all")
  if not 0 < top_p <= 1:
    raise ValueError(f"`top_p` must be in (0, 1], got {top_p}; 1 is all")
  if not top_k and top_p == 1:
    return sample

  def sampler(
      logits: Float[Array, "B V"], uniforms: Float[Array, "B"]
  ) -> Int[Array, "B"]:
    if top_k and top_k < logits.shape[-1]:
      least = jax.lax.top_k(logits, top_k)[0][:, -1:]
      logits = jnp.where(logits < least, -jnp.inf, logits)
    if top_p < 1:
      ordered = jnp.sort(logits, axis=-1, descending=True)
      probabilities = jax.nn.softmax(ordered, axis=-1)
      before = jnp.cumsum(probabilities, axis=-1) - probabilities
      least = jnp.min(
          jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True
      )
      logits = jnp.where(logits < least, -jnp.inf, logits)
    return sample(logits, uniforms)

  return sampler
