"""Greedy completions of every family against `transformers`' generate.

And engines outside of this package: they sample, we train.
"""

import math

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.models import checkpoints
from poise_jax.rollout import (
    engine,
    generate,
    prompt_batches,
    sampling,
    scoring,
)
from poise_jax.training import config as config_lib
from poise_jax.training import environment, trainer

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


def test_we_score_what_an_engine_outside_sampled(models):
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


class _Elsewhere:
  """An engine that shares nothing with us but arrays on the host.

  Weights take one step to reach it: it serves those before the last, and says
  so. What it writes is chance: every token has the same probability.
  """

  def __init__(self, vocabulary, eos, length):
    self.vocabulary, self.eos, self.length = vocabulary, eos, length
    self.logprob = -math.log(vocabulary)
    self.received, self.sent = [], []

  def __call__(self, params, version):
    weights = [np.array(x) for x in jax.tree.leaves(params)]
    self.received.append((version, weights))
    served = self.received[max(len(self.received) - 2, 0)][0]

    def sample(prompts, key):
      rows = 4 * np.asarray(prompts.tokens).shape[0]
      rng = np.random.default_rng(int(jax.random.bits(key)))
      tokens = rng.integers(0, self.vocabulary, (rows, self.length), np.int32)
      ends = np.cumsum(tokens == self.eos, axis=1) > 0
      mask = np.ones(tokens.shape, np.float32)
      mask[:, 1:] -= ends[:, :-1]
      written = generate.Completions(
          *(tokens, np.float32(self.logprob) * mask, mask),
          ends[:, -1].astype(np.float32),
      )
      self.sent.append(written)
      return engine.Sampled(jax.tree.map(jnp.asarray, written), served)

    return sample


def _train_elsewhere(policy, words, steps, **changes):
  """Some steps with another engine; the engine, and what each step gave."""
  settings = dict(
      steps=4,
      prompts=4,
      group_size=4,
      epochs=1,
      minibatches=2,
      learning_rate=1e-3,
      reference=False,
  )
  config = config_lib.TrainConfig(**(settings | changes))
  model = nnx.merge(policy.graphdef, policy.params)
  outside = _Elsewhere(
      model.config.vocab_size, words.eos_id, config.completion_length
  )
  made = trainer.make_trainer(
      *(policy.graphdef, policy.params, words, config, jax.devices()[:1]),
      engine=outside,
  )
  algorithm = catalog.make("grpo")
  task = environment.arithmetic_environment(words, 0)
  # Chance answers nothing right: rewards that differ, for something to learn.
  lucky = lambda grades: grades._replace(
      correct=np.resize(np.float32([0, 1, 0]), grades.correct.shape)
  )
  grade = task.grade
  task = task._replace(grade=lambda *given: lucky(grade(*given)))
  state, params, results = made.start(policy.params, algorithm, task), [], []
  for _ in range(steps):
    params.append(state.params)
    results.append(made.step(state, None, algorithm, task, 0))
    state = results[-1].state
  return outside, [*params, state.params], results


def test_we_train_on_what_an_engine_outside_sampled(policy, words):
  outside, params, results = _train_elsewhere(policy, words, 3)
  # It was sent the policy of each step, tagged with the updates before it.
  assert [version for version, _ in outside.received] == [0, 2, 4]
  for (_, sent), held in zip(outside.received, params, strict=False):
    for one, other in zip(sent, jax.tree.leaves(held), strict=True):
      np.testing.assert_array_equal(one, other)
  # Its answers are one step old from the second on, and count as that.
  assert [result.rollout.version for result in results] == [0, 0, 2]
  for result, sent, stale in zip(results, outside.sent, (0, 2, 2), strict=True):
    batch = result.rollout.batch
    np.testing.assert_array_equal(batch.staleness, np.full((4, 4), stale))
    np.testing.assert_array_equal(
        batch.sampler_logprobs, sent.logprobs.reshape(4, 4, -1)
    )
    np.testing.assert_array_equal(batch.old_logprobs, batch.sampler_logprobs)
    np.testing.assert_array_equal(result.rollout.rows.tokens, sent.tokens)
    np.testing.assert_array_equal(batch.lengths.reshape(-1), sent.mask.sum(1))
    assert all(norm > 0 for norm in result.columns["grad_norm"])
    assert result.columns["skipped"] == [0.0, 0.0]
  moved = [
      any(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), *pair)))
      for pair in zip(params, params[1:], strict=False)
  ]
  assert moved == [True] * 3


def test_old_logprobs_can_be_our_own(policy, words):
  outside, _, (result,) = _train_elsewhere(
      *(policy, words, 1), recompute_old=True, epochs=2
  )
  (sent,), batch = outside.sent, result.rollout.batch
  rows = result.rollout.rows
  whole = np.concatenate([rows.prompts.tokens.repeat(4, 0), sent.tokens], 1)
  model = nnx.merge(policy.graphdef, policy.params)
  width = rows.prompts.tokens.shape[1]
  logits = np.asarray(model(jnp.asarray(whole))[:, width - 1 : -1], np.float64)
  logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  chosen = np.take_along_axis(logprobs, sent.tokens[..., None], -1)[..., 0]
  np.testing.assert_allclose(
      batch.old_logprobs.reshape(16, -1), chosen * sent.mask, atol=1e-4
  )
  np.testing.assert_array_equal(
      batch.sampler_logprobs.reshape(16, -1), sent.logprobs
  )
