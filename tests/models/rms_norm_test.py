"""Normalisation by hand."""

import jax.numpy as jnp
import numpy as np

from poise_jax.models import rms_norm


def test_rms_norm_by_hand():
  norm = rms_norm.RMSNorm(2, epsilon=0.0)
  # rms([3, 4]) = sqrt(12.5)
  np.testing.assert_allclose(
      norm(jnp.array([[3.0, 4.0]])), [[3 / 12.5**0.5, 4 / 12.5**0.5]], rtol=1e-6
  )


def test_half_precision_is_normalised_in_f32():
  norm = rms_norm.RMSNorm(2, epsilon=0.0)
  # The square of 300 overflows float16.
  x = jnp.array([[300.0, 400.0]], jnp.float16)
  found = norm(x)
  assert found.dtype == jnp.float16
  np.testing.assert_allclose(found, [[0.6 * 2**0.5, 0.8 * 2**0.5]], rtol=1e-3)
