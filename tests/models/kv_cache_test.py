"""Growing, tiling and writing the cache."""

import jax.numpy as jnp
import numpy as np

from poise_jax.models import kv_cache


def _cache(batch, heads, length, dim):
  size = batch * heads * length * dim
  keys = jnp.arange(size, dtype=jnp.float32).reshape(batch, heads, length, dim)
  return kv_cache.LayerCache(keys, -keys)


def test_extend_adds_empty_positions():
  cache = kv_cache.extend(_cache(1, 1, 2, 1), 3)
  np.testing.assert_array_equal(cache.keys[0, 0, :, 0], [0, 1, 0, 0, 0])
  np.testing.assert_array_equal(cache.values[0, 0, :, 0], [0, -1, 0, 0, 0])


def test_tile_repeats_rows_in_place():
  cache = kv_cache.tile(_cache(2, 1, 1, 1), 3)
  np.testing.assert_array_equal(cache.keys.ravel(), [0, 0, 0, 1, 1, 1])


def test_append_adds_after_what_is_there():
  cache = kv_cache.append(_cache(1, 1, 2, 1), *_cache(1, 1, 1, 1)[::-1])
  np.testing.assert_array_equal(cache.keys.ravel(), [0, 1, 0])
  assert cache.values.shape == (1, 1, 3, 1)


def test_update_writes_one_position_in_all_rows():
  cache = kv_cache.extend(_cache(2, 1, 1, 1), 2)
  one = jnp.full((2, 1, 1, 1), 9.0)
  cache = kv_cache.update(cache, jnp.int32(1), one, -one)
  np.testing.assert_array_equal(cache.keys[:, 0, :, 0], [[0, 9, 0], [1, 9, 0]])
