"""Perplexity of held-out solutions, against one token after the other."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.discovery.trials import perplexity, trial
from poise_jax.models import checkpoints
from poise_jax.rollout import tokenizer
from poise_jax.tasks import arithmetic, embedded

CONFIRM = arithmetic.Split.CONFIRM


@pytest.fixture(scope="module")
def policy():
  return checkpoints.load(trial.base_directory(trial.EMBEDDED))


@pytest.fixture(scope="module")
def words():
  return tokenizer.load(trial.base_directory(trial.EMBEDDED))


def test_silent_logits_have_the_perplexity_of_the_vocabulary(policy, words):
  silent = jax.tree.map(jnp.zeros_like, policy.params)
  measure = perplexity.make_perplexity(policy.graphdef, words)
  assert measure(silent, CONFIRM) == pytest.approx(20.0, rel=1e-5)


def test_it_is_that_of_the_tokens_one_by_one(policy, words, monkeypatch):
  monkeypatch.setattr(perplexity, "PROBLEMS", 1)
  found = perplexity.make_perplexity(policy.graphdef, words)(
      policy.params, CONFIRM
  )
  model = nnx.merge(policy.graphdef, policy.params)
  losses = []
  for problem_set in arithmetic.SUITE:
    (problem,) = arithmetic.problems_of(problem_set, CONFIRM, 1)
    prompt = list(words.encode_prompts([problem.prompt])[0])
    solution = embedded.ARITHMETIC.solution(problem)
    assert arithmetic.grade(solution, problem.answer).correct
    ids = list(words.encode_completion(solution))
    logits = model(jnp.asarray([prompt + ids]))[0]
    for i, token in enumerate(ids):
      row = np.asarray(logits[len(prompt) + i - 1], np.float64)
      losses.append(
          np.log(np.exp(row - row.max()).sum()) + row.max() - row[token]
      )
  assert found == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)


def test_splits_and_tasks_have_solutions_of_their_own(policy, words):
  measure = perplexity.make_perplexity(policy.graphdef, words)
  confirm = measure(policy.params, CONFIRM)
  assert 1 < confirm < 20
  assert measure(policy.params, arithmetic.Split.SEARCH) != confirm
  assert measure(policy.params, CONFIRM) == confirm
  other = perplexity.make_perplexity(policy.graphdef, words, embedded.CARRYLESS)
  # The policy adds with carries: the other task's results surprise it.
  assert other(policy.params, CONFIRM) > confirm
