"""Steps on disk: whole, bit for bit, onto any mesh, or one clear error."""

import json
import logging
import pathlib
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from poise_jax.models import transformer
from poise_jax.training import checkpoint

CONFIG = transformer.TransformerConfig(
    vocab_size=16,
    hidden_size=8,
    intermediate_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=32,
)
PRINT = {"model": {"hidden_size": 8, "layers": [2, 2]}, "seed": 1}
ALL = checkpoint.Retention(last=1000)


def opened(directory, retention=ALL, fingerprint=PRINT):
  return checkpoint.open(directory, retention, fingerprint=fingerprint)


def saved(directory, arrays, step=3, **changes):
  """Saves one step and closes."""
  with opened(directory, **changes) as checkpoints:
    checkpoints.save(step, arrays, {"position": [1, 2]}, {"reward": 0.5})
  return directory


def restored(directory, like, step=3, **changes):
  with opened(directory, **changes) as checkpoints:
    return checkpoints.restore(step, like)[0]


def listing(directory):
  """Name, size and content of all files, without the lock."""
  return {
      path.relative_to(directory): path.read_bytes()
      for path in pathlib.Path(directory).rglob("*")
      if path.is_file() and path.name != ".lock"
  }


def assert_same_bits(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(
      jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    assert type(a) is type(b)
    assert np.asarray(a).dtype == np.asarray(b).dtype
    assert np.shape(a) == np.shape(b)
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert getattr(a, "weak_type", None) == getattr(b, "weak_type", None)


class History(NamedTuple):
  seen: np.ndarray
  passed: np.ndarray


def awkward():
  """One of everything that a checkpoint may meet."""
  quiet_nans = np.array([0x7FC00001, 0xFFC12345], np.uint32).view(np.float32)
  return {
      "algorithm": {},
      "none": None,
      "history": History(np.arange(3.0), np.zeros(3, np.float32)),
      "tuple": (jnp.int32(7), [jnp.array(True), ()]),
      "nan": jnp.asarray(quiet_nans),
      "signed zeros": jnp.full((3,), -0.0),
      "infinite": jnp.array([jnp.inf, -jnp.inf]),
      "bf16": jnp.array([1.5, -0.0, jnp.nan, 3e38], jnp.bfloat16),
      "u8": jnp.arange(5, dtype=jnp.uint8),
      "i64": np.array([2**62, -1]),
      "f64": np.array(1e-300),
      "empty": jnp.zeros((0, 4), jnp.bfloat16),
      "empty too": np.zeros((2, 0)),
      "weak": jnp.asarray(0.1),
      "weak row": jnp.full((2, 2), 0.25),
      "strong": jnp.float32(0.1),
      "int": 3,
      "big": 2**62,
      "float": 0.1,
      "bool": False,
      "scalar": np.float32(0.5),
      "a": jnp.ones(2),
      "a/0": jnp.full(2, 2.0),
      "a.b": {"c": jnp.full(2, 3.0)},
      "a.b.c": jnp.full(2, 4.0),
      "numbered": {5: jnp.full(2, 5.0), 10: [jnp.full(2, 6.0)]},
      "é ]'\"%/..": jnp.full(2, 7.0),
  }


def training_state(seed):
  """Params, two kinds of optimizer state, and the algorithm's."""
  _, params = transformer.make(CONFIG, seed)
  mask = jax.tree.map(lambda x: x.ndim > 1, params)
  optimizer = optax.chain(
      optax.clip_by_global_norm(1.0),
      optax.inject_hyperparams(optax.adamw)(learning_rate=1e-3),
      optax.masked(optax.trace(0.9), mask),
  )
  return {"params": params, "opt": optimizer.init(params), "algorithm": {}}


def test_everything_comes_back_bit_for_bit(tmp_path):
  arrays = awkward()
  saved(tmp_path, arrays)
  assert_same_bits(restored(tmp_path, arrays), arrays)


def test_a_training_state_comes_back_bit_for_bit(tmp_path):
  arrays = training_state(0)
  saved(tmp_path, arrays)
  # Of other values, and abstract: only the structure is taken from `like`.
  assert_same_bits(restored(tmp_path, training_state(1)), arrays)
  abstract = jax.eval_shape(lambda: training_state(1))
  found = restored(tmp_path, abstract)
  assert_same_bits(found, arrays)
  assert isinstance(found["params"], nnx.State)
  assert isinstance(found["params"]["norm"]["weight"], nnx.Param)


def test_abstract_leaves_of_every_kind(tmp_path):
  arrays = {
      name: value
      for name, value in awkward().items()
      if isinstance(value, jax.Array)
  }
  saved(tmp_path, arrays)
  like = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in arrays.items()}
  assert_same_bits(restored(tmp_path, like), arrays)


def test_meta_and_record(tmp_path):
  meta = {"position": (1, 2), "nan": float("nan"), "é": None}
  with opened(tmp_path) as checkpoints:
    checkpoints.save(0, {"a": jnp.ones((2, 3))}, meta, {"reward": np.nan})
    _, found = checkpoints.restore(0, {"a": jnp.zeros((2, 3))})
    record = checkpoints.record(0)
  assert json.dumps(found) == json.dumps(meta)
  assert record.meta.keys() == meta.keys()
  assert record.step == 0
  assert np.isnan(record.metrics["reward"])
  assert record.fingerprint == PRINT
  assert record.versions["jax"] == jax.__version__
  assert record.leaves == {"['a']": "float32[2,3]"}


def test_last_and_best_are_kept_together(tmp_path):
  rewards = [0.1, 0.9, 0.2, float("nan"), 0.3, None, 0.4]
  retention = checkpoint.Retention(last=2, best=1)
  kept = []
  with opened(tmp_path, retention) as checkpoints:
    assert checkpoints.best() is None
    for step, reward in enumerate(rewards):
      metrics = {} if reward is None else {"reward": reward}
      checkpoints.save(step, {"x": jnp.full(3, step)}, {}, metrics)
      kept.append(checkpoints.steps())
    assert checkpoints.best() == 1
    found, _ = checkpoints.restore(1, {"x": jnp.zeros(3, int)})
    np.testing.assert_array_equal(found["x"], 1)
  assert kept == [
      [0], [0, 1], [1, 2], [1, 2, 3], [1, 3, 4], [1, 4, 5], [1, 5, 6],
  ]  # fmt: skip
  # The best is remembered by a new process; nothing else is left behind.
  with opened(tmp_path, retention) as checkpoints:
    assert checkpoints.best() == 1
    checkpoints.save(7, {"x": jnp.ones(3)}, {}, {"reward": 0.8})
    assert checkpoints.steps() == [1, 6, 7]
  assert {p.name for p in tmp_path.iterdir()} == {".lock", "1", "6", "7"}


def test_ranking():
  metrics = {
      1: {"loss": 2.0},
      2: {"loss": float("nan")},
      3: {},
      4: {"loss": 1.0},
      5: {"loss": 1.0},
      6: {"loss": float("inf")},
  }
  smallest = checkpoint.Retention(1, 2, "loss", larger_is_better=False)
  assert smallest.ranked(metrics) == [5, 4, 1, 6]
  assert smallest.kept(metrics) == {4, 5, 6}
  largest = checkpoint.Retention(2, 1, "loss")
  assert largest.ranked(metrics) == [6, 1, 5, 4]
  assert checkpoint.Retention(2, 0, "loss").kept(metrics) == {5, 6}
  assert largest.kept({}) == set()


@pytest.mark.parametrize("last, best", [(0, 1), (-1, 1), (1, -1)])
def test_retention_that_keeps_nothing_is_refused(last, best):
  with pytest.raises(ValueError, match="`last` must be at least 1"):
    checkpoint.Retention(last, best)


def test_saving_goes_on_while_arrays_are_donated_and_changed(tmp_path):
  rng = np.random.default_rng(0)
  host = rng.standard_normal(4_000_000).astype(np.float32)
  device = jax.device_put(jnp.asarray(host + 1), jax.devices()[0])
  advance = jax.jit(lambda x: x * 1.5 + 1, donate_argnums=0)
  advance(jnp.copy(device))
  with opened(tmp_path) as checkpoints:
    for step in range(3):
      expected = host.copy(), np.array(device)
      checkpoints.save(step, {"host": host, "device": device}, {}, {})
      under_way = not (tmp_path / str(step)).exists()
      for _ in range(5):
        donated, device = device, advance(device)
        host += 1
      jax.block_until_ready(device)
      assert under_way
      assert donated.is_deleted()
      like = {"host": host, "device": device}
      found, _ = checkpoints.restore(step, like)
      assert_same_bits((found["host"], np.array(found["device"])), expected)


def test_another_configuration_is_one_error_that_names_the_fields(tmp_path):
  saved(tmp_path, {"x": jnp.ones(3)})
  before = listing(tmp_path)
  other = {"model": {"hidden_size": 16, "layers": (2, 2)}, "task": "gsm8k"}
  with pytest.raises(ValueError) as caught, opened(tmp_path, ALL, other):
    pass
  message = str(caught.value)
  assert "model.hidden_size is 8 there, 16 here" in message
  assert "seed is 1 there, absent here" in message
  assert 'task is absent there, "gsm8k" here' in message
  assert "layers" not in message
  assert "use another directory" in message
  assert listing(tmp_path) == before
  with checkpoint.read(tmp_path, fingerprint=other) as checkpoints:
    with pytest.raises(ValueError, match="hidden_size is 8 there, 16 here"):
      checkpoints.restore(3, {"x": jnp.ones(3)})
  # The same, but for tuples: goes through.
  same = {"seed": 1, "model": {"layers": (2, 2), "hidden_size": 8}}
  with opened(tmp_path, ALL, same) as checkpoints:
    assert checkpoints.steps() == [3]


def test_another_model_is_one_error_that_lists_the_leaves(tmp_path):
  saved(
      tmp_path,
      {"w": jnp.ones((2, 3)), "b": jnp.ones(3), "old": jnp.ones(1), "n": 1},
  )
  like = {
      "w": jnp.ones((3, 2)),
      "b": jnp.ones(3, jnp.bfloat16),
      "new": jnp.ones(1),
      "n": 1,
  }
  with pytest.raises(ValueError) as caught:
    restored(tmp_path, like)
  for part in (
      "['w'] is float32[2,3], not float32[3,2]",
      "['b'] is float32[3], not bfloat16[3]",
      "['new'] was not saved",
      "['old'] is not asked for",
  ):
    assert part in str(caught.value)
  assert "['n']" not in str(caught.value)


def test_no_checkpoint_no_directory_no_step(tmp_path):
  with opened(tmp_path) as checkpoints:
    assert checkpoints.latest() is None
    with pytest.raises(FileNotFoundError, match="has no checkpoint yet"):
      checkpoints.restore(1, {"x": jnp.ones(3)})
  saved(tmp_path, {"x": jnp.ones(3)})
  with checkpoint.read(tmp_path) as checkpoints:
    with pytest.raises(FileNotFoundError, match=r"only the steps \[3\]"):
      checkpoints.restore(1, {"x": jnp.ones(3)})
  missing = tmp_path / "missing"
  with pytest.raises(FileNotFoundError, match="missing"):
    with checkpoint.read(missing):
      pass
  assert not missing.exists()


def _cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "no record": lambda step: (step / "record" / "metadata").unlink(),
    "half a record": lambda step: _cut(step / "record" / "metadata"),
    "no JSON": lambda step: (step / "record" / "metadata").write_text("[1]"),
    "no manifest": lambda step: (step / "arrays" / "manifest.ocdbt").unlink(),
    "half a manifest": lambda step: _cut(step / "arrays" / "manifest.ocdbt"),
    "half the data": lambda step: [
        _cut(path) for path in step.glob("arrays/**/d/*")
    ],
    "nothing": lambda step: [
        path.unlink() for path in step.rglob("*") if path.is_file()
    ],
}


# Orbax leaves a coroutine behind where it meets half a file.
@pytest.mark.filterwarnings(
    "ignore:coroutine 'Store._get_array_metadatas' was never awaited"
)
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_named_and_nothing_is_deleted(tmp_path, damage):
  arrays = {"x": jnp.asarray(np.random.default_rng(0).standard_normal(9999))}
  saved(tmp_path, arrays, 3)
  saved(tmp_path, arrays, 5)
  damage(tmp_path / "5")
  before = listing(tmp_path)
  with pytest.raises(ValueError) as caught, opened(tmp_path) as checkpoints:
    checkpoints.restore(5, arrays)
  assert f"cannot read {str(tmp_path / '5')!r}" in str(caught.value)
  assert "move it away, and the run continues from step 3" in str(caught.value)
  assert listing(tmp_path) == before
  with checkpoint.read(tmp_path) as checkpoints:
    assert_same_bits(checkpoints.restore(3, arrays)[0], arrays)
  (tmp_path / "5").rename(tmp_path / "damaged")
  assert_same_bits(restored(tmp_path, arrays, 3), arrays)


@pytest.mark.parametrize(
    "error, arrays, meta",
    [
        (TypeError, {"k": jax.random.key(0)}, {}),
        (ValueError, {"k": {}, "l": None}, {}),
        (TypeError, {"k": 1}, {"a": jnp.ones(2)}),
    ],
)
def test_what_is_refused_does_not_end_the_run(tmp_path, error, arrays, meta):
  with opened(tmp_path) as checkpoints:
    with pytest.raises(error):
      checkpoints.save(1, arrays, meta, {})
    assert checkpoints.steps() == []
    checkpoints.save(1, {"x": jnp.ones(2)}, {}, {})
    assert checkpoints.steps() == [1]


@pytest.mark.parametrize("step", [3, 2, -1])
def test_only_new_steps_are_saved(tmp_path, step):
  saved(tmp_path, {"x": jnp.ones(3)})
  before = listing(tmp_path)
  with opened(tmp_path) as checkpoints:
    with pytest.raises(ValueError, match="greater than the latest step 3"):
      checkpoints.save(step, {"x": jnp.zeros(3)}, {}, {})
  assert listing(tmp_path) == before


def test_readers_change_nothing_while_a_run_saves(tmp_path):
  retention = checkpoint.Retention(1, 1)
  arrays = {"x": jnp.ones(3)}
  with opened(tmp_path, retention) as writer:
    writer.save(1, arrays, {}, {"reward": 1.0})
    writer.save(2, arrays, {}, {"reward": 0.0})
    writer.wait()
    with checkpoint.read(tmp_path) as reader:
      assert reader.steps() == [1, 2]
      assert reader.best() == 1
      with pytest.raises(ValueError, match="opened by `read`"):
        reader.save(3, arrays, {}, {})
      big = np.random.default_rng(0).standard_normal(3_000_000)
      writer.save(3, {"x": big}, {}, {"reward": 0.5})
      assert_same_bits(reader.restore(1, arrays)[0], arrays)
    with checkpoint.read(tmp_path) as reader:
      pass
    assert writer.steps() == [1, 3]
    np.testing.assert_array_equal(writer.restore(3, {"x": big})[0]["x"], big)


def test_an_error_inside_is_not_hidden_and_the_save_is_whole(tmp_path):
  filters = list(logging.getLogger("absl").filters)
  with pytest.raises(KeyError), opened(tmp_path) as checkpoints:
    checkpoints.save(1, {"x": jnp.ones(3)}, {}, {})
    raise KeyError
  np.testing.assert_array_equal(
      restored(tmp_path, {"x": jnp.zeros(3)}, 1)["x"], 1
  )
  assert logging.getLogger("absl").filters == filters
