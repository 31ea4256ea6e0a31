"""Results made by hand, and a tiny policy with a tokenizer of bytes."""

import hashlib
import json

import pytest
import tokenizers

from poise_jax.evaluation import provenance, results
from poise_jax.models import checkpoints, transformer

END = "<|endoftext|>"


class Stored:
  """Makes results: `stored.results(hits=[0, 2], samples=2)`."""

  def completion(self, correct, text="so it is 4", **changes):
    values = {
        "text": text,
        "tokens": len(text),
        "ids_sha256": hashlib.sha256(
            text.encode("utf-8", "replace")
        ).hexdigest(),
        "answer": "4" if correct else "5",
        "correct": correct,
        "format_valid": True,
        "finished": True,
    }
    return results.Completion(**(values | changes))

  def record(self, number, hits, samples=1, texts=None, **changes):
    rows = [
        self.completion(i < hits, (texts or ["right", "wrong"])[i >= hits])
        for i in range(samples)
    ]
    values = {
        "id": f"set/{number}",
        "problem": f"What is {number} - {number} + 4?",
        "gold": "4",
        "completions": tuple(rows),
    }
    return results.Record(**(values | changes))

  def header(self, name="AMC", samples=1, problems=4, **changes):
    header = {
        "set": {
            "name": name,
            "split": "",
            "metric": "pass_at_k" if samples > 1 else "accuracy",
            "weight": 0.15,
            "problems": problems,
            "sha256": "0" * 64,
        },
        "prompts": {"template": "r1", "sha256": "1" * 64},
        "sampling": {
            "seed": 0,
            "samples": samples,
            "temperature": float(samples > 1),
            "max_tokens": 8,
            "dtype": "float32",
        },
        "policy": {"checkpoint": "a" * 64, "prompt_ids": "2", "eos_ids": [1]},
        "code": {"poise_jax": "3" * 64, "jax": "0.10.2"},
    }
    for path, value in changes.items():
      section, _, field = path.partition("__")
      header[section] = header[section] | {field: value}
    return header

  def results(self, hits, samples=1, texts=None, records=None, **changes):
    header = self.header(samples=samples, **({"problems": len(hits)} | changes))
    records = records or [
        self.record(i, h, samples, texts) for i, h in enumerate(hits)
    ]
    return results.Results(
        header,
        provenance.digest(header),
        {"backend": "cpu"},
        {r.id: r for r in records},
    )


@pytest.fixture(scope="session")
def stored():
  return Stored()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
  """A random Qwen2 of 256 bytes and end-of-text, as a directory."""
  directory = tmp_path_factory.mktemp("policy") / "tiny"
  alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
  tokenizer = tokenizers.Tokenizer(
      tokenizers.models.BPE(
          vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]
      )
  )
  tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
      add_prefix_space=False, use_regex=False
  )
  tokenizer.decoder = tokenizers.decoders.ByteLevel()
  tokenizer.add_special_tokens([END])
  config = transformer.TransformerConfig(
      vocab_size=257,
      hidden_size=16,
      intermediate_size=16,
      num_hidden_layers=1,
      num_attention_heads=2,
      num_key_value_heads=1,
      max_position_embeddings=2048,
  )
  _, params = transformer.make(config, 0)
  checkpoints.save(directory, config, params, eos_token_id=256)
  tokenizer.save(str(directory / "tokenizer.json"))
  values = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}
  (directory / "tokenizer_config.json").write_text(json.dumps(values))
  return directory
