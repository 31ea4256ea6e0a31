"""The shipped policy, and a training run short enough for tests."""

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
