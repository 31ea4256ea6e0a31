"""Attention against float64 written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.models import attention


@pytest.mark.parametrize("heads, kv_heads", [(2, 2), (4, 2), (4, 1)])
def test_attend_against_loops(heads, kv_heads):
  rng = np.random.default_rng(2)
  queries = rng.normal(size=(2, heads, 3, 4))
  keys, values = rng.normal(size=(2, 2, kv_heads, 5, 4))
  mask = np.tril(np.ones((3, 5), bool), k=2)
  found = attention.attend(
      *(jnp.asarray(x, jnp.float32) for x in (queries, keys, values)),
      jnp.asarray(mask),
  )
  for b in range(2):
    for h in range(heads):
      shared = h // (heads // kv_heads)
      for s in range(3):
        scores = keys[b, shared] @ queries[b, h, s] / 2.0
        weights = np.where(mask[s], np.exp(scores - scores.max()), 0.0)
        expected = weights @ values[b, shared] / weights.sum()
        np.testing.assert_allclose(found[b, h, s], expected, atol=1e-5)


def test_masked_keys_have_no_gradient():
  keys = jnp.ones((1, 1, 4, 2))
  mask = jnp.array([[True, True, False, False]])
  gradient = jax.grad(
      lambda v: jnp.sum(attention.attend(keys[:, :, :1], keys, v, mask))
  )(keys)
  np.testing.assert_array_equal(gradient[0, 0, 2:], 0)
  assert (gradient[0, 0, :2] > 0).all()


def test_no_queries_mix_nothing():
  keys = jnp.ones((2, 1, 5, 4))
  found = attention.attend(
      jnp.ones((2, 2, 0, 4)), keys, keys, jnp.ones((0, 5), bool)
  )
  assert found.shape == (2, 2, 0, 4)
