"""The shipped policy, and a training run short enough for tests."""

import numpy as np
import pytest

from poise_jax.discovery.trials import trial
from poise_jax.models import checkpoints
from poise_jax.rollout import tokenizer
from poise_jax.training import config, loop


@pytest.fixture(scope="session")
def policy():
  return checkpoints.load(trial.base_directory(trial.EMBEDDED))


@pytest.fixture(scope="session")
def words():
  return tokenizer.load(trial.base_directory(trial.EMBEDDED))


@pytest.fixture(scope="session")
def short_config():
  return config.TrainConfig(
      steps=2,
      prompts=4,
      group_size=4,
      epochs=1,
      minibatches=2,
      learning_rate=1e-3,
  )


@pytest.fixture(scope="session")
def train(policy, words, short_config):
  return loop.make_train(policy.graphdef, policy.params, words, short_config)


@pytest.fixture(scope="session")
def assert_near():
  """Compares moments of Adam."""

  def near(found, expected):
    """Adam's means, and its squares: to 1e-5 of the largest entry of either.

    Gradients are small, and squares smaller. It is not of each array's own, for
    the gradient of a key's bias is nothing but rounding. Sums in another order
    differ by 2e-6 in the means, a shard that is lost or counted twice by its
    share of the whole.
    """
    half = len(expected) // 2
    for part in (slice(half), slice(half, None)):
      largest = max(np.abs(x).max() for x in expected[part])
      assert largest > 0
      for a, b in zip(found[part], expected[part], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * largest)

  return near
