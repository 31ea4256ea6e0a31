"""Decoding in stretches against decoding at once, on skewed lengths."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import sharding
from poise_jax.models import families, logical_axes, transformer
from poise_jax.rollout import (
    generate,
    programs,
    prompt_batches,
    sampling,
    segments,
)

CONFIG = families.TransformerConfig(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
LENGTH, COPIES = 20, 4
# Four of 32 nearly equally probable tokens: eight tokens on average.
ENDS = (3, 5, 7, 11)


@pytest.fixture(scope="module")
def policy():
  return transformer.make(CONFIG, 0)


@pytest.fixture(scope="module")
def prompts():
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, 32, (8, 6), np.int32)
  starts = np.array([0, 5, 2, 0, 1, 3, 4, 0], np.int32)
  return jax.tree.map(jnp.asarray, prompt_batches.Prompts(tokens, starts))


def _make(policy, **changes):
  settings = (
      dict(copies=COPIES, max_length=LENGTH, eos_ids=ENDS, pad_id=0) | changes
  )
  return generate.make_generate(policy[0], sampling.sample, **settings)


@pytest.fixture(scope="module")
def whole(policy, prompts):
  run = _make(policy)
  return jax.device_get(run(policy[1], prompts, jax.random.key(1)))


@pytest.mark.parametrize("segment, at_once", [(4, 0), (7, 4)])
def test_the_same_completions_in_stretches(
    policy, prompts, whole, segment, at_once
):
  schedule = generate.Schedule(segment=segment, prompts_at_once=at_once)
  run = _make(policy, schedule=schedule)
  found = run(policy[1], prompts, jax.random.key(1))
  np.testing.assert_array_equal(found.tokens, whole.tokens)
  np.testing.assert_array_equal(found.mask, whole.mask)
  np.testing.assert_array_equal(found.finished, whole.finished)
  np.testing.assert_allclose(found.logprobs, whole.logprobs, atol=2e-6)


def test_lengths_are_skewed_enough_to_test_that(whole):
  lengths = whole.mask.sum(axis=1)
  assert np.unique(lengths).size > 8
  assert (lengths < 8).sum() > 8 and not whole.finished.all()


def test_rows_that_have_ended_leave(policy, prompts, monkeypatch):
  stretches = []
  make_write = segments.make_write

  def watch(start, advance, **settings):
    def seen(params, state, length, width):
      stretches.append((int(state.step), *state.cache[0].keys.shape[::2]))
      assert length == 4
      return advance(params, state, length, width)

    return make_write(start, seen, **settings)

  monkeypatch.setattr(segments, "make_write", watch)
  run = _make(policy, schedule=generate.Schedule(segment=4))
  completions = run(policy[1], prompts, jax.random.key(1))
  lengths = np.asarray(completions.mask).sum(axis=1)
  sizes, step, expected = (32, 24, 16, 12, 8, 4, 2, 1, 0), 0, []
  while step < min(LENGTH, lengths.max()):
    rows = min(size for size in sizes if size >= (lengths > step).sum())
    room = next(room for room in (4, 8, 16, 20) if room > step)
    expected.append((step, rows, 6 + room))
    less = sizes[sizes.index(rows) + 1]
    end = min(step + 4, room)
    while step < end:
      step += 1
      if (lengths > step).sum() <= less:
        break
  assert stretches == expected
  # The batch shrinks in the middle of what else were a stretch.
  assert len({rows for _, rows, _ in stretches}) > 4
  assert any(step % 4 for step, _, _ in stretches)


def test_nothing_is_decoded_after_the_last_end(policy, prompts):
  run = _make(
      policy,
      eos_ids=tuple(range(32)),
      schedule=generate.Schedule(segment=4),
  )
  found = run(policy[1], prompts, jax.random.key(1))
  np.testing.assert_array_equal(found.mask.sum(axis=1), 1)
  np.testing.assert_array_equal(found.finished, 1)


def test_sizes_of_batches():
  assert segments.sizes(48) == [48, 32, 24, 16, 12, 8, 4, 2, 1]
  # Each at least a quarter smaller; an odd part shrinks like any other.
  assert segments.sizes(100) == [100, 64, 48, 32, 24, 16, 12, 8, 4, 2, 1]
  assert segments.sizes(3) == [3, 2, 1] and segments.sizes(1) == [1]


@pytest.mark.parametrize(
    "rows, most, total, shards, expected",
    [
        (64, 49, 49, 1, (64, False, 48)),
        (64, 48, 48, 1, (48, False, 32)),
        (64, 1, 1, 1, (1, False, 0)),
        # Of 8 on each of 8 devices, none has more than 2; one would be enough
        # for 8 rows, but to deal those each device would see 8 for its 2.
        (64, 2, 9, 8, (16, False, 0)),
        # The fullest needs 20 of 32, dealt anew 15 each are enough.
        (64, 20, 30, 2, (32, True, 24)),
        # As few as that stay where they are: dealing saves nothing.
        (64, 16, 30, 2, (32, False, 24)),
        # To deal 96 rows to 8 devices, each would see more than twice its 32.
        (256, 20, 90, 8, (192, False, 32)),
        (256, 20, 64, 8, (64, True, 16)),
        (24, 1, 3, 8, (8, False, 0)),
    ],
)
def test_the_batch_that_fits(rows, most, total, shards, expected):
  assert segments.fit(rows, most, total, shards) == expected


def test_sizes_of_caches():
  assert segments.larger(16, 16, 100) == 16
  assert segments.larger(16, 17, 100) == 32
  assert segments.larger(64, 80, 100) == 100


def test_numbers_out_of_range(policy, prompts):
  with pytest.raises(ValueError, match="`segment` must be >= 0, got -1"):
    generate.Schedule(segment=-1)
  run = _make(policy, schedule=generate.Schedule(prompts_at_once=3))
  with pytest.raises(ValueError, match="must divide .* got 3 for 8"):
    run(policy[1], prompts, jax.random.key(1))


def main():
  """Prints completions made on eight devices, and how many of them worked."""
  graphdef, params = transformer.make(CONFIG, 0)
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, 32, (8, 6), np.int32)
  starts = np.array([0, 5, 2, 0, 1, 3, 4, 0], np.int32)
  result, moved = {}, []
  resize = segments._resize

  def watch(state, count, capacity, shards, move):
    moved.append(move and bool(np.any(state.alive)))
    return resize(state, count, capacity, shards, move)

  segments._resize = watch
  for shape, at_once in (((8, 1, 1), 0), ((2, 2, 2), 4)):
    mesh = sharding.make_mesh(sharding.MeshConfig(*shape))
    where = programs.on_mesh(
        mesh, logical_axes.decoding_shardings(mesh, params)
    )
    placed = sharding.place(mesh, params, where.params)
    batch = sharding.place(mesh, prompt_batches.Prompts(tokens, starts))
    run = _make(
        (graphdef, None),
        schedule=generate.Schedule(segment=4, prompts_at_once=at_once),
        shardings=where,
    )
    moved.clear()
    with jax.set_mesh(mesh):
      found = run(placed, batch, jax.random.key(1))
    rows = found.tokens.sharding.shard_shape(found.tokens.shape)[0]
    whole = jax.tree.map(lambda x: np.asarray(x).tolist(), found._asdict())
    result[str(shape)] = (whole, rows, any(moved))
  print(json.dumps(result))


def test_on_eight_devices(whole):
  eight = "--xla_force_host_platform_device_count=8"
  environment = os.environ | {
      "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {eight}",
      "JAX_PLATFORMS": "cpu",
  }
  done = subprocess.run(
      [sys.executable, __file__],
      env=environment,
      capture_output=True,
      text=True,
      check=False,
  )
  assert not done.returncode, done.stderr
  for shape, (found, rows, moved) in json.loads(done.stdout).items():
    for name, expected in whole._asdict().items():
      np.testing.assert_allclose(
          found[name], expected, atol=2e-6 * (name == "logprobs")
      )
    assert rows == (4 if shape == "(8, 1, 1)" else 8)
    # Uneven ends on eight devices make rows change places.
    assert moved


if __name__ == "__main__":
  main()
