"""Grades and token scores of completions."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.rollout import generate, prompt_batches, scoring
from poise_jax.tasks import arithmetic

LENGTH = arithmetic.COMPLETION_LENGTH


def _completions(words, texts, finished):
  tokens = np.full((len(texts), LENGTH), words.pad_id, np.int32)
  mask = np.zeros((len(texts), LENGTH), np.float32)
  for i, text in enumerate(texts):
    ids = words.encode_completion(text)
    tokens[i, : len(ids)] = ids
    mask[i, : len(ids)] = 1
  return generate.Completions(
      *map(jnp.asarray, (tokens, np.zeros_like(mask), mask)),
      jnp.array(finished, jnp.float32),
  )


def test_grades_of_two_groups(words):
  problems = [
      arithmetic.make_problem(123, "+", (4,)),  # 127
      arithmetic.make_problem(999, "+", (1,)),  # 000
  ]
  texts = ["\\boxed{127}", "\\boxed{000}", "\\boxed{000}", "000"]
  completions = _completions(words, texts, [1, 1, 1, 1])
  grades = scoring.grade_groups(words, problems, completions)
  np.testing.assert_array_equal(grades.correct, [[1, 0], [1, 0]])
  np.testing.assert_array_equal(grades.format_valid, [[1, 1], [1, 0]])
  np.testing.assert_array_equal(grades.lengths, [[6, 6], [6, 4]])
  np.testing.assert_array_equal(grades.truncated, 0)


def test_a_truncated_completion_is_neither_valid_nor_right(words):
  problems = [arithmetic.make_problem(123, "+", (4,))]
  grades = scoring.grade_groups(
      words, problems, _completions(words, ["\\boxed{127}"], [0])
  )
  assert grades.truncated[0, 0] == 1
  assert grades.correct[0, 0] == grades.format_valid[0, 0] == 0


@pytest.fixture(scope="module")
def rows(words):
  rng = np.random.default_rng(1)
  prompts = words.encode_prompts(
      [
          p.prompt
          for p in arithmetic.sample(
              rng, arithmetic.TRAINING_TIERS, 2, arithmetic.Split.TRAIN
          )
      ]
  )
  tokens = rng.integers(0, 17, (6, LENGTH)).astype(np.int32)
  mask = (np.arange(LENGTH) < rng.integers(1, LENGTH, (6, 1))).astype("f4")
  return scoring.Rows(
      prompt_batches.Prompts(jnp.asarray(prompts)),
      jnp.asarray(tokens),
      jnp.asarray(mask),
  )


def test_scores_are_those_of_whole_rows(policy, rows):
  prompts, tokens, mask = rows
  score = jax.jit(scoring.make_score_tokens(policy.graphdef))
  scores = score(policy.params, rows)
  model = nnx.jit(nnx.merge(policy.graphdef, policy.params))
  whole = jnp.concatenate(
      [jnp.repeat(prompts.tokens, 3, axis=0), tokens], axis=1
  )
  logits = np.asarray(model(whole[:, :-1])[:, 14:], np.float64)
  logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  chosen = np.take_along_axis(logprobs, np.asarray(tokens)[..., None], -1)
  entropy = -(np.exp(logprobs) * logprobs).sum(-1)
  np.testing.assert_allclose(scores.logprobs, chosen[..., 0] * mask, atol=2e-5)
  np.testing.assert_allclose(scores.entropy, entropy * mask, atol=2e-5)


def test_masked_tokens_carry_no_gradient(policy, rows):
  _, tokens, mask = rows
  score = scoring.make_score_tokens(policy.graphdef)
  other = jnp.where(mask > 0, tokens, 3)

  def total(params, tokens):
    scores = score(params, rows._replace(tokens=tokens))
    return jnp.sum(scores.logprobs) + jnp.sum(scores.entropy)

  gradient = jax.jit(jax.grad(total))
  first, second = (gradient(policy.params, t) for t in (tokens, other))
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), first, second
  )
