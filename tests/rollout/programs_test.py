"""The programs agree with each other, and wherever their arrays are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import sharding
from poise_jax.models import logical_axes, transformer
from poise_jax.rollout import (
    generate,
    programs,
    prompt_batches,
    sampling,
    segments,
)

CONFIG = transformer.TransformerConfig(
    vocab_size=16,
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    max_position_embeddings=32,
)
PROMPTS = prompt_batches.Prompts(
    np.arange(32, dtype=np.int32).reshape(8, 4) % 16
)
WRITING = programs.Writing(sampling.sample, 6, eos_ids=(3,), pad_id=0)
KEY = jax.random.key(1)


@pytest.fixture(scope="module")
def policy():
  return transformer.make(CONFIG, 0)


def on(mesh_config, policy):
  """The mesh, where arrays are on it, and params and prompts there."""
  mesh = sharding.make_mesh(mesh_config, jax.devices()[: mesh_config.size])
  where = programs.on_mesh(
      mesh, logical_axes.decoding_shardings(mesh, policy[1])
  )
  params = sharding.place(mesh, policy[1], where.params)
  return mesh, where, params, sharding.place(mesh, PROMPTS)


def test_one_program_and_stretches_write_the_same(policy):
  rows = jnp.arange(16)
  params, prompts = policy[1], jax.tree.map(jnp.asarray, PROMPTS)
  whole = programs.make_at_once(policy[0], WRITING)(params, prompts, rows, KEY)
  write = segments.make_write(
      programs.make_start(policy[0], WRITING),
      programs.make_advance(policy[0], WRITING),
      max_length=6,
      segment=2,
      pad_id=0,
  )
  parts = write(params, prompts, rows, KEY)
  for one, other in zip(whole, parts, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-6)
  assert 0 < whole[3].sum() < 16


@pytest.mark.parametrize("segment", [0, 2])
def test_one_device_may_be_named_or_not(policy, segment):
  _, where, params, prompts = on(sharding.MeshConfig(), policy)
  settings = {"copies": 2, "max_length": 6, "eos_ids": (3,), "pad_id": 0}
  settings["schedule"] = generate.Schedule(segment)
  make = lambda **more: generate.make_generate(
      policy[0], sampling.sample, **settings, **more
  )
  named = make(shardings=where)(params, prompts, KEY)
  plain = make()(policy[1], jax.tree.map(jnp.asarray, PROMPTS), KEY)
  jax.tree.map(np.testing.assert_array_equal, named, plain)
