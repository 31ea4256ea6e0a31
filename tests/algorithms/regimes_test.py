import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import advantages, regimes

# Compiles faster, runs slower.
fast_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)
# Two groups of four: one success of four, three successes of four.
REWARDS = jnp.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]])


def close(actual, expected, atol=2e-6):
  np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=atol)


def test_beta_mean_pulls_to_the_prior_and_counts_the_subset_only():
  subset = jnp.array([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
  mean = regimes.beta_mean(REWARDS, subset, alpha=1.0, beta=3.0)
  close(mean, [[2.0 / 7.0], [0.25]])


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
  actual = regimes.beta_smoothed_valid(
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
  actual = regimes.beta_smoothed_valid(
      rewards, valid, sigma_floor=0.1, **kwargs
  )
  sigma = 0.24**0.5
  close(actual, [[0.6 / sigma, -0.4 / sigma, -0.4 / sigma, -3.5], [0, 0, 0, 0]])
  floored = regimes.beta_smoothed_valid(
      rewards, valid, sigma_floor=2.0, **kwargs
  )
  close(floored[0], [0.3, -0.2, -0.2, -3.5])


def test_fixed_failure_speaks_only_where_nobody_succeeds():
  rewards = jnp.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
  valid = jnp.array([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
  actual = regimes.fixed_failure(rewards, valid)
  close(actual, [[-0.5, -2.0, -0.5], [0.0, 0.0, 0.0]])
  other = regimes.fixed_failure(rewards, valid, invalid=-3.0, wrong=-1.0)
  close(other[0], [-1.0, -3.0, -1.0])


def test_difficulty_weight():
  weight = regimes.difficulty_weight(REWARDS, strength=2.0)
  close(weight, [[2.5], [1.5]])


def rewards_of(n_correct, size=8):
  return jnp.array([[1.0] * n_correct + [0.0] * (size - n_correct)])


# Advantage of a right and of a wrong answer among eight, to two decimals, as
# worked out by hand for the reference notes: population deviation, then the
# priors Beta(1, 1), (1/2, 1/2), (1/10, 9/10) and (1, 9).
PRIORS = [(1.0, 1.0), (0.5, 0.5), (0.1, 0.9), (1.0, 9.0)]
TABLE = {
    0: [(None, 0), (None, -0.33), (None, -0.24), (None, -0.11), (None, -0.24)],
    1: [(2.65, -0.38), (2, -0.5), (2.24, -0.45), (2.68, -0.37), (2.83, -0.35)],
    2: [
        (1.73, -0.58),
        (1.53, -0.65),
        (1.61, -0.62),
        (1.81, -0.55),
        (2.24, -0.45),
    ],
    4: [(1, -1), (1, -1), (1, -1), (1.09, -0.91), (1.61, -0.62)],
    7: [(0.38, -2.65), (0.5, -2), (0.45, -2.24), (0.52, -1.93), (1.12, -0.89)],
    8: [(0, None), (0.33, None), (0.24, None), (0.33, None), (1.0, None)],
}


@pytest.mark.parametrize("n_correct", TABLE)
def test_table_of_advantages(n_correct):
  rewards = rewards_of(n_correct)
  columns = [advantages.analytic_variance(rewards, sigma_min=1e-3)]
  for alpha, beta in PRIORS:
    columns.append(
        regimes.beta_smoothed_valid(
            rewards,
            jnp.ones((1, 8)),
            alpha=alpha,
            beta=beta,
            sigma_floor=1e-3,
            invalid_advantage=-3.5,
        )
    )
  for column, (positive, negative) in zip(
      columns, TABLE[n_correct], strict=True
  ):
    expected = [positive] * n_correct + [negative] * (8 - n_correct)
    np.testing.assert_allclose(column, [expected], rtol=0, atol=0.00501)


@pytest.mark.parametrize("n_correct, total", [(0, -8 / 3), (1, -1.5), (4, 0.0)])
def test_smoothed_advantages_do_not_sum_to_zero(n_correct, total):
  # Beta(1, 1): eight times -1/3, then 2 - 7/2, then 4 - 4.
  for k, sign in ((n_correct, 1), (8 - n_correct, -1)):
    adv = regimes.optimistic_outcome(
        rewards_of(k), alpha=1.0, beta=1.0, sigma_floor=0.1
    )
    close(jnp.sum(adv), sign * total, atol=5e-6)


def test_masking_ends_the_reward_for_valid_wrong_answers():
  # One right, four wrong, three invalid, with rewards 1, 0 and -1: mean -1/4
  # and deviation sqrt(7)/4, hence 5, 1 and -3 over sqrt(7). On the valid five
  # alone: 2/7 and sqrt(10)/7.
  rewards = jnp.array([[1.0, 0, 0, 0, 0, -1, -1, -1]])
  valid = jnp.array([[1.0] * 5 + [0.0] * 3])
  unmasked = advantages.analytic_variance(rewards, sigma_min=0.1)
  root7, root10 = 7**0.5, 10**0.5
  expected = [5 / root7] + [1 / root7] * 4 + [-3 / root7] * 3
  close(unmasked, [expected])
  masked = regimes.beta_smoothed_valid(
      rewards,
      valid,
      alpha=1.0,
      beta=1.0,
      sigma_floor=0.1,
      invalid_advantage=-3.5,
  )
  close(masked, [[5 / root10] + [-2 / root10] * 4 + [-3.5] * 3])
  # The figures as the reference notes print them.
  np.testing.assert_allclose(
      unmasked[0, [0, 1, 5]], [1.89, 0.38, -1.13], atol=0.005
  )
  np.testing.assert_allclose(masked[0, :2], [1.58, -0.63], atol=0.005)


def test_optimistic_baseline():
  # (k + 3) / (4 + 3 + 1) for k = 1 and 3: above 1/4, and 3/4 = 3/(3 + 1).
  actual = regimes.optimistic_baseline(REWARDS, alpha=3.0, beta=1.0)
  close(actual, [[0.5], [0.75]])


def test_optimistic_outcome_has_no_silent_regime():
  # b = 1/6, 1/2 and 5/6 for 0, 2 and 4 right of four; 1/6 over 2 at last.
  kwargs = {"alpha": 1.0, "beta": 1.0}
  root5 = 5**0.5
  for k, wrong, right in (
      (0, -1 / root5, None),
      (2, -1, 1),
      (4, None, 1 / root5),
  ):
    adv = regimes.optimistic_outcome(
        rewards_of(k, 4), sigma_floor=0.1, **kwargs
    )
    close(adv, [[right] * k + [wrong] * (4 - k)])
  floored = regimes.optimistic_outcome(
      rewards_of(0, 4), sigma_floor=2.0, **kwargs
  )
  close(floored, [[-1 / 12] * 4])


def test_anchored_std():
  # One of four right: sqrt(3)/4, whatever the rewards. All wrong: rewards
  # 0, 0, 0, -2 spread by sqrt(3)/2. All equal: 0.
  correct = jnp.array([[1.0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
  rewards = jnp.array([[1.0, 0, -1, -1], [0, 0, 0, -2], [1, 1, 1, 1]])
  actual = regimes.anchored_std(correct, rewards)
  close(actual, [[3**0.5 / 4], [3**0.5 / 2], [0.0]])
  # An epsilon above the first: the rewards spread by sqrt(11)/4.
  actual = regimes.anchored_std(correct, rewards, epsilon=0.45)
  close(actual[0], [11**0.5 / 4])


def entropies(means):
  """Two tokens, mean - 1/2 and mean + 1/2, then a masked one of NaN."""
  means = np.asarray(means)[..., None]
  junk = np.full_like(means, np.nan)
  tokens = np.concatenate([means - 0.5, means + 0.5, junk], axis=2)
  return jnp.asarray(tokens, jnp.float32)


TWO_OF_THREE = jnp.broadcast_to(jnp.array([1.0, 1.0, 0.0]), (3, 4, 3))


def test_failure_entropy():
  # Means 1, 1, 1, 3: deviations -1/2 and 3/2 over sqrt(3)/2; the last is cut.
  # The second group has a success, the third no spread.
  entropy = entropies([[1.0, 1, 1, 3], [1, 1, 1, 3], [2, 2, 2, 2]])
  correct = jnp.array([[0.0] * 4, [0.0, 1, 0, 0], [0.0] * 4])
  actual = regimes.failure_entropy(
      entropy, correct, TWO_OF_THREE, kappa=0.25, epsilon=0.0
  )[:2]
  close(actual, [[-0.25 / 3**0.5] * 3 + [0.25], [0.0] * 4])
  actual = regimes.failure_entropy(
      entropy, correct, TWO_OF_THREE, kappa=-1.0, epsilon=1.0
  )
  sigma = 3**0.5 / 2 + 1
  close(actual[0], [0.5 / sigma] * 3 + [-1.5 / sigma])
  np.testing.assert_array_equal(actual[1:], np.zeros((2, 4)))


def test_failure_entropy_leaves_out_empty_completions():
  # Means 1 and 3 of the two that have tokens: -1 and 1, clipped nowhere.
  entropy = entropies([[1.0, 3.0, 9.0, 9.0]])
  mask = TWO_OF_THREE[:1].at[:, 2:].set(0.0)
  actual = regimes.failure_entropy(
      entropy, jnp.zeros((1, 4)), mask, kappa=0.5, epsilon=1.0
  )
  close(actual, [[-0.25, 0.25, 0.0, 0.0]])
  nothing = regimes.failure_entropy(
      entropy, jnp.zeros((1, 4)), jnp.zeros_like(mask), kappa=0.5
  )
  np.testing.assert_array_equal(nothing, np.zeros((1, 4)))


def test_failure_entropy_of_one_completion_is_zero():
  actual = regimes.failure_entropy(
      jnp.ones((1, 1, 2)), jnp.zeros((1, 1)), jnp.ones((1, 1, 2)), kappa=0.5
  )
  np.testing.assert_array_equal(actual, [[0.0]])


def test_gradients_are_stopped():
  def total(values):
    ones = jnp.ones_like(values)
    prior = {"alpha": 1.0, "beta": 1.0, "sigma_floor": 0.1}
    parts = [
        regimes.beta_smoothed_valid(
            values, ones, invalid_advantage=-3.5, **prior
        ),
        regimes.difficulty_weight(values, strength=2.0),
        regimes.optimistic_outcome(values, **prior),
        regimes.anchored_std(values, values),
        regimes.failure_entropy(
            values[..., None], 0.0 * ones, ones[..., None], kappa=0.5
        ),
    ]
    return sum(jnp.sum(part**2) for part in parts)

  np.testing.assert_array_equal(
      fast_jit(jax.grad(total))(REWARDS), np.zeros((2, 4))
  )
