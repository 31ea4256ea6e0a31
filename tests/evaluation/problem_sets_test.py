"""Which sets there are, and what they ask."""

import json

import pytest

from poise_jax.evaluation import problem_sets
from poise_jax.tasks import arithmetic, grading_pool


@pytest.fixture
def sources(tmp_path):
  rows = [{"problem": f"{i}+1?", "answer": str(i + 1)} for i in range(30)]
  lines = "\n".join(map(json.dumps, rows))
  (tmp_path / "aime24.jsonl").write_text(lines)
  with grading_pool.GradingPool(1) as pool:
    yield problem_sets.Sources(tmp_path, arithmetic.Split.SEARCH, pool)


def test_names():
  six = ("AIME24", "AIME25", "AMC", "MATH500", "Minerva", "OlympiadBench")
  assert problem_sets.names_of("math6") == six
  assert problem_sets.names_of("amc, AIME24,amc") == ("AMC", "AIME24")
  assert problem_sets.names_of("GSM8K,math6") == ("GSM8K", *six)
  assert len(problem_sets.names_of("embedded")) == 6


def test_names_that_are_not():
  with pytest.raises(ValueError, match=r"no set 'AIME2' \(did you mean aime2"):
    problem_sets.names_of("AMC,AIME2")
  with pytest.raises(ValueError, match="at least one set"):
    problem_sets.names_of(" , ")


def test_a_benchmark(sources):
  found = problem_sets.load("AIME24", sources)
  assert (found.metric, found.samples, found.temperature) == (
      "pass_at_k",
      32,
      1.0,
  )
  assert (found.weight, found.max_tokens) == (0.2, 4096)
  assert len(found.problems) == 30 and found.template is None
  # Texts that the limit cut off are judged too.
  texts = ["so \\boxed{7}", "it is \\boxed{8} and"]
  grades = found.grade(texts, ["7", "7"], [False, False])
  assert [g.correct for g in grades] == [True, False]


def test_an_embedded_set(sources):
  found = problem_sets.load("products4", sources)
  assert (found.samples, found.weight, found.max_tokens) == (32, 0.2, 31)
  assert (found.template, found.split) == ("none", "search")
  assert len(found.problems) == 192
  assert len({p.id for p in found.problems}) == 192
  problem = found.problems[0]
  assert problem.prompt.startswith(problem.id + "=")
  right = f"\\boxed{{{problem.answer}}}"
  grades = found.grade([right] * 2, [problem.answer] * 2, [True, False])
  assert [g.correct for g in grades] == [True, False]


def test_splits_have_other_problems(sources):
  other = sources._replace(split=arithmetic.Split.SEALED)
  a = problem_sets.load("sums2", sources)
  b = problem_sets.load("sums2", other)
  assert len(a.problems) == 384
  assert not {p.id for p in a.problems} & {p.id for p in b.problems}
