"""The shipped policy, loaded once for all tests of the rollout."""

import pytest

from poise_jax.discovery.trials import trial
from poise_jax.models import checkpoints
from poise_jax.rollout import tokenizer


@pytest.fixture(scope="session")
def policy():
  return checkpoints.load(trial.base_directory(trial.EMBEDDED))


@pytest.fixture(scope="session")
def words():
  return tokenizer.load(trial.base_directory(trial.EMBEDDED))
