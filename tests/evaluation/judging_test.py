"""Verdicts given again: by real processes, and by graders made up here."""

import functools

import pytest

from poise_jax.evaluation import judging, measures
from poise_jax.tasks import grading_pool


@pytest.fixture(scope="module")
def pool():
  with grading_pool.GradingPool(1, seconds=20.0) as pool:
    yield pool


def _grade(pool, texts, golds, finished):
  del finished
  return pool.grade_many(texts, golds)


def test_wrong_answers_that_mean_the_same_vote_together(stored, pool):
  texts = [r"\boxed{1/2}", r"\boxed{0.5}", r"\boxed{4}", r"\boxed{8/2}"]
  texts += [r"\boxed{\frac{2}{4}}", "no answer"]
  rows = tuple(stored.completion(False, text) for text in texts)
  record = stored.record(0, 0, completions=rows)
  grade = functools.partial(_grade, pool)
  (found,) = judging.judge([record], grade, pool.same_many)
  assert [c.correct for c in found.completions] == [
      False, False, True, True, False, False
  ]  # fmt: skip
  assert [c.answer for c in found.completions][:2] == ["1/2", "0.5"]
  assert [c.vote for c in found.completions] == [
      None, "1/2", None, None, "1/2", None
  ]  # fmt: skip
  # Three for a half against two for 4; as they are spelled, 4 would win.
  assert measures.measure([found]).majority == [0]
  (spelled,) = judging.judge([record], grade)
  assert measures.measure([spelled]).majority == [1]


def test_each_completion_gets_its_verdict(stored):
  records = [stored.record(i, 0, 2, ["", f"{i}"]) for i in range(3)]

  def grade(texts, golds, finished):
    assert golds == ["4"] * 6 and finished == [True] * 6
    return [grading_pool.Grade(t == "1", t == "2", t, t == "0") for t in texts]

  found = judging.judge(records, grade)
  assert [c.correct for r in found for c in r.completions] == (
      [False] * 2 + [True] * 2 + [False] * 2
  )
  assert [r.completions[0].timed_out for r in found] == [True, False, False]
  assert [r.completions[1].answer for r in found] == ["0", "1", "2"]
  assert [r.id for r in found] == [r.id for r in records]


def test_changes(stored):
  before = [stored.record(i, 1, 2) for i in range(3)]
  right = lambda t, g, f: [grading_pool.Grade(True, True, "4")] * len(t)
  after = judging.judge(before, right)
  named = lambda records: {r.id: r for r in records}
  found = judging.changes(named(before), named(after))
  assert [(c.id, c.sample) for c in found] == [
      (f"set/{i}", 1) for i in range(3)
  ]
  assert (found[0].before.correct, found[0].after.correct) == (False, True)
  assert judging.changes(named(before), named(before)) == []
