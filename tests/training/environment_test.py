"""The embedded task as the trainer sees it."""

import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.rollout import generate
from poise_jax.tasks import arithmetic
from poise_jax.training import environment, prompts


@pytest.fixture(scope="module")
def task(words):
  return environment.arithmetic_environment(words, 3)


def test_problems_depend_on_seed_and_position_alone(task, words):
  first, after = task.source(prompts.START, 5)
  again, _ = task.source(prompts.START, 5)
  later, _ = task.source(after, 5)
  other, _ = environment.arithmetic_environment(words, 4).source(
      prompts.START, 5
  )
  assert first == again
  assert first != later and first != other


def test_prompts_are_tokens_of_one_width(task, words):
  problems, _ = task.source(prompts.START, 6)
  tokens, starts = task.encode(problems)
  assert starts is None
  assert tokens.shape == (6, arithmetic.PROMPT_LENGTH)
  texts = [task.prompt_of(problem) for problem in problems]
  np.testing.assert_array_equal(tokens, words.encode_prompts(texts))


def test_buckets_are_numbers_of_operations(task):
  problems, _ = task.source(prompts.START, 64)
  buckets = task.buckets(problems)
  assert buckets.max() < task.bucket_count
  assert len(set(buckets.tolist())) > 1
  for problem, bucket in zip(problems, buckets, strict=True):
    assert bucket == len(problem.operators)


def test_grades_know_a_right_answer(task, words):
  problems, _ = task.source(prompts.START, 2)
  texts = []
  for problem in problems:
    wrong = (int(problem.answer) + 1) % arithmetic.MODULUS
    texts += [f"\\boxed{{{problem.answer}}}", f"\\boxed{{{wrong:03d}}}"]
  tokens = np.full((4, arithmetic.COMPLETION_LENGTH), words.pad_id, np.int32)
  mask = np.zeros(tokens.shape, np.float32)
  for row, text in enumerate(texts):
    ids = words.encode_completion(text)
    tokens[row, : len(ids)], mask[row, : len(ids)] = ids, 1
  parts = map(jnp.asarray, (tokens, mask, mask, np.ones(4, np.float32)))
  grades = task.grade(problems, generate.Completions(*parts))
  np.testing.assert_array_equal(grades.correct, [[1, 0], [1, 0]])
  np.testing.assert_array_equal(grades.format_valid, 1)
