import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import corrections

# Compiles faster, runs slower.
fast_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)
# Weights per token: completion 0 has 2, 1/4, 4; completion 1 has 6, a masked
# slot full of junk and another 1/3; completion 2 has no token. Products 2, 2,
# 1; geometric means cbrt(2), sqrt(2), 1.
WEIGHTS = np.array([[[2.0, 0.25, 4.0], [6.0, 1.0, 1 / 3], [1.0, 1.0, 1.0]]])
MASK = jnp.array([[[1.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])
JUNK = jnp.array([[[0.0, 0.0, 0.0], [0.0, np.nan, 0.0], [np.inf] * 3]])
SAMPLER = jnp.full((1, 3, 3), -1.5) + JUNK
OLD = jnp.asarray(np.log(WEIGHTS) - 1.5, jnp.float32) - JUNK

EVERY = [
    (corrections.truncated_token, {"cap": 3.0}),
    (corrections.truncated_sequence, {"cap": 3.0}),
    (corrections.icepop, {"low": 0.5, "high": 5.0}),
    (corrections.sequence_mask, {"cap": 3.0}),
    (corrections.geometric_filter, {"low": 0.5, "high": 2.0}),
]


def weights(correction, old=OLD, sampler=SAMPLER, mask=MASK, **bounds):
  bounds = {key: jnp.float32(value) for key, value in bounds.items()}
  return np.asarray(fast_jit(correction)(old, sampler, mask, **bounds))


def repeated(rows):
  return np.repeat(np.array(rows)[None, :, None], 3, axis=2)


@pytest.mark.parametrize(
    "correction, bounds, expected",
    [
        (
            corrections.truncated_token,
            {"cap": 3.0},
            [[[2, 0.25, 3], [3, 1, 1 / 3], [1, 1, 1]]],
        ),
        (
            corrections.icepop,
            {"low": 0.3, "high": 5.0},
            [[[2, 0, 4], [0, 1, 1 / 3], [1, 1, 1]]],
        ),
        (
            corrections.icepop,
            {"low": 0.5, "high": 3.0},
            [[[2, 0, 0], [0, 1, 0], [1, 1, 1]]],
        ),
        (corrections.truncated_sequence, {"cap": 3.0}, repeated([2, 2, 1])),
        (corrections.truncated_sequence, {"cap": 1.5}, repeated([1.5, 1.5, 1])),
        (corrections.sequence_mask, {"cap": 3.0}, repeated([2, 2, 1])),
        (corrections.sequence_mask, {"cap": 1.5}, repeated([0, 0, 1])),
        # Between cbrt(2) = 1.26 and sqrt(2) = 1.41.
        (
            corrections.geometric_filter,
            {"low": 0.9, "high": 1.3},
            repeated([1, 0, 1]),
        ),
        (
            corrections.geometric_filter,
            {"low": 1.3, "high": 9.0},
            repeated([0, 1, 0]),
        ),
    ],
)
def test_values(correction, bounds, expected):
  np.testing.assert_allclose(weights(correction, **bounds), expected, rtol=2e-6)


@pytest.mark.parametrize("correction, bounds", EVERY)
def test_bounds_are_inclusive(correction, bounds):
  # On the very edge: with w = 1 everywhere and every bound 1, nothing goes.
  same = jnp.full((1, 3, 3), -1.5)
  kept = weights(correction, same, same, **dict.fromkeys(bounds, 1.0))
  np.testing.assert_array_equal(kept, 1.0)


@pytest.mark.parametrize("correction, bounds", EVERY)
def test_weights_are_constants(correction, bounds):
  def total(old, sampler):
    return jnp.sum(correction(old, sampler, MASK, **bounds))

  for slopes in fast_jit(jax.grad(total, argnums=(0, 1)))(OLD, SAMPLER):
    np.testing.assert_array_equal(slopes, np.zeros((1, 3, 3)))


@pytest.mark.parametrize(
    "correction, bounds, far_above, far_below",
    [
        (corrections.truncated_token, {"cap": 3.0}, 3.0, np.exp(-20)),
        (corrections.truncated_sequence, {"cap": 3.0}, 3.0, np.exp(-20)),
        (corrections.icepop, {"low": 0.5, "high": 5.0}, 0.0, 0.0),
        (corrections.sequence_mask, {"cap": 3.0}, 0.0, np.exp(-20)),
        (corrections.geometric_filter, {"low": 0.5, "high": 2.0}, 0.0, 0.0),
    ],
)
def test_far_apart_stays_finite(correction, bounds, far_above, far_below):
  # 60 nats a token, 180 a completion: exp of either overflows or vanishes.
  old = jnp.repeat(jnp.array([[[60.0], [-60.0]]]), 3, axis=2)
  actual = weights(
      correction, old, jnp.zeros((1, 2, 3)), jnp.ones((1, 2, 3)), **bounds
  )
  expected = repeated([far_above, far_below])
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=0)


def test_product_grows_with_length_and_the_geometric_mean_does_not():
  # 0.012 nats a token: after 128 tokens the product is exp(1.536) = 4.6.
  old = jnp.full((1, 1, 128), -1.0)
  sampler, mask = old - 0.012, jnp.ones((1, 1, 128))
  dropped = weights(corrections.sequence_mask, old, sampler, mask, cap=3.0)
  np.testing.assert_array_equal(dropped, 0.0)
  kept = weights(
      corrections.geometric_filter, old, sampler, mask, low=0.98, high=1.02
  )
  np.testing.assert_array_equal(kept, 1.0)
