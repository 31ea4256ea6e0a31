"""The flattened product is the product."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from poise_jax.models import dense


def test_leading_axes_are_kept():
  layer = dense.Dense(3, 2, rngs=nnx.Rngs(0))
  x = jnp.arange(24.0).reshape(2, 4, 3)
  expected = np.asarray(x, np.float64) @ np.asarray(layer.kernel[...])
  np.testing.assert_allclose(layer(x), expected, rtol=1e-6)


def test_nothing_maps_to_nothing():
  """A completion of one token has no token before it that is decoded."""
  layer = dense.Dense(3, 2, rngs=nnx.Rngs(0))
  assert layer(jnp.zeros((2, 0, 3))).shape == (2, 0, 2)
  grads = nnx.grad(lambda m: jnp.sum(m(jnp.zeros((0, 5, 3)))))(layer)
  np.testing.assert_array_equal(grads["kernel"][...], np.zeros((3, 2)))


def test_gradient_is_that_of_the_plain_product():
  layer = dense.Dense(3, 2, rngs=nnx.Rngs(0))
  x = jnp.arange(24.0).reshape(2, 4, 3)
  grads = nnx.grad(lambda m: jnp.sum(m(x) ** 2))(layer)
  flat = np.asarray(x, np.float64).reshape(-1, 3)
  kernel = np.asarray(layer.kernel[...], np.float64)
  np.testing.assert_allclose(
      grads["kernel"][...], 2 * flat.T @ (flat @ kernel), rtol=1e-5
  )
  assert jax.tree.leaves(grads["bias"])[0].shape == (2,)
