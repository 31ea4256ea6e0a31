"""Bytes by hand, and what to change where they are too many."""

import pytest

from poise_jax import sharding
from poise_jax.models import families, lora
from poise_jax.rollout import generate, scoring
from poise_jax.training import config as config_lib
from poise_jax.training import memory

MODEL = families.TransformerConfig(
    vocab_size=64,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
# Embedding 64 · 16 and norm 16; in each block norms 2 · 16, queries 16 · 17,
# keys and values 2 · 8 · 17, output 16², MLP 3 · 16 · 32.
NUMBERS = 1024 + 16 + 3 * (32 + 272 + 272 + 256 + 1536)


def config(**changes):
  values = dict(
      steps=1,
      prompts=8,
      group_size=4,
      epochs=1,
      minibatches=1,
      learning_rate=1e-3,
      completion_length=10,
  )
  return config_lib.TrainConfig(**(values | changes))


def test_on_one_device():
  found = memory.estimate(MODEL, config(), 6)
  assert found.state == {
      "params": 4 * NUMBERS,
      "optimizer": 8 * NUMBERS,
      "reference": 4 * NUMBERS,
  }
  # 32 rows of 16 slots; keys and values of 3 layers, 2 heads of 4, f32.
  assert found.rollout == {
      "cache": 32 * 16 * 2 * 3 * 2 * 4 * 4,
      "logits": 32 * 64 * 4,
  }
  # 32 completions of 10, 8 prompts of 16 slots; f32 states before 3 blocks.
  assert found.update == {
      "gradients": 4 * NUMBERS,
      "hidden states": 3 * 16 * 4 * (320 + 128),
      "logits": 32 * 10 * 64 * 4,
  }
  assert found.peak == 16 * NUMBERS + sum(found.update.values())


def test_without_reference_no_second_copy_lives():
  found = memory.estimate(MODEL, config(reference=False), 6)
  assert found.state == {"params": 4 * NUMBERS, "optimizer": 8 * NUMBERS}


def test_adapters_share_the_reference_and_have_a_small_optimizer():
  options = lora.LoraOptions(2, 4.0, ("q_proj", "down_proj"))
  found = memory.estimate(MODEL, config(lora=options), 6)
  adapters = 3 * 2 * (16 + 16 + 32 + 16)
  assert found.state == {
      "base policy": 4 * NUMBERS,
      "adapters": 4 * adapters,
      "optimizer": 8 * adapters,
  }
  assert found.rollout["params to sample with"] == 4 * NUMBERS
  assert found.update["merged params"] == 4 * NUMBERS
  half = scoring.ScoreOptions(compute_dtype="bfloat16")
  found = memory.estimate(MODEL, config(lora=options, scoring=half), 6)
  assert found.rollout["params to sample with"] == 2 * NUMBERS
  assert found.update["gradients"] == 2 * NUMBERS


def test_on_a_mesh_and_in_parts():
  told = config(
      micro_batches=2,
      mesh=sharding.MeshConfig(1, 2, 2),
      schedule=generate.Schedule(5, 2),
      scoring=scoring.ScoreOptions(3, "bfloat16", "block"),
  )
  found = memory.estimate(MODEL, told, 6)
  # Norms are whole; biases are split by `tensor`, matrices by both.
  norms, biases = 16 + 3 * 32, 3 * (16 + 16)
  matrices = NUMBERS - norms - biases
  assert found.state["params"] == 4 * (norms + biases / 2 + matrices / 4)
  assert found.rollout == {
      "cache": 2 * 4 / 2 * 16 * 2 * 3 * 2 * 4 * 2 / 2,
      "logits": 2 * 4 / 2 * 64 / 2 * 4,
      "params to sample with": 2 * (norms + (biases + matrices) / 2),
  }
  # Half of the prompts at a time, on two devices: 2 prompts, 8 completions.
  assert found.update["hidden states"] == 3 * 16 * 2 * (80 + 32)
  assert found.update["logits"] == 8 * 3 * 64 / 2 * 4


@pytest.mark.parametrize(
    "changes, flag",
    [
        (dict(completion_length=1), "--config.mesh.fsdp"),
        (dict(completion_length=3000), "--config.scoring.chunk"),
        (
            dict(
                completion_length=3000,
                scoring=scoring.ScoreOptions(1),
                micro_batches=8,
            ),
            "--config.schedule.prompts_at_once",
        ),
        (
            dict(
                completion_length=30000,
                scoring=scoring.ScoreOptions(1),
                schedule=generate.Schedule(0, 1),
            ),
            "--config.train.micro_batches",
        ),
    ],
)
def test_what_is_largest_names_the_flag(changes, flag):
  found = memory.estimate(MODEL, config(**changes), 1)
  memory.check(found, found.peak, "a device")
  with pytest.raises(ValueError, match=flag) as error:
    memory.check(found, found.peak - 1, "a device")
  assert "are needed on each device, a device has" in str(error.value)


def test_bytes_of_devices():
  assert memory.of_kind("TPU v5 lite") == 16e9
  with pytest.raises(ValueError, match="`kind` must be one of"):
    memory.of_kind("TPU v99")
