import functools
import itertools

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
    lengths = jnp.cumsum(jnp.ones_like(r), axis=1)
    return {
        "centered": advantages.group_centered(r),
        "normalized": advantages.group_normalized(r),
        "sample": advantages.group_normalized(r, ddof=1),
        "leave_one_out": advantages.leave_one_out(r),
        "batch_centered": advantages.batch_centered(r),
        "batch_normalized": advantages.batch_normalized(r),
        "analytic": advantages.analytic_variance(r, sigma_min=1e-6),
        "length_weighted": advantages.length_weighted(r, lengths),
        "mean_scaled": advantages.mean_scaled(r),
        "pass_at_k": advantages.pass_at_k(r, k=2),
        "batch_scaled": advantages.batch_scaled(r, ddof=1, epsilon=1e-6),
        "penalized": advantages.penalized(r, jnp.zeros_like(r)),
        "components": advantages.component_normalized(
            r[..., None], weights=1.0, ddof=1, epsilon=1e-6
        ),
        "active_scaled": advantages.active_scaled(r),
    }

  for actual in fast_jit(estimates)(jnp.full(shape, 1000.1)).values():
    np.testing.assert_array_equal(actual, np.zeros(shape))


def test_penalized():
  # The lowest of each group is taken off, then the penalty; a negative one is
  # a bonus. 1000.1 - 1e-5 is 1000.1 in float32.
  rewards = jnp.array([[1.0, 0.25, 0.5], [1000.1, 1000.1, 1000.1]])
  penalties = jnp.array([[0.5, 0.0, -1.0], [1e-5, 0.0, 3e-5]])
  expected = [[0.25, 0.0, 1.25], [-1e-5, 0.0, -3e-5]]
  close(advantages.penalized(rewards, penalties), expected)


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


def test_group_statistics_carry_components_along():
  components = jnp.stack([REWARDS, 3.0 * REWARDS[::-1]], axis=2)
  normalized = advantages.group_normalized(components, ddof=1, epsilon=0.5)
  for k in range(2):
    alone = advantages.group_normalized(components[..., k], ddof=1, epsilon=0.5)
    close(normalized[..., k], alone)


def test_batch_std():
  # Four ones in eight: mean 1/2, squares 8/4.
  close(advantages.batch_std(REWARDS), 0.5)
  close(advantages.batch_std(REWARDS, ddof=1), (2 / 7) ** 0.5)
  close(advantages.batch_std(jnp.array([[3.0]]), ddof=1), 0.0)


def test_ddof_may_be_traced():
  def spreads(ddof):
    return advantages.group_std(REWARDS, ddof=ddof), advantages.batch_std(
        REWARDS, ddof=ddof
    )

  group, batch = fast_jit(spreads)(jnp.float32(1.0))
  close(group, [[0.5], [0.5]])
  close(batch, (2 / 7) ** 0.5)


def test_length_weighted():
  # First baseline: (3 * 1 + 0) / (3 + 1 + 1 + 1) = 1/2; second
  # (2 + 2 + 1 + 0) / (2 + 2 + 1 + 5) = 1/2. Plain means are 1/4 and 3/4.
  lengths = jnp.array([[3.0, 1.0, 1.0, 1.0], [2.0, 2.0, 1.0, 5.0]])
  adv = advantages.length_weighted(REWARDS, lengths)
  close(adv, [[0.5, -0.5, -0.5, -0.5], [0.5, 0.5, 0.5, -0.5]])
  close(jnp.sum(lengths * adv, axis=1), [0.0, 0.0])
  # Equal lengths: the mean of the group.
  equal = advantages.length_weighted(REWARDS, jnp.full((2, 4), 7.0))
  close(equal, advantages.group_centered(REWARDS))
  empty = advantages.length_weighted(REWARDS, jnp.zeros((2, 4)))
  close(empty, REWARDS)


def test_mean_scaled():
  expected = [[3.0, -1.0, -1.0, -1.0], [1 / 3, 1 / 3, 1 / 3, -1.0]]
  close(advantages.mean_scaled(REWARDS, epsilon=0.0), expected)
  # .75 / (.25 + .5).
  close(advantages.mean_scaled(REWARDS, epsilon=0.5)[0, 0], 1.0)
  for rewards in (jnp.zeros((1, 3)), jnp.array([[-1.0, 1.0, -2.0]])):
    adv = advantages.mean_scaled(rewards, epsilon=0.0)
    np.testing.assert_array_equal(adv, np.zeros((1, 3)))


def test_mean_scaled_climbs_the_series_of_the_log_pass_rate():
  # p = 1/4 as a sigmoid: the score is 1 - p of a success, -p of a failure,
  # and d pass@k = k (1 - p)^(k-1) p (1 - p). All 2^G groups, by frequency.
  size, p = 5, 0.25
  groups = np.array(list(itertools.product([0.0, 1.0], repeat=size)))
  chance = np.prod(np.where(groups > 0, p, 1 - p), axis=1)
  adv = advantages.mean_scaled(jnp.asarray(groups, jnp.float32), epsilon=0.0)
  gradient = np.sum(chance * np.mean(adv * (groups - p), axis=1))
  series = sum((1 - p) ** (k - 1) * p * (1 - p) for k in range(1, size))
  np.testing.assert_allclose(gradient, series, rtol=1e-6)


def brute_force_pass_at_k(correct, k):
  """Standardises each k-subset's success; averages over those that hold i."""
  subsets = list(itertools.combinations(range(len(correct)), k))
  success = np.array([max(correct[i] for i in s) for s in subsets], np.float64)
  if success.std() == 0:
    return np.zeros(len(correct))
  scores = (success - success.mean()) / success.std()
  holds = [[i in s for s in subsets] for i in range(len(correct))]
  return np.array([scores[h].mean() for h in holds])


PASS_AT_K = fast_jit(
    lambda correct, k: advantages.pass_at_k(correct, k=k, epsilon=0.0)
)


@pytest.mark.parametrize("k", [1, 2, 4, 7, 8])
def test_pass_at_k_is_the_mean_over_all_subsets(k):
  # A group for each number of successes, from none to all.
  rng = np.random.default_rng(0)
  correct = np.tril(np.ones((9, 9)), -1)[:, :8]
  correct = rng.permuted(correct, axis=1)
  adv = PASS_AT_K(jnp.asarray(correct, jnp.float32), jnp.float32(k))
  expected = [brute_force_pass_at_k(row, k) for row in correct]
  close(adv, expected)
  close(np.sum(adv, axis=1), np.zeros(9), atol=1e-5)


def test_pass_at_k_by_hand():
  # One success of four, k = 2: f = C(3,2)/C(4,2) = 1/2, so A₊ = 1 and
  # A₋ = -1/3. Three of four: a pair always holds a success.
  close(
      advantages.pass_at_k(REWARDS, k=2, epsilon=0.0),
      [[1.0, -1 / 3, -1 / 3, -1 / 3], [0.0] * 4],
  )
  # epsilon stands beside σ = 1/2.
  damped = advantages.pass_at_k(REWARDS, k=2, epsilon=0.5)
  close(damped[0], [0.5, -1 / 6, -1 / 6, -1 / 6])


def test_pass_at_k_of_large_groups():
  # f = C(61,8)/C(64,8) = (56*55*54)/(64*63*62); three successes.
  correct = jnp.zeros((1, 64)).at[0, :3].set(1.0)
  failure = 56 * 55 * 54 / (64 * 63 * 62)
  gain = (failure / (1 - failure)) ** 0.5
  adv = PASS_AT_K(correct, jnp.float32(8))
  close(adv[0, :3], [gain] * 3)
  close(adv[0, 3:], [-gain * 3 / 61] * 61)


def test_pass_at_one_is_group_normalized():
  close(
      advantages.pass_at_k(REWARDS, k=1, epsilon=0.0),
      advantages.group_normalized(REWARDS, epsilon=0.0),
  )


def test_batch_scaled():
  # Centred by 3/4 and -1/4; the raw rewards are four ones in eight.
  expected = advantages.group_centered(REWARDS)
  close(advantages.batch_scaled(REWARDS, ddof=0, epsilon=0.0), 2 * expected)
  close(advantages.batch_scaled(REWARDS, ddof=0, epsilon=0.5), expected)
  close(
      advantages.batch_scaled(REWARDS, ddof=1, epsilon=0.0),
      expected * 3.5**0.5,
  )


def test_component_normalized():
  # Groups of two: each component that differs gives ±1 (population).
  # Sums with weights 2 and 1: 2 + 1, -3; 2 - 1, -1; deviation
  # sqrt((9 + 9 + 1 + 1) / 4) = sqrt(5).
  components = jnp.array([[[1.0, 7.0], [0.0, 3.0]], [[5.0, 0.0], [4.0, 0.1]]])
  weights = jnp.array([2.0, 1.0])
  adv = advantages.component_normalized(
      components, weights=weights, ddof=0, epsilon=0.0
  )
  close(adv, np.array([[3.0, -3.0], [1.0, -1.0]]) / 5**0.5)
  # Sample deviation: scores ±1/sqrt(2), and then sqrt(4/3 * 20/2/4).
  sample = advantages.component_normalized(
      components, weights=weights, ddof=1, epsilon=0.0
  )
  close(sample, np.array([[3.0, -3.0], [1.0, -1.0]]) * (3 / 20) ** 0.5)
  # One weight for all: 1 + 1, -2, 0, 0; deviation sqrt(2).
  equal = advantages.component_normalized(
      components, weights=1.0, ddof=0, epsilon=0.0
  )
  close(equal, np.array([[2.0, -2.0], [0.0, 0.0]]) / 2**0.5)
  # epsilon counts twice: scores ±1/2 of the first component alone, with
  # deviations 1/2: ±1/2 / (1/2 + 1/2).
  first = components[..., :1]
  damped = advantages.component_normalized(
      first, weights=1.0, ddof=0, epsilon=0.5
  )
  close(damped, [[0.5, -0.5], [0.5, -0.5]])


def test_components_that_cancel_still_teach():
  components = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
  weighed = advantages.component_normalized(
      components, weights=jnp.array([2.0, 1.0]), ddof=0, epsilon=0.0
  )
  close(weighed, [[1.0, -1.0]])


@pytest.mark.parametrize("junk", [7.0, np.nan, np.inf])
def test_token_whitened(junk):
  # 1, 3, 8: mean 4, squares 9 + 1 + 16 = 26, variance 13.
  values = jnp.array([[[1.0, 3.0], [8.0, junk]]])
  mask = jnp.array([[[1.0, 1.0], [1.0, 0.0]]])
  expected = np.array([[[-3.0, -1.0], [4.0, 0.0]]])
  close(
      advantages.token_whitened(values, mask, epsilon=0.0), expected / 13**0.5
  )
  # epsilon inside the root.
  close(advantages.token_whitened(values, mask, epsilon=3.0), expected / 4)


@pytest.mark.parametrize("live", [0, 1, 6])
def test_token_whitened_of_equal_values_is_exactly_zero(live):
  mask = (jnp.arange(6.0) < live).astype(jnp.float32).reshape(2, 1, 3)
  values = jnp.full((2, 1, 3), 1000.1)
  np.testing.assert_array_equal(
      advantages.token_whitened(values, mask), np.zeros((2, 1, 3))
  )


def test_penalized_returns():
  # Still to come of 1, 2, 4: 7, 6, 4. Half of it is taken off.
  rewards = jnp.array([[10.0, 1.0]])
  penalties = jnp.array([[[1.0, 2.0, 4.0], [-2.0, 0.0, 0.0]]])
  returns = advantages.penalized_returns(rewards, penalties, coefficient=0.5)
  close(returns, [[[6.5, 7.0, 8.0], [2.0, 1.0, 1.0]]])


def test_active_scaled():
  # One group of three has a spread: three times its centred rewards.
  rewards = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
  close(
      advantages.active_scaled(rewards), [[1.5, -1.5], [0.0, 0.0], [0.0, 0.0]]
  )
  close(advantages.active_scaled(REWARDS), advantages.group_centered(REWARDS))


def test_identities():
  rng = np.random.default_rng(1)
  rewards = jnp.asarray(rng.normal(size=(3, 8)), jnp.float32)
  close(
      advantages.leave_one_out(rewards),
      8 / 7 * advantages.group_centered(rewards),
  )
  close(
      advantages.analytic_variance(rewards, sigma_min=1e-3),
      advantages.group_normalized(rewards, epsilon=0.0),
  )
  close(
      advantages.group_normalized(rewards, ddof=1, epsilon=0.0),
      (7 / 8) ** 0.5 * advantages.group_normalized(rewards, epsilon=0.0),
  )


def test_gradients_are_stopped():
  def total(rewards):
    tokens = jnp.stack([rewards, 2.0 * rewards], axis=2)
    parts = [
        advantages.group_normalized(rewards),
        advantages.leave_one_out(rewards),
        advantages.batch_centered(rewards),
        advantages.batch_normalized(rewards),
        advantages.analytic_variance(rewards, sigma_min=0.1),
        advantages.length_weighted(rewards, rewards + 1.0),
        advantages.mean_scaled(rewards),
        advantages.pass_at_k(rewards, k=2),
        advantages.batch_scaled(rewards, ddof=1, epsilon=0.1),
        advantages.penalized(rewards, 2.0 * rewards),
        advantages.component_normalized(
            rewards[..., None], weights=rewards[0, :1], ddof=1, epsilon=0.1
        ),
        advantages.token_whitened(tokens, jnp.ones_like(tokens)),
        advantages.penalized_returns(rewards, tokens, coefficient=0.1),
        advantages.active_scaled(rewards),
    ]
    return sum(jnp.sum(part**2) for part in parts)

  np.testing.assert_array_equal(
      fast_jit(jax.grad(total))(REWARDS), np.zeros((2, 4))
  )
