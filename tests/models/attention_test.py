"""Attention and rotary positions against float64 written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.models import attention


def _rotated(x, position, theta):
  """Turns one vector the way the RoFormer paper draws it."""
  half = len(x) // 2
  turned = np.empty(len(x))
  for j in range(half):
    angle = position * theta ** (-2 * j / len(x))
    c, s = np.cos(angle), np.sin(angle)
    turned[j] = x[j] * c - x[j + half] * s
    turned[j + half] = x[j + half] * c + x[j] * s
  return turned


def test_rotation_of_each_pair():
  x = np.random.default_rng(0).normal(size=(1, 1, 3, 8))
  positions = jnp.array([0, 5, 45])
  angles = attention.rotary_angles(positions, 8, 100.0)
  rotated = attention.rotate(jnp.asarray(x, jnp.float32), angles)
  for s, position in enumerate([0, 5, 45]):
    expected = _rotated(x[0, 0, s], position, 100.0)
    np.testing.assert_allclose(rotated[0, 0, s], expected, atol=1e-5)


def test_scores_depend_on_distance_alone():
  rng = np.random.default_rng(1)
  q, k = jnp.asarray(rng.normal(size=(2, 1, 1, 1, 16)), jnp.float32)
  turn = lambda x, p: attention.rotate(
      x, attention.rotary_angles(jnp.array([p]), 16, 100.0)
  )
  near = jnp.sum(turn(q, 7) * turn(k, 4))
  far = jnp.sum(turn(q, 40) * turn(k, 37))
  assert float(near) == pytest.approx(float(far), abs=1e-4)


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
