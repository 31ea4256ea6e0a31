"""The decoder: cache against whole rows, causality, configuration."""

import dataclasses

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.models import kv_cache, transformer

CONFIG = transformer.TransformerConfig(
    vocab_size=11,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=12,
    rope_theta=100.0,
)
HF_FIELDS = dataclasses.asdict(CONFIG) | {
    "model_type": "qwen2",
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="module")
def model():
  return nnx.merge(*transformer.make(CONFIG, 0))


@pytest.fixture(scope="module")
def tokens():
  return jax.random.randint(jax.random.key(0), (3, 12), 0, 11)


def test_decoding_with_a_cache_equals_reading_whole_rows(model, tokens):
  whole = nnx.jit(model)(tokens)
  _, cache = nnx.jit(transformer.Transformer.hidden)(model, tokens[:, :5])
  cache = tuple(kv_cache.extend(layer, 7) for layer in cache)
  decode = nnx.jit(transformer.Transformer.decode)
  for position in range(5, 12):
    logits, cache = decode(
        model, tokens[:, position], jnp.int32(position), cache
    )
    np.testing.assert_allclose(logits, whole[:, position], atol=1e-5)


def test_a_shared_prefix_equals_reading_whole_rows(model, tokens):
  rows = jnp.concatenate([jnp.tile(tokens[:1, :5], (3, 1)), tokens[:, 5:]], 1)
  _, cache = model.hidden(tokens[:1, :5])
  prefix = tuple(kv_cache.tile(layer, 3) for layer in cache)
  states, _ = model.hidden(rows[:, 5:], prefix)
  np.testing.assert_allclose(
      model.logits(states), model(rows)[:, 5:], atol=1e-5
  )


def test_no_token_sees_a_later_one(model, tokens):
  changed = tokens.at[:, 7].set((tokens[:, 7] + 1) % 11)
  before, after = model(tokens), model(changed)
  np.testing.assert_array_equal(before[:, :7], after[:, :7])
  assert not np.allclose(before[:, 7:], after[:, 7:])


def test_logits_are_f32_of_the_right_shape(model, tokens):
  logits = model(tokens)
  assert logits.shape == (3, 12, 11)
  assert logits.dtype == jnp.float32


def test_structure_is_that_of_a_made_model():
  graphdef, params = transformer.make(CONFIG, 0)
  abstract_graphdef, abstract = transformer.structure(CONFIG)
  assert graphdef == abstract_graphdef
  shapes = lambda tree: jax.tree.map(lambda x: x.shape, tree)
  assert shapes(params) == shapes(abstract)


def test_rms_norm_by_hand():
  norm = transformer.RMSNorm(2, epsilon=0.0)
  # rms([3, 4]) = sqrt(12.5)
  np.testing.assert_allclose(
      norm(jnp.array([[3.0, 4.0]])), [[3 / 12.5**0.5, 4 / 12.5**0.5]], rtol=1e-6
  )


def test_swiglu_by_hand():
  mlp = transformer.MLP(1, 1, rngs=nnx.Rngs(0))
  for layer, weight in zip(
      (mlp.gate_proj, mlp.up_proj, mlp.down_proj), (2.0, 3.0, 5.0), strict=True
  ):
    layer.kernel[...] = jnp.array([[weight]])
  # silu(2) * 3 * 5 for x = 1
  expected = 2 / (1 + np.exp(-2)) * 3 * 5
  np.testing.assert_allclose(mlp(jnp.array([[1.0]])), [[expected]], rtol=1e-6)


def test_config_is_read_from_hugging_face_fields():
  assert transformer.config_from_hf(HF_FIELDS) == CONFIG


def test_rope_theta_may_be_nested():
  fields = {k: v for k, v in HF_FIELDS.items() if k != "rope_theta"}
  fields["rope_parameters"] = {"rope_theta": 7.0, "rope_type": "default"}
  assert transformer.config_from_hf(fields).rope_theta == 7.0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "llama"}, "'qwen2', got 'llama'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "yarn"),
        ({"hidden_size": 18}, "hidden_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
    ],
)
def test_configs_that_cannot_be_loaded_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    transformer.config_from_hf(HF_FIELDS | changes)


def test_missing_fields_are_named():
  fields = {k: v for k, v in HF_FIELDS.items() if k != "vocab_size"}
  with pytest.raises(ValueError, match="lacks vocab_size"):
    transformer.config_from_hf(fields)
