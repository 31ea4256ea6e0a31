"""Generation against a loop that reads the whole row for every token."""

import functools

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.rollout import generate, prompt_batches, sampling
from poise_jax.tasks import arithmetic

LENGTH = arithmetic.COMPLETION_LENGTH


@pytest.fixture(scope="module")
def prompts(words):
  rng = np.random.default_rng(0)
  problems = arithmetic.sample(
      rng, arithmetic.TRAINING_TIERS, 4, arithmetic.Split.TRAIN
  )
  tokens = words.encode_prompts([p.prompt for p in problems])
  return prompt_batches.Prompts(jnp.asarray(tokens))


@pytest.fixture(scope="module")
def make(policy, words):
  return functools.partial(
      generate.make_generate,
      policy.graphdef,
      max_length=LENGTH,
      eos_ids=words.eos_ids,
      pad_id=words.pad_id,
  )


@pytest.fixture(scope="module")
def completions(make, policy, prompts):
  run = make(sampling.sample, copies=3)
  return jax.device_get(run(policy.params, prompts, jax.random.key(5)))


def test_greedy_equals_reading_whole_rows(make, policy, prompts, words):
  found = make(sampling.greedy, copies=1)(
      policy.params, prompts, jax.random.key(0)
  )
  model = nnx.jit(nnx.merge(policy.graphdef, policy.params))
  rows = np.full((4, 15 + LENGTH), words.pad_id, np.int32)
  rows[:, :15] = prompts.tokens
  alive = np.ones(4, bool)
  for t in range(LENGTH):
    chosen = np.argmax(model(jnp.asarray(rows))[:, 14 + t], axis=-1)
    rows[alive, 15 + t] = chosen[alive]
    alive &= chosen != words.eos_id
  np.testing.assert_array_equal(found.tokens, rows[:, 15:])
  np.testing.assert_array_equal(found.finished, ~alive)


def test_logprobs_are_those_of_whole_rows(completions, policy, prompts):
  model = nnx.jit(nnx.merge(policy.graphdef, policy.params))
  rows = jnp.concatenate(
      [jnp.repeat(prompts.tokens, 3, axis=0), completions.tokens], axis=1
  )
  logprobs = jax.nn.log_softmax(model(rows[:, :-1])[:, 14:])
  expected = np.take_along_axis(
      np.asarray(logprobs), completions.tokens[..., None], axis=-1
  )[..., 0]
  np.testing.assert_allclose(
      completions.logprobs, expected * completions.mask, atol=1e-5
  )


def test_mask_ends_with_end_of_text(completions, words):
  lengths = completions.mask.sum(axis=1).astype(int)
  for tokens, mask, length, finished in zip(
      completions.tokens,
      completions.mask,
      lengths,
      completions.finished,
      strict=True,
  ):
    assert mask[:length].all() and not mask[length:].any()
    assert (tokens[length:] == words.pad_id).all()
    ends = np.flatnonzero(tokens == words.eos_id)
    assert list(ends) == ([length - 1] if finished else [])


def test_a_row_does_not_depend_on_the_batch(make, policy, prompts, completions):
  alone = make(sampling.sample, copies=3)(
      policy.params,
      prompt_batches.Prompts(prompts.tokens[:2]),
      jax.random.key(5),
  )
  np.testing.assert_array_equal(alone.tokens, completions.tokens[:6])


def test_keys_decide(make, policy, prompts, completions):
  run = make(sampling.sample, copies=3)
  again = run(policy.params, prompts, jax.random.key(5))
  other = run(policy.params, prompts, jax.random.key(6))
  np.testing.assert_array_equal(again.tokens, completions.tokens)
  assert (np.asarray(other.tokens) != completions.tokens).any()


def test_copies_of_a_prompt_differ(completions):
  rows = {tuple(row) for row in completions.tokens[:3].tolist()}
  assert len(rows) > 1


def test_the_length_limit_truncates(policy, words, prompts):
  run = generate.make_generate(
      policy.graphdef,
      sampling.greedy,
      copies=1,
      max_length=2,
      eos_ids=words.eos_ids,
      pad_id=words.pad_id,
  )
  cut = run(policy.params, prompts, jax.random.key(0))
  np.testing.assert_array_equal(cut.finished, 0)
  np.testing.assert_array_equal(cut.mask, 1)
