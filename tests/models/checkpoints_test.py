"""Hugging Face directories: round trip, the shipped one, and broken ones."""

import json
import pathlib

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from poise_jax.models import checkpoints, transformer

CONFIG = transformer.TransformerConfig(
    vocab_size=11,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=12,
    rope_theta=50.0,
)
EMBEDDED = pathlib.Path(checkpoints.__file__).parent / "embedded_policy"


@pytest.fixture
def saved(tmp_path):
  graphdef, params = transformer.make(CONFIG, 3)
  checkpoints.save(tmp_path, CONFIG, params, eos_token_id=10)
  return tmp_path, graphdef, params


def _rewrite(directory, change):
  path = directory / checkpoints.WEIGHTS_FILE
  weights = safetensors.numpy.load_file(path)
  change(weights)
  safetensors.numpy.save_file(weights, path)


def test_round_trip_is_bit_equal(saved):
  directory, graphdef, params = saved
  loaded = checkpoints.load(directory)
  assert (loaded.config, loaded.graphdef) == (CONFIG, graphdef)
  jax.tree.map(np.testing.assert_array_equal, loaded.params, params)


def test_saving_twice_gives_the_same_bytes(saved, tmp_path):
  directory, _, params = saved
  checkpoints.save(tmp_path / "again", CONFIG, params, eos_token_id=10)
  assert checkpoints.fingerprint(directory) == checkpoints.fingerprint(
      tmp_path / "again"
  )


def test_fingerprint_follows_the_weights(saved):
  directory, _, _ = saved
  before = checkpoints.fingerprint(directory)
  _rewrite(directory, lambda w: w["model.norm.weight"].__setitem__(0, 2.0))
  assert checkpoints.fingerprint(directory) != before


def test_names_and_shapes_are_those_of_hugging_face(saved):
  directory, _, _ = saved
  weights = safetensors.numpy.load_file(directory / checkpoints.WEIGHTS_FILE)
  assert weights["model.embed_tokens.weight"].shape == (11, 16)
  prefix = "model.layers.1."
  assert weights[prefix + "self_attn.k_proj.weight"].shape == (8, 16)
  assert weights[prefix + "self_attn.k_proj.bias"].shape == (8,)
  assert weights[prefix + "mlp.down_proj.weight"].shape == (16, 24)
  assert "lm_head.weight" not in weights
  fields = json.loads((directory / checkpoints.CONFIG_FILE).read_text())
  assert fields["architectures"] == ["Qwen2ForCausalLM"]


def test_everything_that_does_not_fit_is_listed(saved):
  directory, _, _ = saved

  def change(weights):
    del weights["model.norm.weight"]
    weights["model.extra.weight"] = np.zeros(1, np.float32)
    weights["model.embed_tokens.weight"] = np.zeros((4, 16), np.float32)

  _rewrite(directory, change)
  with pytest.raises(ValueError) as error:
    checkpoints.load(directory)
  for part in (
      "missing model.norm.weight",
      "unknown model.extra.weight",
      "model.embed_tokens.weight has shape (4, 16)",
      "implies (11, 16)",
  ):
    assert part in str(error.value)


def test_missing_files_are_named(tmp_path):
  with pytest.raises(FileNotFoundError, match="config.json"):
    checkpoints.load(tmp_path)


def test_truncated_weights_are_refused(saved):
  directory, _, _ = saved
  path = directory / checkpoints.WEIGHTS_FILE
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match="cannot read"):
    checkpoints.load(directory)


def test_config_that_is_not_json_is_refused(saved):
  directory, _, _ = saved
  (directory / checkpoints.CONFIG_FILE).write_text("{")
  with pytest.raises(ValueError, match="cannot read"):
    checkpoints.load(directory)


def test_the_shipped_policy_loads_and_is_small():
  checkpoint = checkpoints.load(EMBEDDED)
  count = sum(x.size for x in jax.tree.leaves(checkpoint.params))
  assert count < 100_000
  assert sum(p.stat().st_size for p in EMBEDDED.iterdir()) < 2_000_000


def test_transformers_gives_the_same_logits():
  torch = pytest.importorskip("torch", reason="needs the `bench` extra")
  transformers = pytest.importorskip("transformers")
  checkpoint = checkpoints.load(EMBEDDED)
  tokens = np.random.default_rng(0).integers(0, 20, (4, 46)).astype(np.int32)
  theirs = transformers.Qwen2ForCausalLM.from_pretrained(EMBEDDED)
  with torch.no_grad():
    expected = theirs(torch.as_tensor(tokens, dtype=torch.long)).logits.numpy()
  model = nnx.merge(checkpoint.graphdef, checkpoint.params)
  found = nnx.jit(model)(jnp.asarray(tokens))
  np.testing.assert_allclose(found, expected, atol=1e-4)


def test_transformers_opens_the_shipped_tokenizer():
  transformers = pytest.importorskip("transformers")
  tokenizer = transformers.AutoTokenizer.from_pretrained(EMBEDDED)
  ids = tokenizer("123+4*5=______")["input_ids"]
  assert len(ids) == 15 and ids[0] == tokenizer.bos_token_id
  text = "+4721*5536\\boxed{635}"
  ids = tokenizer(text, add_special_tokens=False)["input_ids"]
  assert len(ids) == 15
  assert tokenizer.decode(ids) == text
