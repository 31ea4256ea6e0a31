"""Safetensors in: shards, types, and every way a file can be broken."""

import json
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from poise_jax import sharding
from poise_jax.models import (
    export,
    logical_axes,
    transformer,
    weights,
)

CONFIG = transformer.TransformerConfig(
    vocab_size=11,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=12,
)
INDEX = weights.INDEX_FILE


@pytest.fixture(scope="module")
def params():
  return transformer.make(CONFIG, 3)[1]


@pytest.fixture(scope="module")
def written(tmp_path_factory, params):
  """One directory with a single file, one with several and an index."""
  root = tmp_path_factory.mktemp("written")
  export.save(root / "one", CONFIG, params)
  export.save(root / "many", CONFIG, params, max_file_bytes=4000)
  return root


@pytest.fixture
def one(written, tmp_path):
  return shutil.copytree(written / "one", tmp_path / "one")


@pytest.fixture
def many(written, tmp_path):
  return shutil.copytree(written / "many", tmp_path / "many")


def _rewrite(path, change):
  tensors = safetensors.numpy.load_file(path)
  change(tensors)
  safetensors.numpy.save_file(tensors, path)


def _read(directory, **options):
  return weights.read(directory, CONFIG, **options)[1]


def _same(found, params):
  jax.tree.map(np.testing.assert_array_equal, found, params)


def test_several_files_hold_what_one_does(many, params):
  assert len(list(many.glob("model-*.safetensors"))) > 2
  assert not (many / weights.WEIGHTS_FILE).exists()
  _same(_read(many), params)


def test_a_single_file_comes_first(many, params):
  # As in transformers.
  zeros = jax.tree.map(np.zeros_like, params)
  export.save(many.parent / "zeros", CONFIG, zeros)
  shutil.copy(many.parent / "zeros" / weights.WEIGHTS_FILE, many)
  _same(_read(many), zeros)


@pytest.mark.parametrize("stored", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("dtype", [None, "float32", "bfloat16"])
def test_types(one, params, stored, dtype):
  def change(tensors):
    for name, tensor in tensors.items():
      tensors[name] = tensor.astype(stored)

  _rewrite(one / weights.WEIGHTS_FILE, change)
  found = _read(one, dtype=dtype)
  wanted = np.dtype(stored if dtype is None else dtype)

  def check(ours, theirs):
    assert ours.dtype == wanted
    expected = np.asarray(theirs).astype(stored).astype(wanted)
    np.testing.assert_array_equal(np.asarray(ours), expected)

  jax.tree.map(check, found, params)


def test_with_shardings_they_are_where_they_should_be(many, params):
  mesh = sharding.make_mesh(sharding.MeshConfig())
  where = logical_axes.parameter_shardings(
      mesh, transformer.structure(CONFIG)[1]
  )
  found = _read(many, shardings=lambda _: where)
  _same(found, params)
  for leaf, wanted in zip(*map(jax.tree.leaves, (found, where)), strict=True):
    assert leaf.sharding == wanted


def test_a_redundant_head_must_be_the_embedding(one, params):
  name = "model.embed_tokens.weight"
  path = one / weights.WEIGHTS_FILE
  _rewrite(path, lambda t: t.update({"lm_head.weight": t[name].copy()}))
  _same(_read(one), params)
  _rewrite(path, lambda t: t["lm_head.weight"].__setitem__((0, 0), 9.0))
  with pytest.raises(ValueError, match="lm_head.weight differs from model.emb"):
    weights.read(one, CONFIG)


def test_frequencies_that_older_files_hold_are_passed_over(one, params):
  name = "model.layers.0.self_attn.rotary_emb.inv_freq"
  _rewrite(
      one / weights.WEIGHTS_FILE,
      lambda t: t.update({name: np.ones(2, np.float32)}),
  )
  _same(_read(one), params)


def test_everything_that_does_not_fit_is_listed(one):
  def change(tensors):
    del tensors["model.norm.weight"]
    tensors["model.extra.weight"] = np.zeros(1, np.float32)
    tensors["model.embed_tokens.weight"] = np.zeros((4, 16), np.float32)
    bias = "model.layers.0.self_attn.q_proj.bias"
    tensors[bias] = tensors[bias].astype(np.int8)

  _rewrite(one / weights.WEIGHTS_FILE, change)
  with pytest.raises(ValueError) as error:
    weights.read(one, CONFIG)
  for part in (
      "missing model.norm.weight",
      "unknown model.extra.weight",
      "model.embed_tokens.weight has shape (4, 16)",
      "implies (11, 16)",
      "model.layers.0.self_attn.q_proj.bias is I8",
  ):
    assert part in str(error.value)


def test_another_family_does_not_fit(one):
  config = transformer.TransformerConfig(
      *(11, 16, 24, 2, 4, 2, 12), model_type="qwen3", tie_word_embeddings=False
  )
  with pytest.raises(ValueError) as error:
    weights.read(one, config)
  for part in (
      "missing lm_head.weight",
      "missing model.layers.1.self_attn.k_norm.weight",
      "unknown model.layers.0.self_attn.q_proj.bias",
  ):
    assert part in str(error.value)


def test_neither_file_nor_index(tmp_path):
  with pytest.raises(FileNotFoundError, match="no model.safetensors or model"):
    weights.read(tmp_path, CONFIG)


def test_absent_files_of_an_index_are_all_listed(many):
  files = sorted(path.name for path in many.glob("model-*.safetensors"))
  for name in files[:2]:
    (many / name).unlink()
  with pytest.raises(FileNotFoundError) as error:
    weights.read(many, CONFIG)
  assert f"absent: {files[0]}, {files[1]}" in str(error.value)


def test_an_index_that_files_contradict_is_refused(many):
  index = json.loads((many / INDEX).read_text())
  first, *_, last = sorted(set(index["weight_map"].values()))
  name = next(n for n, f in index["weight_map"].items() if f == first)
  index["weight_map"][name] = last
  (many / INDEX).write_text(json.dumps(index))
  with pytest.raises(ValueError) as error:
    weights.read(many, CONFIG)
  assert f"{first} has {name}" in str(error.value)
  assert f"{last} lacks {name}" in str(error.value)
  assert f"missing {name}" in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b"[]",
        b"{}",
        b'{"weight_map": 3}',
        b'{"weight_map": {"a": 3}}',
        b'{"weight_map": {"a": "../elsewhere.safetensors"}}',
        b'{"weight_map": {"a": ""}}',
        b"[" * 100_000,
    ],
)
def test_broken_indices_are_refused(many, content):
  (many / INDEX).write_bytes(content)
  with pytest.raises(ValueError, match="cannot read .*index.json"):
    weights.read(many, CONFIG)


@pytest.mark.parametrize("where", ["one", "many"])
def test_files_cut_anywhere_are_refused(where, request):
  directory = request.getfixturevalue(where)
  path = sorted(directory.glob("model*.safetensors"))[0]
  content = path.read_bytes()
  cuts = {0, 7, 9, len(content) // 2, len(content) - 1}
  for cut in sorted(cuts):
    path.write_bytes(content[:cut])
    with pytest.raises(ValueError, match=f"cannot read .*{path.name}"):
      weights.read(directory, CONFIG)


def test_flipped_bytes_never_crash(one, params):
  path = one / weights.WEIGHTS_FILE
  content = path.read_bytes()
  header = 8 + int.from_bytes(content[:8], "little")
  rng = np.random.default_rng(0)
  refused = 0
  for _ in range(25):
    broken = bytearray(content)
    broken[rng.integers(header)] ^= 1 << rng.integers(8)
    path.write_bytes(broken)
    try:
      found = _read(one)
    except ValueError:
      refused += 1
    else:  # such as a space in the metadata
      assert jax.tree.structure(found) == jax.tree.structure(params)
  assert refused > 15


def test_names_are_those_of_hugging_face():
  config = transformer.TransformerConfig(
      *(11, 16, 24, 1, 4, 2, 12),
      model_type="qwen3",
      tie_word_embeddings=False,
      head_dim=6,
  )
  layer = {
      "input_layernorm.weight": (16,),
      "post_attention_layernorm.weight": (16,),
      "self_attn.q_proj.weight": (24, 16),
      "self_attn.k_proj.weight": (12, 16),
      "self_attn.v_proj.weight": (12, 16),
      "self_attn.o_proj.weight": (16, 24),
      "self_attn.q_norm.weight": (6,),
      "self_attn.k_norm.weight": (6,),
      "mlp.gate_proj.weight": (24, 16),
      "mlp.up_proj.weight": (24, 16),
      "mlp.down_proj.weight": (16, 24),
  }
  expected = {
      "model.embed_tokens.weight": (11, 16),
      "model.norm.weight": (16,),
      "lm_head.weight": (11, 16),
  } | {f"model.layers.0.{name}": shape for name, shape in layer.items()}
  found = weights.stored(config)
  assert {name: value.shape for name, value in found.items()} == expected
