"""Rotary positions against float64 written out in numpy."""

import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.models import rotary


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
  angles = rotary.rotary_angles(positions, 8, 100.0)
  rotated = rotary.rotate(jnp.asarray(x, jnp.float32), angles)
  for s, position in enumerate([0, 5, 45]):
    expected = _rotated(x[0, 0, s], position, 100.0)
    np.testing.assert_allclose(rotated[0, 0, s], expected, atol=1e-5)


def test_scores_depend_on_distance_alone():
  rng = np.random.default_rng(1)
  q, k = jnp.asarray(rng.normal(size=(2, 1, 1, 1, 16)), jnp.float32)
  turn = lambda x, p: rotary.rotate(
      x, rotary.rotary_angles(jnp.array([p]), 16, 100.0)
  )
  near = jnp.sum(turn(q, 7) * turn(k, 4))
  far = jnp.sum(turn(q, 40) * turn(k, 37))
  assert float(near) == pytest.approx(float(far), abs=1e-4)


def test_each_row_may_have_positions_of_its_own():
  x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 3, 2, 8)), "f4")
  positions = jnp.array([[0, 3], [7, 1]])
  rows = rotary.rotate(x, rotary.rotary_angles(positions, 8, 100.0))
  for b in range(2):
    angles = rotary.rotary_angles(positions[b], 8, 100.0)
    alone = rotary.rotate(x[b : b + 1], angles)
    np.testing.assert_allclose(rows[b : b + 1], alone, atol=1e-6)


def test_linear_scaling_divides_positions():
  scaled = rotary.rotary_angles(jnp.array([6]), 8, 100.0, rotary.Linear(2.0))
  plain = rotary.rotary_angles(jnp.array([3]), 8, 100.0)
  np.testing.assert_allclose(scaled, plain, rtol=1e-6)


def test_llama3_scaling_by_hand():
  # 64 positions hold 64 / 2π · f turns: 16, 4 and 0.5 of them.
  frequencies = 2 * np.pi * np.array([16, 4, 0.5]) / 64
  scaling = rotary.Llama3(8.0, 1.0, 7.0, 64)
  # Kept whole; kept half, (4 - 1) / (7 - 1); stretched 8 times.
  expected = frequencies * [1.0, 0.5 + 0.5 / 8, 1 / 8]
  found = scaling(jnp.asarray(frequencies, jnp.float32))
  np.testing.assert_allclose(found, expected, rtol=1e-6)
