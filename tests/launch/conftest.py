"""A Hugging Face policy made here, with problems that it sometimes solves."""

import json
import pathlib
import sys

import jax.numpy as jnp
import pytest
import tokenizers

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
# As it is for whoever runs one of its files.
sys.path.insert(0, str(LAUNCH))

from poise_jax.models import checkpoints, transformer  # noqa: E402

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
BOXES = tuple(f"\\boxed{{{answer}}}" for answer in range(3))


def write_tokenizer(directory):
  """Writes single bytes, three boxed answers, and what ends a text or turn."""
  symbols = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  vocabulary = {symbol: i for i, symbol in enumerate(symbols)}
  tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
      add_prefix_space=False, use_regex=False
  )
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  tokenizer.add_tokens(list(BOXES))
  tokenizer.add_special_tokens(list(SPECIAL))
  tokenizer.save(str(directory / "tokenizer.json"))
  fields = {
      "tokenizer_class": "PreTrainedTokenizerFast",
      "eos_token": SPECIAL[0],
  }
  (directory / "tokenizer_config.json").write_text(json.dumps(fields))
  fields = {"eos_token_id": 259, "max_new_tokens": 2048}
  (directory / "generation_config.json").write_text(json.dumps(fields))


@pytest.fixture(scope="session")
def small_policy(tmp_path_factory):
  """Random weights, a sixteenth as wide as Qwen2.5-Math-1.5B's, one layer."""
  directory = tmp_path_factory.mktemp("policies") / "small"
  config = transformer.TransformerConfig(
      vocab_size=264,
      hidden_size=96,
      intermediate_size=560,
      num_hidden_layers=1,
      num_attention_heads=12,
      num_key_value_heads=2,
      max_position_embeddings=4096,
      tie_word_embeddings=False,
  )
  _, params = transformer.make(config, 0)
  # All hidden states have something in common, which the logits of boxed
  # answers and of the two ends see, and those of bytes do not.
  embedding = params["embed_tokens"]["embedding"]
  embedding.set_value(embedding.get_value() + 0.04)
  head = params["lm_head"]["kernel"]
  likely = jnp.array([256, 257, 258, 259, 261])
  columns = 0.1 + 6 * head.get_value()[:, likely]
  empty = jnp.zeros_like(head.get_value())
  head.set_value(empty.at[:, likely].set(columns))
  checkpoints.save(directory, config, params, eos_token_id=259)
  write_tokenizer(directory)
  return directory


@pytest.fixture(scope="session")
def problem_file(tmp_path_factory):
  """A dozen problems whose answer is 0, 1 or 2."""
  path = tmp_path_factory.mktemp("problems") / "sums.jsonl"
  words = (
      *("apples", "boats", "cats", "dogs", "eggs", "figs"),
      *("goats", "hats", "inns", "jars", "keys", "lamps"),
  )
  lines = [
      json.dumps(
          {
              "id": word,
              "problem": f"There were {i} {word}, {i - i % 3} left. How many?",
              "answer": f"{i % 3}",
              "level": 1 + i % 4,
          }
      )
      for i, word in enumerate(words)
  ]
  path.write_text("\n".join(lines), "utf-8")
  return path
