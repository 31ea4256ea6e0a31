"""The policy samples for itself: greedily too, and never behind a filter."""

import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import sharding
from poise_jax.algorithms import catalog
from poise_jax.rollout import prompt_batches
from poise_jax.training import config as config_lib
from poise_jax.training import policy_engine

CONFIG = config_lib.TrainConfig(1, 2, 4, 1, 1, 1e-3, completion_length=5)


def test_filters_and_corrections_for_the_sampler_exclude_each_other():
  filtered = config_lib.TrainConfig(1, 2, 4, 1, 1, 1e-3, top_p=0.9)
  with pytest.raises(ValueError, match="grpo_tis corrects .* top_p=0.9; set"):
    policy_engine.check_algorithm(catalog.make("grpo_tis"), filtered)
  policy_engine.check_algorithm(catalog.make("grpo"), filtered)
  policy_engine.check_algorithm(catalog.make("grpo_tis"), CONFIG)


@pytest.mark.parametrize("name", ["grpo_poise", "grpo_adaptive_kl"])
def test_a_loss_that_reads_the_reference_needs_one(name):
  alone = dataclasses.replace(CONFIG, reference=False)
  with pytest.raises(ValueError) as error:
    policy_engine.check_algorithm(catalog.make(name), alone)
  assert str(error.value).startswith("--config.train.reference=False leaves")
  assert f"the loss of {name} reads; set --config" in str(error.value)
  policy_engine.check_algorithm(catalog.make(name), CONFIG)
  policy_engine.check_algorithm(catalog.make("grpo"), alone)
  # What is multiplied by nothing is not read.
  silent = catalog.make("grpo_poise", kl_coef=0.0)
  policy_engine.check_algorithm(silent, alone)


def test_greedy_writes_one_most_probable_completion(policy, words):
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
  engine = policy_engine.make_engine(
      *(policy.graphdef, policy.params, words, CONFIG, mesh), greedy=True
  )
  tokens = words.encode_prompts(["1+2=", "7*8="])
  prompts = prompt_batches.Prompts(jnp.asarray(tokens))
  found = engine(policy.params, 3)(prompts, jax.random.key(0))
  assert found.version == 3
  written = np.asarray(found.completions.tokens)
  assert written.shape == (2, 5)
  rows = jnp.asarray(np.concatenate([tokens, written], 1))
  model = nnx.merge(policy.graphdef, policy.params)
  best = np.argmax(model(rows), -1)[:, tokens.shape[1] - 1 : -1]
  kept = np.asarray(found.completions.mask) > 0
  assert kept.sum() > 2
  np.testing.assert_array_equal(written[kept], best[kept])
