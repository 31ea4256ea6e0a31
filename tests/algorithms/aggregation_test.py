import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import aggregation

# Compiles faster, runs slower.
fast_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)
# Two groups of two; lengths 3, 1 and 2, 0: one completion has no tokens.
VALUES = jnp.array(
    [[[1.0, 2.0, 3.0], [10.0, 7.0, 7.0]], [[4.0, 6.0, 7.0], [7.0, 7.0, 7.0]]]
)
MASK = jnp.array(
    [[[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]
)


def constant_norm(values, mask):
  return aggregation.constant_norm(values, mask, length_constant=4.0)


def length_power_norm(values, mask):
  return aggregation.length_power_norm(
      values, mask, alpha=1.0, length_constant=4.0
  )


AGGREGATIONS = [
    aggregation.token_mean,
    aggregation.token_mean_prompt,
    aggregation.seq_mean,
    aggregation.seq_sum_mean,
    constant_norm,
    length_power_norm,
]


@functools.cache
def value_and_grad(aggregate):
  return fast_jit(jax.value_and_grad(aggregate))


@pytest.mark.parametrize(
    "aggregate, expected, weights",
    # The value, and the weight of a token of each completion that has any.
    [
        (aggregation.token_mean, 26 / 6, (1 / 6, 1 / 6, 1 / 6)),
        (
            aggregation.token_mean_prompt,
            (16 / 4 + 10 / 2) / 2,
            (1 / 8, 1 / 8, 1 / 4),
        ),
        (aggregation.seq_mean, (2 + 10 + 5) / 3, (1 / 9, 1 / 3, 1 / 6)),
        (aggregation.seq_sum_mean, 26 / 3, (1 / 3, 1 / 3, 1 / 3)),
        (constant_norm, 26 / 12, (1 / 12, 1 / 12, 1 / 12)),
        # 1/3 and 1 by their mean 2/3; the third is alone in its group.
        (
            length_power_norm,
            (6 / 2 + 10 * 3 / 2 + 10) / 12,
            (1 / 24, 1 / 8, 1 / 12),
        ),
    ],
)
def test_values_and_token_weights(aggregate, expected, weights):
  a, b, c = weights
  value, grads = value_and_grad(aggregate)(VALUES, MASK)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  expected_grads = [[[a, a, a], [b, 0, 0]], [[c, c, 0], [0, 0, 0]]]
  np.testing.assert_allclose(grads, expected_grads, rtol=1e-6)


@pytest.mark.parametrize("aggregate", AGGREGATIONS)
@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
def test_masked_slots_never_leak(aggregate, junk):
  dirty = jnp.where(MASK > 0, VALUES, junk)
  value, grads = value_and_grad(aggregate)(dirty, MASK)
  clean_value, clean_grads = value_and_grad(aggregate)(VALUES, MASK)
  np.testing.assert_array_equal(value, clean_value)
  np.testing.assert_array_equal(grads, clean_grads)


@pytest.mark.parametrize("aggregate", AGGREGATIONS)
@pytest.mark.parametrize("fill", [1.0, np.nan])
def test_nothing_but_masked_slots_is_zero(aggregate, fill):
  values = jnp.full((2, 2, 3), fill, jnp.float32)
  value, grads = value_and_grad(aggregate)(values, jnp.zeros((2, 2, 3)))
  assert float(value) == 0.0
  np.testing.assert_array_equal(grads, np.zeros((2, 2, 3)))


@pytest.mark.parametrize("aggregate", AGGREGATIONS)
def test_padding_changes_nothing(aggregate):
  pad = ((0, 0), (0, 0), (0, 5))
  padded = aggregate(
      jnp.pad(VALUES, pad, constant_values=9.0), jnp.pad(MASK, pad)
  )
  np.testing.assert_allclose(padded, aggregate(VALUES, MASK), rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 2.0])
def test_length_power_norm(alpha):
  # Sums 6 and 10 of lengths 3 and 1; the third completion has weight 1.
  powers = np.array([3.0**-alpha, 1.0])
  expected = (np.dot([6.0, 10.0], powers / powers.mean()) + 10.0) / 12.0
  value = fast_jit(aggregation.length_power_norm)(
      VALUES, MASK, alpha=alpha, length_constant=4.0
  )
  np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_length_power_norm_without_power_is_constant_norm():
  actual = aggregation.length_power_norm(
      VALUES, MASK, alpha=0.0, length_constant=4.0
  )
  np.testing.assert_array_equal(actual, constant_norm(VALUES, MASK))
