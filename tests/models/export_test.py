"""Safetensors out: shards, copied files, and failures that leave nothing."""

import json
import os

from flax import nnx
import jax
import numpy as np
import pytest
import safetensors.numpy

from poise_jax.models import checkpoints, export, transformer, weights

CONFIG = transformer.TransformerConfig(
    vocab_size=11,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=12,
)


@pytest.fixture(scope="module")
def params():
  return transformer.make(CONFIG, 3)[1]


@pytest.fixture
def source(tmp_path):
  """A directory that a model might have come from."""
  path = tmp_path / "source"
  path.mkdir()
  (path / "config.json").write_text(
      json.dumps({"eos_token_id": [1, 2], "pad_token_id": 3, "mine": "kept"})
  )
  (path / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
  (path / "tokenizer.json").write_bytes(b"\x00not even text")
  (path / "README.md").write_text("of theirs")
  return path


def _files(directory):
  return {
      path.relative_to(directory).as_posix(): path.read_bytes()
      for path in directory.rglob("*")
      if path.is_file()
  }


def test_a_large_model_is_several_files_and_an_index(tmp_path, params):
  out = tmp_path / "out"
  export.save(out, CONFIG, params, max_file_bytes=4000)
  index = json.loads((out / weights.INDEX_FILE).read_text())
  files = sorted(path.name for path in out.glob("*.safetensors"))
  count = len(files)
  assert files == [
      f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)
  ]
  total = 0
  for file in files:
    tensors = safetensors.numpy.load_file(out / file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    assert size <= 4000 or len(tensors) == 1
    total += size
    assert {index["weight_map"][name] for name in tensors} == {file}
  assert index["metadata"]["total_size"] == total
  assert total == sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def test_files_of_the_source_are_copied(tmp_path, source, params):
  out = tmp_path / "out"
  export.save(out, CONFIG, params, source=source, pad_token_id=5)
  assert sorted(_files(out)) == [
      "config.json",
      "generation_config.json",
      "model.safetensors",
      "tokenizer.json",
  ]
  assert (out / "tokenizer.json").read_bytes() == b"\x00not even text"
  fields = json.loads((out / "config.json").read_text())
  assert (fields["mine"], fields["eos_token_id"]) == ("kept", [1, 2])
  assert (fields["pad_token_id"], fields["bos_token_id"]) == (5, None)
  assert checkpoints.load(out).tokens == ((1, 2), None, 5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_type_may_be_chosen(tmp_path, params, dtype):
  export.save(tmp_path / "out", CONFIG, params, dtype=dtype)
  found = checkpoints.load(tmp_path / "out", dtype=None)
  assert found.fields["torch_dtype"] == dtype
  expected = jax.tree.map(lambda x: x.astype(dtype), params)
  jax.tree.map(np.testing.assert_array_equal, found.params, expected)


def test_other_sizes_leave_no_old_weights(tmp_path, params):
  out = tmp_path / "out"
  export.save(out, CONFIG, params, max_file_bytes=4000)
  (out / "notes.txt").write_text("mine")
  export.save(out, CONFIG, params)
  assert sorted(_files(out)) == [
      "config.json",
      "model.safetensors",
      "notes.txt",
  ]
  export.save(out, CONFIG, params, max_file_bytes=16_000)
  assert "model.safetensors" not in _files(out)
  jax.tree.map(
      np.testing.assert_array_equal, checkpoints.load(out).params, params
  )


def test_files_can_be_read_by_others(tmp_path, params):
  export.save(tmp_path / "out", CONFIG, params)
  for path in (tmp_path / "out").iterdir():
    assert path.stat().st_mode & 0o044 == 0o044


def test_special_tokens_are_named_even_where_none_is_known(tmp_path, params):
  export.save(tmp_path / "out", CONFIG, params, eos_token_id=[4, 5])
  fields = json.loads((tmp_path / "out" / "config.json").read_text())
  names = ("eos_token_id", "bos_token_id", "pad_token_id")
  assert [fields[name] for name in names] == [[4, 5], None, None]


@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_changes_nothing(tmp_path, source, params, existing):
  out = tmp_path / "deep" / "out"
  if existing:
    export.save(out, CONFIG, params)
  before = _files(tmp_path)
  (source / "config.json").write_text("{")
  before["source/config.json"] = b"{"
  with pytest.raises(ValueError, match="cannot read .*config.json"):
    export.save(out, CONFIG, params, source=source)
  assert _files(tmp_path) == before


def test_a_full_disk_changes_nothing(tmp_path, params, monkeypatch):
  out = tmp_path / "out"
  export.save(out, CONFIG, params)
  before = _files(tmp_path)

  def fail(*args):
    raise OSError(28, os.strerror(28))

  # The last step before files are moved to their place.
  monkeypatch.setattr(export, "_publish", fail)
  other = jax.tree.map(lambda x: x + 1, params)
  with pytest.raises(OSError, match="No space"):
    export.save(out, CONFIG, other)
  assert _files(tmp_path) == before


def test_params_of_another_model_are_refused(tmp_path, params):
  flat = dict(nnx.to_flat_state(params))
  norm = flat.pop(("norm", "weight"))
  flat["more", "weight"] = norm
  bias = ("layers", 0, "self_attn", "q_proj", "bias")
  flat[bias] = flat[bias].replace(np.zeros(3, np.float32))
  with pytest.raises(ValueError) as error:
    export.save(
        tmp_path / "out", CONFIG, nnx.from_flat_state(list(flat.items()))
    )
  for part in (
      "missing norm.weight",
      "unknown more.weight",
      "layers.0.self_attn.q_proj.bias has shape (3,), not (16,)",
  ):
    assert part in str(error.value)
  assert not (tmp_path / "out").exists()
