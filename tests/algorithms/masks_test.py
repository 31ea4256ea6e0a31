import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import masks

# Compiles faster, runs slower.
fast_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)
# Failed, mixed and solved groups.
CORRECT = jnp.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])


def equal(actual, expected):
  assert actual.dtype == jnp.float32
  np.testing.assert_array_equal(actual, np.array(expected, np.float32))


def test_groups_partition_by_outcome():
  equal(masks.failed_groups(CORRECT), [[1], [0], [0]])
  equal(masks.mixed_groups(CORRECT), [[0], [1], [0]])
  equal(masks.solved_groups(CORRECT), [[0], [0], [1]])


def test_a_group_of_one_is_never_mixed():
  equal(masks.mixed_groups(jnp.array([[0.0], [1.0]])), [[0], [0]])


def test_nonzero_spread_is_exact():
  rewards = jnp.array([[1000.1] * 3, [1000.1, 1000.1, 1000.2], [0.0, 0.0, 0.0]])
  equal(masks.nonzero_spread(rewards), [[0], [1], [0]])


def test_completion_masks():
  flags = jnp.array([[1.0, 0.0]])
  equal(masks.valid_completions(flags), [[1, 0]])
  equal(masks.untruncated(flags), [[0, 1]])


def test_apply_reaches_the_tokens():
  tokens = jnp.array([[[1.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 1.0]]])
  by_completion = masks.apply(tokens, jnp.array([[1.0, 0.0], [1.0, 1.0]]))
  equal(by_completion, [[[1, 1], [0, 0]], [[1, 0], [1, 1]]])
  by_group = masks.apply(tokens, jnp.array([[0.0], [1.0]]))
  equal(by_group, [[[0, 0], [0, 0]], [[1, 0], [1, 1]]])


def test_off_policy_negatives():
  # Means of log π_sampler - log π over the live tokens: (0.9 + 0.3) / 2 = 0.6
  # in the first three completions, -0.6 in the fourth, none in the fifth.
  sampler = [[0.9, 0.3, np.nan]] * 3 + [[-0.9, -0.3, np.inf]] + [[9.0] * 3]
  sampler = jnp.array([sampler])
  mask = jnp.array([[[1.0, 1.0, 0.0]] * 4 + [[0.0, 0.0, 0.0]]])
  advantages = jnp.array([[-1.0, 0.0, 1.0, -1.0, -1.0]])
  keep = functools.partial(
      fast_jit(masks.off_policy_negatives),
      advantages,
      jnp.where(mask > 0, 0.0, jnp.nan),
      sampler,
      mask,
  )
  equal(keep(threshold=jnp.float32(0.5)), [[0, 1, 1, 1, 1]])
  equal(keep(threshold=jnp.float32(0.7)), [[1, 1, 1, 1, 1]])
  equal(keep(threshold=jnp.float32(-0.7)), [[0, 1, 1, 0, 0]])


def test_off_policy_negatives_measures_the_mean_not_the_sum():
  # Ten tokens of 0.1 nats each.
  keep = masks.off_policy_negatives(
      jnp.array([[-1.0]]),
      jnp.full((1, 1, 10), -1.1),
      jnp.full((1, 1, 10), -1.0),
      jnp.ones((1, 1, 10)),
      threshold=0.5,
  )
  equal(keep, [[1]])


def test_off_policy_negatives_is_a_constant():
  def total(logprobs, sampler):
    keep = masks.off_policy_negatives(
        jnp.array([[-1.0]]), logprobs, sampler, jnp.ones((1, 1, 2)), threshold=0
    )
    return jnp.sum(keep[..., None] * logprobs)

  grads = fast_jit(jax.grad(total, argnums=(0, 1)))
  to_policy, to_sampler = grads(jnp.zeros((1, 1, 2)), -jnp.ones((1, 1, 2)))
  equal(to_policy, [[[1, 1]]])
  equal(to_sampler, [[[0, 0]]])


# Ten live tokens of entropy 0.0, 0.1, ... 0.9, in no order; junk is masked.
ENTROPY = jnp.array(
    [[[0.3, 0.9, 0.0, np.nan], [0.5, 0.7, 0.2, 5.0], [0.8, 0.1, 0.6, 0.4]]]
)
LIVE = jnp.array([[[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0], [1.0] * 4]])


@pytest.mark.parametrize(
    "fraction, lowest",
    # ceil(10 fraction) tokens: 2, 3, 1, 10 and 0 of them.
    [(0.2, 0.8), (0.25, 0.7), (0.01, 0.9), (1.0, 0.0), (0.0, np.inf)],
)
def test_high_entropy(fraction, lowest):
  actual = fast_jit(masks.high_entropy)(ENTROPY, LIVE, fraction=fraction)
  live = np.asarray(LIVE) > 0
  equal(actual, live & (np.asarray(ENTROPY) > lowest - 0.05))


def test_high_entropy_counts_where_an_interpolated_quantile_keeps_one_less():
  # Of four tokens ceil(1.2) = 2 are kept; the 0.7 quantile of 1, 2, 3, 4 is
  # 3.1, above which there is one.
  entropy = jnp.array([[[2.0, 4.0, 1.0, 3.0]]])
  actual = masks.high_entropy(entropy, jnp.ones((1, 1, 4)), fraction=0.3)
  equal(actual, [[[0, 1, 0, 1]]])


def test_high_entropy_keeps_ties():
  entropy = jnp.array([[[1.0, 2.0, 2.0, 2.0, 0.0]]])
  actual = masks.high_entropy(entropy, jnp.ones((1, 1, 5)), fraction=0.4)
  equal(actual, [[[0, 1, 1, 1, 0]]])
  equal(masks.high_entropy(0 * ENTROPY, LIVE, fraction=0.2), LIVE)


def test_high_entropy_of_nothing_is_nothing():
  actual = masks.high_entropy(ENTROPY, 0 * LIVE, fraction=0.5)
  equal(actual, np.zeros((1, 3, 4)))


def test_high_entropy_is_a_constant():
  def total(entropy):
    return jnp.sum(masks.high_entropy(entropy, LIVE, fraction=0.5) * LIVE)

  equal(fast_jit(jax.grad(total))(ENTROPY), np.zeros((1, 3, 4)))
