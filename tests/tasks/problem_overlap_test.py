"""Copies that are typeset otherwise, siblings, and the real files."""

import pathlib

import pytest

from poise_jax.tasks import problem_overlap, problem_set
from poise_jax.tasks.problem_set import Problem

BENCHMARKS = (
    pathlib.Path(__file__).parents[3] / "shared" / "data" / "benchmarks"
)
LONG = (
    "A farmer walks $a_1$ miles on the first day, and each day after it he"
    " walks twice as far as on the day before. How far is he in one week?"
)


def one(first, second, **options):
  return problem_overlap.overlaps(
      [Problem("t", first, "1")], [Problem("e", second, "1")], **options
  )


def test_typesetting_does_not_matter():
  (found,) = one(
      r"Find \[\dfrac{1}{2}+\left(3\right).\]", "find $\\frac{1}{2} + (3)$"
  )
  assert (found.first, found.second) == ("t", "e")
  assert (found.similarity, found.exact, found.same_answer) == (1.0, True, True)


def test_a_near_copy_has_its_share_of_grams():
  # 32 words are 28 5-grams; another last word leaves 27 of them.
  assert len(problem_overlap.words(LONG)) == 32
  (found,) = one(LONG, LONG.replace("one week", "one year"))
  assert found.similarity == pytest.approx(27 / 28)
  assert not found.exact
  assert one(LONG, LONG.replace("one week", "one year"), threshold=1.0) == ()


def test_a_problem_within_a_longer_one():
  (found,) = one(LONG, "Here is a story. " + LONG + " Explain your answer.")
  assert (found.similarity, found.exact) == (1.0, False)


@pytest.mark.parametrize(
    "first, second",
    [
        ("Compute $1+1$.", "Compute $1+2$."),
        (LONG, "How many apples does Ann have, if Bob has twice as many?"),
        ("", "Compute."),
    ],
)
def test_other_problems(first, second):
  assert one(first, second) == ()


def test_training_on_what_is_measured_is_refused():
  training = [Problem("t/0", LONG, "1"), Problem("t/1", "Compute 2+2.", "4")]
  evaluation = [Problem("e/7", "compute $2 + 2$", "4")]
  with pytest.raises(ValueError, match=r"1 pairs.*t/1 ~ e/7 \(1.00\); remove"):
    problem_overlap.require_disjoint(training, evaluation)
  rest = problem_overlap.without_overlaps(training, evaluation)
  assert rest == (training[0],)
  problem_overlap.require_disjoint(rest, evaluation)


@pytest.mark.parametrize("threshold", [0.0, 1.1])
def test_thresholds_that_cannot_be(threshold):
  with pytest.raises(ValueError, match="`threshold` must be"):
    one("a", "b", threshold=threshold)


def real(name):
  path = BENCHMARKS / f"{name}.jsonl"
  if not path.is_file():
    pytest.skip(f"{name} is not here; it is not part of the repository")
  return problem_set.load(path)


@pytest.mark.slow
def test_the_real_training_set_against_the_real_benchmarks():
  training = real("math_train_lvl3to5")
  found = problem_overlap.overlaps(training, real("math500"))
  assert not any(o.exact or o.same_answer for o in found)
  # Two of OlympiadBench's problems are MATH's, typeset otherwise.
  found = problem_overlap.overlaps(training, real("olympiadbench"))
  assert {o.second for o in found if o.exact} == {
      "olympiadbench/2895",
      "olympiadbench/2644",
  }
  for name in ("aime24", "aime25", "amc83", "minerva_math"):
    problem_overlap.require_disjoint(training, real(name))
