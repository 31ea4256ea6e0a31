import functools

import jax
import jax.numpy as jnp
import numpy as np

from poise_jax.algorithms import length_shaping

# Compiles faster, runs slower.
fast_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


def close(actual, expected, atol=2e-6):
  np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=atol)


def test_tempered_failures():
  adv = jnp.array([[1.0, -1.0, -1.0, -1.0, -1.0], [-1.0] * 5])
  lengths = jnp.array([[2.0, 1.0, 30.0, 7.0, 99.0], [5.0] * 5])
  valid = jnp.array([[1.0, 1.0, 1.0, 1.0, 0.0], [0.0] * 5])
  # Mean valid length 10: 1/10 is raised to .5, 30/10 cut to 2, 7/10 stays.
  expected = [[1.0, -2.0, -0.5, -1 / 0.7, -1.0], [-1.0] * 5]
  actual = length_shaping.tempered_failures(adv, lengths, valid)
  close(actual, expected)
  gentle = length_shaping.tempered_failures(
      adv, lengths, valid, low=1.0, high=1.25
  )
  close(gentle[0], [1.0, -1.0, -0.8, -1.0, -1.0])


def test_efficiency():
  lengths = jnp.array(
      [[2.0, 4.0, 6.0, 100.0], [5.0, 5.0, 5.0, 9.0], [3.0, 8.0, 9.0, 1.0]]
  )
  correct = jnp.array(
      [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
  )
  # Correct lengths 2, 4, 6: population deviation sqrt(8/3).
  z = 2.0 / (8.0 / 3.0) ** 0.5
  actual = fast_jit(length_shaping.efficiency)(lengths, correct)
  close(actual[0], [z, 0.0, -z, 0.0])
  np.testing.assert_array_equal(actual[1:], np.zeros((2, 4)))
  none = fast_jit(length_shaping.efficiency)(lengths, jnp.zeros((3, 4)))
  np.testing.assert_array_equal(none, np.zeros((3, 4)))


# Correct lengths 2 and 4 of mean 3; 1, 1, 1, 5 of mean 2; none correct.
LENGTHS = jnp.array([[2.0, 4.0, 9.0, 1.0], [1, 1, 1, 5], [3, 8, 9, 1]])
CORRECT = jnp.array([[1.0, 1.0, 0.0, 0.0], [1, 1, 1, 1], [0, 0, 0, 0]])


def test_over_length_only_penalises():
  actual = length_shaping.over_length(LENGTHS, CORRECT)
  close(actual, [[0.0, -1 / 3, 0.0, 0.0], [0, 0, 0, -1.5], [0, 0, 0, 0]])
  empty = length_shaping.over_length(jnp.zeros((1, 4)), jnp.ones((1, 4)))
  np.testing.assert_array_equal(empty, np.zeros((1, 4)))
  lone = length_shaping.over_length(LENGTHS[:1], jnp.array([[0, 0, 1.0, 0]]))
  np.testing.assert_array_equal(lone, np.zeros((1, 4)))


def test_relative_length():
  actual = length_shaping.relative_length(LENGTHS, CORRECT)
  close(actual, [[1 / 3, -1 / 3, 0.0, 0.0], [0.5] * 3 + [-1.5], [0.0] * 4])
  # The epsilon is added to the mean: 1 / (3 + 1) and 1 / (2 + 1).
  actual = length_shaping.relative_length(LENGTHS, CORRECT, epsilon=1.0)
  close(actual, [[0.25, -0.25, 0, 0], [1 / 3] * 3 + [-1.0], [0.0] * 4])
  empty = length_shaping.relative_length(jnp.zeros((1, 4)), jnp.ones((1, 4)))
  np.testing.assert_array_equal(empty, np.zeros((1, 4)))


def test_length_power():
  # Mean 5: relative lengths 1/5 and 9/5.
  adv = jnp.array([[1.0, 1.0, -3.0, -3.0], [0.0, 0.0, -2.0, 2.0]])
  lengths = jnp.array([[1.0, 9.0, 1.0, 9.0]] * 2)
  longer = length_shaping.length_power(adv, lengths, power=0.5)
  low, high = 0.2**0.5, 1.8**0.5
  close(longer, [[low, high, -3 / low, -3 / high], [0, 0, -2 / low, 2 * high]])
  shorter = length_shaping.length_power(adv, lengths, power=-0.5)
  close(shorter[0], [1 / low, 1 / high, -3 * low, -3 * high])
  same = length_shaping.length_power(adv, lengths, power=0.0)
  np.testing.assert_array_equal(same, adv)


def test_length_power_without_tokens():
  # Relative lengths 2 and, for the empty one, 1.
  adv = jnp.array([[-1.0, -1.0], [-1.0, 1.0]])
  lengths = jnp.array([[4.0, 0.0], [0.0, 0.0]])
  actual = length_shaping.length_power(adv, lengths, power=1.0)
  close(actual, [[-0.5, -1.0], [-1.0, 1.0]])


def test_soft_overlong():
  # Free up to 12 tokens, then 1/4 for each, all of it from 16 on.
  lengths = jnp.array([[0.0, 12.0, 13.0, 14.0, 16.0, 99.0]])
  actual = length_shaping.soft_overlong(lengths, max_length=16.0, buffer=4.0)
  close(actual, [[0.0, 0.0, -0.25, -0.5, -1.0, -1.0]])


def test_gradients_are_stopped():
  def total(values):
    ones = jnp.ones_like(values)
    parts = [
        length_shaping.efficiency(values, ones),
        length_shaping.tempered_failures(-values, values, ones),
        length_shaping.over_length(values, ones),
        length_shaping.relative_length(values, ones),
        length_shaping.length_power(values, values, power=0.5),
        length_shaping.soft_overlong(values, max_length=4.0, buffer=4.0),
    ]
    return sum(jnp.sum(part**2) for part in parts)

  values = jnp.array([[3.0, 1.0, 2.0, 4.0]] * 2)
  np.testing.assert_array_equal(
      fast_jit(jax.grad(total))(values), np.zeros((2, 4))
  )
