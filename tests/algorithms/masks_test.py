import jax.numpy as jnp
import numpy as np

from poise_jax.algorithms import masks

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
