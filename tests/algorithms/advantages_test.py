import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import advantages

# Compiles faster, runs slower.
fast_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)
# Two groups of four: one success of four, three successes of four.
REWARDS = jnp.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
ROOT3 = 3.0**0.5


def close(actual, expected, atol=2e-6):
  np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=atol)


def test_group_statistics():
  close(advantages.group_mean(REWARDS), [[0.25], [0.75]])
  close(advantages.group_pass_rate(REWARDS), [[0.25], [0.75]])
  close(advantages.group_std(REWARDS), [[ROOT3 / 4], [ROOT3 / 4]])
  close(advantages.group_std(REWARDS, ddof=1), [[0.5], [0.5]])


def test_beta_mean_pulls_to_the_prior_and_counts_the_subset_only():
  subset = jnp.array([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
  mean = advantages.beta_mean(REWARDS, subset, alpha=1.0, beta=3.0)
  close(mean, [[2.0 / 7.0], [0.25]])


def test_group_centered():
  expected = [[0.75, -0.25, -0.25, -0.25], [0.25, 0.25, 0.25, -0.75]]
  close(advantages.group_centered(REWARDS), expected)


def test_group_normalized():
  expected = [
      [ROOT3, -1 / ROOT3, -1 / ROOT3, -1 / ROOT3],
      [1 / ROOT3, 1 / ROOT3, 1 / ROOT3, -ROOT3],
  ]
  close(advantages.group_normalized(REWARDS, epsilon=0.0), expected)
  # The sample deviation is 2 / sqrt(3) times larger in a group of four.
  close(
      advantages.group_normalized(REWARDS, ddof=1, epsilon=0.0),
      np.array(expected) * ROOT3 / 2,
  )
  # epsilon stands outside the root: 0.75 / (sqrt(3)/4 + 1).
  damped = advantages.group_normalized(REWARDS, epsilon=1.0)
  close(damped[0, 0], 0.75 / (ROOT3 / 4 + 1.0))


@pytest.mark.parametrize("ddof", [0, 1])
def test_group_normalized_sums_to_zero(ddof):
  rewards = 100.0 + np.random.default_rng(0).normal(size=(2, 4))
  normalized = advantages.group_normalized(
      jnp.asarray(rewards, jnp.float32), ddof=ddof
  )
  close(np.sum(normalized, axis=1), np.zeros(2), atol=1e-4)
  close(np.std(normalized, axis=1, ddof=ddof), np.ones(2), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 7), (2, 8), (3, 1)])
def test_equal_rewards_give_exactly_zero(shape):
  # The mean of seven times 1000.1 in float32 is not 1000.1.
  def estimates(r):
    return {
        "centered": advantages.group_centered(r),
        "normalized": advantages.group_normalized(r),
        "sample": advantages.group_normalized(r, ddof=1),
        "leave_one_out": advantages.leave_one_out(r),
        "batch_centered": advantages.batch_centered(r),
        "batch_normalized": advantages.batch_normalized(r),
        "analytic": advantages.analytic_variance(r, sigma_min=1e-6),
    }

  for actual in fast_jit(estimates)(jnp.full(shape, 1000.1)).values():
    np.testing.assert_array_equal(actual, np.zeros(shape))


def test_large_rewards_do_not_cancel():
  rewards = 4096.0 + REWARDS
  close(
      advantages.group_normalized(rewards),
      advantages.group_normalized(REWARDS),
  )
  close(
      advantages.analytic_variance(rewards, sigma_min=0.1)[0],
      [ROOT3, -1 / ROOT3, -1 / ROOT3, -1 / ROOT3],
  )


def test_leave_one_out():
  third = 1.0 / 3.0
  expected = [[1.0, -third, -third, -third], [third, third, third, -1.0]]
  close(advantages.leave_one_out(REWARDS), expected)


def test_batch_centered_keeps_a_signal_in_equal_groups():
  rewards = jnp.array([[1.0, 1.0], [0.0, 1.0]])
  expected = [[0.25, 0.25], [-0.75, 0.25]]
  close(advantages.batch_centered(rewards), expected)


def test_batch_normalized():
  # Centred: .75 and thrice -.25, then four zeros; mean square .75 / 8.
  rewards = jnp.array([[1.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
  rms = (0.75 / 8) ** 0.5
  expected = np.array([[0.75, -0.25, -0.25, -0.25], [0, 0, 0, 0]]) / rms
  close(advantages.batch_normalized(rewards, epsilon=0.0), expected)
  clipped = advantages.batch_normalized(rewards, clip=0.5, epsilon=0.0)
  close(clipped, [[0.5, -0.5, -0.5, -0.5], [0, 0, 0, 0]])
  damped = advantages.batch_normalized(rewards, epsilon=1.0)
  close(damped[0, 0], 0.75 / (rms + 1.0))


def test_analytic_variance_is_the_bernoulli_deviation_with_a_floor():
  close(
      advantages.analytic_variance(REWARDS, sigma_min=0.1)[0],
      np.array([0.75, -0.25, -0.25, -0.25]) / (0.25 * 0.75) ** 0.5,
  )
  close(
      advantages.analytic_variance(REWARDS, sigma_min=0.5)[0],
      [1.5, -0.5, -0.5, -0.5],
  )


@pytest.mark.parametrize(
    "n_correct, positive, negative",
    # One success of eight and so on, Beta(1, 1): (k + 1) / 10.
    [
        (0, None, -1 / 3),
        (1, 2.0, -0.5),
        (4, 1, -1),
        (7, 0.5, -2),
        (8, 1 / 3, None),
    ],
)
def test_beta_smoothed_valid_uniform_prior(n_correct, positive, negative):
  rewards = jnp.array([[1.0] * n_correct + [0.0] * (8 - n_correct)])
  actual = advantages.beta_smoothed_valid(
      rewards,
      jnp.ones((1, 8)),
      alpha=1.0,
      beta=1.0,
      sigma_floor=0.1,
      invalid_advantage=-3.5,
  )
  expected = [positive] * n_correct + [negative] * (8 - n_correct)
  close(actual, [expected])


def test_beta_smoothed_valid_masks_floors_and_spares_empty_groups():
  rewards = jnp.array([[1.0, 0.0, 0.0, -1.0], [-1.0, 0.0, 0.0, 0.0]])
  valid = jnp.array([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
  kwargs = {"alpha": 1.0, "beta": 1.0, "invalid_advantage": -3.5}
  actual = advantages.beta_smoothed_valid(
      rewards, valid, sigma_floor=0.1, **kwargs
  )
  sigma = 0.24**0.5
  close(actual, [[0.6 / sigma, -0.4 / sigma, -0.4 / sigma, -3.5], [0, 0, 0, 0]])
  floored = advantages.beta_smoothed_valid(
      rewards, valid, sigma_floor=2.0, **kwargs
  )
  close(floored[0], [0.3, -0.2, -0.2, -3.5])


def test_relative_length_tempered():
  adv = jnp.array([[1.0, -1.0, -1.0, -1.0, -1.0], [-1.0] * 5])
  lengths = jnp.array([[2.0, 1.0, 30.0, 7.0, 99.0], [5.0] * 5])
  valid = jnp.array([[1.0, 1.0, 1.0, 1.0, 0.0], [0.0] * 5])
  # Mean valid length 10: 1/10 is raised to .5, 30/10 cut to 2, 7/10 stays.
  expected = [[1.0, -2.0, -0.5, -1 / 0.7, -1.0], [-1.0] * 5]
  actual = advantages.relative_length_tempered(adv, lengths, valid)
  close(actual, expected)
  gentle = advantages.relative_length_tempered(
      adv, lengths, valid, low=1.0, high=1.25
  )
  close(gentle[0], [1.0, -1.0, -0.8, -1.0, -1.0])


def test_length_efficiency():
  lengths = jnp.array(
      [[2.0, 4.0, 6.0, 100.0], [5.0, 5.0, 5.0, 9.0], [3.0, 8.0, 9.0, 1.0]]
  )
  correct = jnp.array(
      [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
  )
  # Correct lengths 2, 4, 6: population deviation sqrt(8/3).
  z = 2.0 / (8.0 / 3.0) ** 0.5
  actual = fast_jit(advantages.length_efficiency)(lengths, correct)
  close(actual[0], [z, 0.0, -z, 0.0])
  np.testing.assert_array_equal(actual[1:], np.zeros((2, 4)))
  none = fast_jit(advantages.length_efficiency)(lengths, jnp.zeros((3, 4)))
  np.testing.assert_array_equal(none, np.zeros((3, 4)))


def test_fixed_failure_speaks_only_where_nobody_succeeds():
  rewards = jnp.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
  valid = jnp.array([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
  actual = advantages.fixed_failure(rewards, valid)
  close(actual, [[-0.5, -2.0, -0.5], [0.0, 0.0, 0.0]])
  other = advantages.fixed_failure(rewards, valid, invalid=-3.0, wrong=-1.0)
  close(other[0], [-1.0, -3.0, -1.0])


def test_difficulty_weight():
  weight = advantages.difficulty_weight(REWARDS, strength=2.0)
  close(weight, [[2.5], [1.5]])


def test_gradients_are_stopped():
  def total(rewards):
    valid = jnp.ones_like(rewards)
    parts = [
        advantages.group_normalized(rewards),
        advantages.leave_one_out(rewards),
        advantages.batch_centered(rewards),
        advantages.batch_normalized(rewards),
        advantages.analytic_variance(rewards, sigma_min=0.1),
        advantages.length_efficiency(rewards, valid),
        advantages.relative_length_tempered(-rewards, valid, valid),
        advantages.beta_smoothed_valid(
            rewards,
            valid,
            alpha=1.0,
            beta=1.0,
            sigma_floor=0.1,
            invalid_advantage=-3.5,
        ),
    ]
    return sum(jnp.sum(part**2) for part in parts)

  np.testing.assert_array_equal(
      fast_jit(jax.grad(total))(REWARDS), np.zeros((2, 4))
  )
