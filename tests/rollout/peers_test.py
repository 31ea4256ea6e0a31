"""Greedy completions of every family against `transformers`' generate.

And an engine outside of this package: `transformers` samples, we train.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.models import checkpoints
from poise_jax.rollout import (
    engine,
    generate,
    prompt_batches,
    sampling,
    scoring,
)

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    # Large enough for the most probable token to stand out.
    "initializer_range": 0.4,
}
FAMILIES = {
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}),
    "qwen2-untied": ("Qwen2Config", {"tie_word_embeddings": False}),
    "qwen3": ("Qwen3Config", {"head_dim": 16, "tie_word_embeddings": True}),
    "llama": (
        "LlamaConfig",
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32,
            }
        },
    ),
}
NEW = 64
STARTS = (0, 6, 11, 3)
ENDS = (5, 9)


def _prompts():
  rng = np.random.default_rng(3)
  tokens = rng.integers(10, 64, (len(STARTS), 12)).astype(np.int32)
  tokens[np.arange(12) < np.array(STARTS)[:, None]] = 0
  return tokens


def _theirs(torch, model, ends, **settings):
  tokens = torch.as_tensor(_prompts(), dtype=torch.long)
  filled = torch.arange(12) >= torch.as_tensor(STARTS)[:, None]
  with torch.no_grad():
    found = model.generate(
        tokens,
        attention_mask=filled.long(),
        max_new_tokens=NEW,
        eos_token_id=list(ends) or None,
        pad_token_id=0,
        **settings,
    )
  return found[:, 12:].numpy()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  """Each family: its directory and the model of `transformers`."""
  torch = pytest.importorskip("torch", reason="needs the `bench` extra")
  transformers = pytest.importorskip("transformers")
  root, made = tmp_path_factory.mktemp("peers"), {}
  for name, (kind, fields) in FAMILIES.items():
    torch.manual_seed(1)
    config = getattr(transformers, kind)(
        **SIZES, **fields, bos_token_id=1, eos_token_id=2, pad_token_id=0
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(root / name)
    made[name] = (root / name, model)
  return torch, made


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_completions_are_the_same_tokens(models, name):
  torch, made = models
  directory, model = made[name]
  checkpoint = checkpoints.load(directory)
  prompts = prompt_batches.Prompts(jnp.asarray(_prompts()), jnp.array(STARTS))
  for ends, segment in (((), 0), (ENDS, 16)):
    run = generate.make_generate(
        checkpoint.graphdef,
        sampling.greedy,
        copies=1,
        max_length=NEW,
        eos_ids=ends,
        pad_id=0,
        schedule=generate.Schedule(segment=segment),
    )
    ours = run(checkpoint.params, prompts, jax.random.key(0))
    theirs = _theirs(torch, model, ends, do_sample=False)
    # Theirs are as long as the longest.
    padded = np.zeros((len(STARTS), NEW), np.int64)
    padded[:, : theirs.shape[1]] = theirs
    np.testing.assert_array_equal(ours.tokens, padded)
    if not ends:
      assert np.unique(padded).size > 8  # not one token again and again


def test_an_engine_outside_fits_the_protocol(models):
  torch, made = models
  directory, model = made["qwen2"]
  checkpoint = checkpoints.load(directory)

  def outside(params, version):
    del params  # An engine elsewhere would be sent these.

    def sample(prompts, key):
      torch.manual_seed(int(jax.random.bits(key) >> 1))
      tokens = _theirs(
          torch, model, (), do_sample=True, top_k=0, renormalize_logits=True
      )
      whole = np.concatenate([np.asarray(prompts.tokens), tokens], axis=1)
      filled = np.concatenate(
          [
              np.arange(12) >= np.asarray(prompts.starts)[:, None],
              np.ones_like(tokens, bool),
          ],
          axis=1,
      )
      with torch.no_grad():
        logits = model(
            torch.as_tensor(whole, dtype=torch.long),
            attention_mask=torch.as_tensor(filled).long(),
            position_ids=torch.as_tensor(
                np.maximum(filled.cumsum(1) - 1, 0), dtype=torch.long
            ),
        ).logits
      logprobs = torch.log_softmax(logits[:, 11:-1], -1).gather(
          -1, torch.as_tensor(tokens)[..., None]
      )
      ones = np.ones(tokens.shape, np.float32)
      return engine.Sampled(
          generate.Completions(
              jnp.asarray(tokens, jnp.int32),
              jnp.asarray(logprobs[..., 0].numpy()),
              jnp.asarray(ones),
              jnp.asarray(ones[:, 0]),
          ),
          version - 1,
      )

    return sample

  assert isinstance(outside, engine.RolloutEngine)
  prompts = prompt_batches.Prompts(jnp.asarray(_prompts()), jnp.array(STARTS))
  sampled = outside(checkpoint.params, 5)(prompts, jax.random.key(7))
  assert sampled.version == 4
  score = jax.jit(scoring.make_score_tokens(checkpoint.graphdef))
  rows = scoring.Rows(
      prompts, sampled.completions.tokens, sampled.completions.mask
  )
  np.testing.assert_allclose(
      score(checkpoint.params, rows).logprobs,
      sampled.completions.logprobs,
      atol=1e-4,
  )
