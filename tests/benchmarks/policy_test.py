import dataclasses
import types

import pytest

from poise_jax.benchmarks import policy, workloads

TINY = dataclasses.replace(
    workloads.W1,
    model=dataclasses.replace(
        workloads.W1.model,
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=0,  # as wide as the others make it
    ),
    prompts=2,
    group_size=2,
    prompt_tokens=3,
    new_tokens=4,
)


def test_figures_of_training():
  found = policy.run_train(TINY, 2)
  assert len(found["step_seconds_all"]) == 2
  assert found["step_seconds"] > 0 and found["first_seconds"] > 0
  # 1 layer: 8 x 8 q and o, 8 x 4 k and v, 3 x 8 x 8 MLP; head 8 x 16. Three
  # passes over 2 x 3 prompt and 4 x 4 new tokens, 2 FLOPs each. The head sees
  # new tokens only.
  layer, head = 2 * 64 + 2 * 32 + 3 * 64, 128
  assert found["update_flops"] == 2 * 3 * (layer * (6 + 16) + head * 16)
  # No peak is known for a CPU.
  assert "mfu" not in found and "bandwidth" not in found


def test_figures_of_several_rollouts():
  other = dataclasses.replace(TINY, ends=8)
  found = policy.run_rollout({"TINY": TINY, "SKEWED": other}, 2)
  assert found["tokens"] == 16.0
  assert found["tokens_per_second"] == pytest.approx(
      16 / found["rollout_seconds"]
  )
  assert 4 <= found["SKEWED"]["tokens"] < 16
  assert "SKEWED: rollout_seconds " in policy.table(found)


def test_bytes_that_decoding_reads():
  # Weights as above, of 4 bytes, once a token and device; of each of 4 rows the
  # keys and values (2 x 4 numbers) of 3 to 6 tokens before it.
  weights = 2 * 64 + 2 * 32 + 3 * 64 + 128
  cache = 4 * 8 * (3 + 4 + 5 + 6)
  assert policy.decoded_bytes(TINY, 1) == 4 * (4 * weights + cache)
  assert policy.decoded_bytes(TINY, 2) == 4 * (8 * weights + cache)


def test_the_share_of_bandwidth_where_it_is_known():
  devices = [types.SimpleNamespace(device_kind="NVIDIA H200")] * 2
  found = policy._share_of_bandwidth(TINY, 0.5, devices)
  assert found["bandwidth"] == pytest.approx(
      policy.decoded_bytes(TINY, 2) / 0.5 / 9.6e12
  )
  devices[0] = types.SimpleNamespace(device_kind="cpu")
  assert policy._share_of_bandwidth(TINY, 0.5, devices) == {}
