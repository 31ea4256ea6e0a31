"""States go through checkpoints bit for bit; runs are told apart."""

import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import sharding
from poise_jax.algorithms import catalog
from poise_jax.models import lora
from poise_jax.training import (
    checkpoint,
    config,
    continuation,
    history,
    prompts,
    state,
)

CONFIG = config.TrainConfig(
    steps=4,
    prompts=8,
    group_size=4,
    epochs=1,
    minibatches=2,
    learning_rate=1e-3,
)
GRPO = catalog.make("grpo")


def _state(**changes):
  weights = jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)
  made = state.TrainState(
      params=nnx.State({"kernel": weights}),
      opt_state={"mu": 0.1 * weights, "count": jnp.int32(5)},
      algorithm_state={"level": jnp.float32(0.3)},
      history=history.PassHistory(np.array([3.0, 0.0]), np.array([4.0, 8.0])),
      position=prompts.Position(1, 9),
      step=3,
      skipped=2,
      frozen=(nnx.State({"base": weights}),),
  )
  return made._replace(**changes)


def test_a_state_comes_back_and_what_is_frozen_is_not_kept(tmp_path):
  saved = _state()
  kept = checkpoint.Retention()
  with checkpoint.open(tmp_path / "c", kept, fingerprint={}) as checkpoints:
    continuation.save(checkpoints, saved, {"reward": 0.5})
  # Zeros, and another place: all but what is frozen is overwritten.
  like = jax.tree.map(
      lambda x: 0 * x,
      _state(position=prompts.START, step=0, skipped=0, frozen=()),
  )
  like = like._replace(frozen=(nnx.State({"base": jnp.ones(1)}),))
  with checkpoint.open(tmp_path / "c", kept, fingerprint={}) as checkpoints:
    found = continuation.restore(checkpoints, 3, like)
    assert checkpoints.record(3).metrics == {"reward": 0.5}
    assert not any("base" in name for name in checkpoints.record(3).leaves)
  assert found.frozen is like.frozen
  assert (found.position, found.step) == (prompts.Position(1, 9), 3)
  assert found.skipped == 2
  for a, b in zip(
      jax.tree.leaves(found._replace(frozen=())),
      jax.tree.leaves(saved._replace(frozen=())),
      strict=True,
  ):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_shapes_are_enough_to_restore_into(tmp_path):
  kept = checkpoint.Retention()
  shape = lambda x: (
      jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, jax.Array) else x
  )
  with checkpoint.open(tmp_path / "c", kept, fingerprint={}) as checkpoints:
    continuation.save(checkpoints, _state(), {})
  with checkpoint.open(tmp_path / "c", kept, fingerprint={}) as checkpoints:
    found = continuation.restore(checkpoints, 3, jax.tree.map(shape, _state()))
    narrow = _state(params=nnx.State({"kernel": jnp.zeros((2, 2))}))
    with pytest.raises(ValueError, match="does not fit"):
      continuation.restore(checkpoints, 3, narrow)
  np.testing.assert_array_equal(
      found.params["kernel"], _state().params["kernel"]
  )


def test_other_devices_and_pieces_are_the_same_run():
  same = dataclasses.replace(
      CONFIG, micro_batches=2, mesh=sharding.MeshConfig(fsdp=2)
  )
  expected = continuation.identity(CONFIG, GRPO, 0)
  assert continuation.identity(same, GRPO, 0) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 2e-3},
        {"sampling_attempts": 2},
        {"lora": lora.LoraOptions(rank=2)},
    ],
)
def test_what_changes_the_result_is_another_run(changes):
  other = dataclasses.replace(CONFIG, **changes)
  (name,) = changes
  found, expected = (
      continuation.identity(c, GRPO, 0)["--config.train"]
      for c in (other, CONFIG)
  )
  assert {k for k in found if found[k] != expected.get(k)} == {name}


def test_algorithm_and_seed_are_told_by_their_flags():
  changed = GRPO._replace(
      name="mine", hparams=GRPO.hparams | {"clip_eps_low": 0.5}
  )
  found = continuation.identity(CONFIG, changed, 7)
  expected = continuation.identity(CONFIG, GRPO, 0)
  assert {k for k in found if found[k] != expected[k]} == {
      *("--config.algorithm", "--hparam", "--config.run.seed"),
  }
  assert (found["--config.algorithm"], found["--config.run.seed"]) == (
      *("mine", 7),
  )
  assert found["--hparam"]["clip_eps_low"] == 0.5
  # Runs from before there were adapters have no such field.
  assert "lora" not in expected["--config.train"]
