"""The embedded tasks as values."""

import numpy as np
import pytest

from poise_jax.tasks import arithmetic, carryless, embedded


def test_tasks_are_found_by_name():
  assert embedded.named("arithmetic") is embedded.ARITHMETIC
  assert embedded.named("carryless") is embedded.CARRYLESS
  assert len({task.name for task in embedded.ALL.values()}) == 2


def test_an_unknown_task_is_refused():
  with pytest.raises(ValueError, match="arithmetic, carryless, got 'chess'"):
    embedded.named("chess")


@pytest.mark.parametrize(
    "task", list(embedded.ALL.values()), ids=list(embedded.ALL)
)
def test_a_task_hangs_together(task):
  assert sum(s.weight for s in task.suite) == pytest.approx(1)
  tiers = [t for s in task.suite for t in s.tiers] + [*task.training_tiers]
  assert max(t.operations for t in tiers) <= task.max_operations
  rng = np.random.default_rng(0)
  train = arithmetic.Split.TRAIN
  problems = task.sample(rng, task.training_tiers, 20, train)
  problems += task.problems_of(task.suite[0], arithmetic.Split.CONFIRM, 20)
  for problem in problems:
    assert len(problem.prompt) + 1 == task.prompt_length
    text = "\\boxed{" + problem.answer + "}"
    assert arithmetic.grade(text, problem.answer).correct


def test_values_are_those_of_the_modules():
  assert embedded.ARITHMETIC.suite is arithmetic.SUITE
  assert embedded.ARITHMETIC.name == "arithmetic-1"
  assert embedded.CARRYLESS.completion_length == carryless.COMPLETION_LENGTH
