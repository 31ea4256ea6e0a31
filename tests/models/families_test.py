"""config.json of every family, in and out, and what is refused."""

import dataclasses

import pytest

from poise_jax.models import families, rotary

FIELDS = {
    "model_type": "qwen2",
    "vocab_size": 11,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 12,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def test_absent_fields_are_what_transformers_takes_them_to_be():
  fields = {k: v for k, v in FIELDS.items() if k != "num_key_value_heads"}
  config = families.config_from_hf(fields)
  assert config == families.TransformerConfig(
      11, 16, 24, 2, 4, 4, 12, tie_word_embeddings=False, head_dim=4
  )
  assert config.family.attention_bias and not config.family.qk_norm


def test_head_dim_by_family():
  assert families.config_from_hf(FIELDS).head_dim == 4
  qwen3 = families.config_from_hf(FIELDS | {"model_type": "qwen3"})
  assert qwen3.head_dim == 128 and qwen3.family.qk_norm
  # Where it is given the width need not be a multiple.
  named = FIELDS | {"hidden_size": 18, "head_dim": 6}
  assert families.config_from_hf(named).head_dim == 6


@pytest.mark.parametrize("theta", [10000, 10000.0])
def test_numbers_may_be_written_either_way(theta):
  assert families.config_from_hf(FIELDS | {"rope_theta": theta}).rope_theta == (
      10000.0
  )


def test_rotary_fields_of_version_5_are_nested():
  nested = {"rope_theta": 7.0, "rope_type": "default"}
  config = families.config_from_hf(FIELDS | {"rope_parameters": nested})
  assert config.rope_theta == 7.0 and config.rope_scaling is None


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_llama3_scaling_is_read(key):
  fields = FIELDS | {"model_type": "llama", key: LLAMA3}
  config = families.config_from_hf(fields)
  assert config.rope_scaling == rotary.Llama3(8.0, 1.0, 4.0, 8192)


def test_linear_scaling_by_its_older_name_is_read():
  config = families.config_from_hf(
      FIELDS | {"rope_scaling": {"type": "linear", "factor": 2}}
  )
  assert config.rope_scaling == rotary.Linear(2.0)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "mistral"}, "qwen2, qwen3, llama, got 'mistral'"),
        ({"model_type": ["qwen2"]}, r"got \['qwen2'\]"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "'yarn' is not supported"),
        ({"rope_scaling": {"type": "dynamic"}}, "'dynamic' is not supported"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "lacks factor, low_freq"),
        ({"rope_scaling": {"type": "linear", "factor": -1}}, "positive"),
        ({"rope_scaling": 3}, "must be an object"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 4.0}}, "below"),
        ({"use_sliding_window": True}, "`use_sliding_window` = True"),
        (
            {"layer_types": ["full_attention", "sliding_attention"]},
            "`layer_types`",
        ),
        ({"model_type": "llama", "attention_bias": True}, "`attention_bias`"),
        ({"model_type": "llama", "mlp_bias": True}, "`mlp_bias`"),
        ({"quantization_config": {"bits": 4}}, "`quantization_config`"),
        ({"num_local_experts": 8}, "`num_local_experts`"),
        ({"partial_rotary_factor": 0.5}, "`partial_rotary_factor`"),
        (
            {"rope_parameters": {"partial_rotary_factor": 0.5}},
            "`partial_rotary_factor`",
        ),
        ({"hidden_act": "gelu"}, "'silu', got 'gelu'"),
        ({"hidden_size": 18}, "hidden_size"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"vocab_size": "11"}, "`vocab_size` must be int, got '11'"),
        ({"vocab_size": True}, "`vocab_size` must be int"),
        ({"head_dim": 3}, "even"),
    ],
)
def test_configs_that_cannot_be_used_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    families.config_from_hf(FIELDS | changes)


def test_everything_wrong_is_listed():
  fields = FIELDS | {"hidden_act": "relu", "rope_scaling": {"type": "yarn"}}
  del fields["vocab_size"], fields["hidden_size"]
  with pytest.raises(ValueError) as error:
    families.config_from_hf(fields)
  for part in ("lacks vocab_size", "lacks hidden_size", "relu", "yarn"):
    assert part in str(error.value)


def test_a_family_must_be_known():
  with pytest.raises(ValueError, match="qwen2, qwen3, llama, got 'gpt2'"):
    families.TransformerConfig(11, 16, 24, 2, 4, 2, 12, model_type="gpt2")


@pytest.mark.parametrize("model_type", families.FAMILIES)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "scaling", [None, rotary.Linear(2.0), rotary.Llama3(8.0, 1.0, 4.0, 64)]
)
def test_out_and_in_again(model_type, tied, scaling):
  config = families.TransformerConfig(
      **(FIELDS | {"model_type": model_type}),
      head_dim=8,
      tie_word_embeddings=tied,
      rope_scaling=scaling,
  )
  assert families.config_from_hf(families.config_to_hf(config)) == config


def test_fields_of_others_are_kept():
  base = FIELDS | {
      "eos_token_id": [3, 4],
      "initializer_range": 0.5,
      "rope_parameters": {"rope_theta": 5.0},
      "dtype": "bfloat16",
  }
  config = families.config_from_hf(base)
  fields = families.config_to_hf(
      dataclasses.replace(config, vocab_size=13), base, dtype="float16"
  )
  assert fields["initializer_range"] == 0.5
  assert fields["eos_token_id"] == [3, 4]
  assert fields["architectures"] == ["Qwen2ForCausalLM"]
  assert (fields["vocab_size"], fields["rope_theta"]) == (13, 5.0)
  assert fields["torch_dtype"] == "float16"
  assert "dtype" not in fields and "rope_parameters" not in fields


def test_special_tokens_of_generation_come_first():
  fields = {"eos_token_id": 3, "bos_token_id": 1, "pad_token_id": None}
  assert families.token_ids(fields) == families.TokenIds((3,), 1, None)
  chat = {"eos_token_id": [4, 3], "pad_token_id": 0}
  assert families.token_ids(fields, chat) == families.TokenIds((4, 3), 1, 0)
  with pytest.raises(ValueError, match="`eos_token_id` must be whole"):
    families.token_ids({"eos_token_id": "</s>"})


@pytest.mark.parametrize(
    "eos, written", [((), None), ((3,), 3), ((3, 4), [3, 4])]
)
def test_special_tokens_are_written(eos, written):
  config = families.config_from_hf(FIELDS)
  tokens = families.TokenIds(eos, None, 0)
  fields = families.config_to_hf(config, {"bos_token_id": 9}, tokens=tokens)
  assert fields["eos_token_id"] == written
  assert (fields["bos_token_id"], fields["pad_token_id"]) == (None, 0)
