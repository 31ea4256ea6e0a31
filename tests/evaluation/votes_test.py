"""Groups of answers by what they mean, through real processes that grade."""

import random

import pytest

from poise_jax.evaluation import votes
from poise_jax.tasks import grading_pool


@pytest.fixture(scope="module")
def same():
  with grading_pool.GradingPool(1, seconds=20.0) as pool:
    yield pool.same_many


def test_answers_that_mean_the_same(same):
  answers = [
      "0.5", r"\frac{2}{4}", None, r"\dfrac12", "1/2", "3", " 3 ", "x+x", "2x",
      "7 cm", "7 km", "no idea",
  ]  # fmt: skip
  found = votes.group(answers, same)
  half = found[0]
  assert half in answers
  assert [found[i] for i in (1, 3, 4)] == [half] * 3
  assert found[2] is None
  assert found[7] == found[8] == "x+x"
  assert len({found[9], found[10]}) == 2
  assert found[11] == "no idea"
  assert found[5] == found[6] and found[5] != half


def test_it_is_whoever_writes_first(same):
  # One half as often as the other is spelled by the one that comes first.
  assert votes.group(["1/2", "0.5"], same) == ["1/2", "1/2"]
  assert votes.group(["0.5", "1/2"], same) == ["0.5", "0.5"]
  assert votes.group(["0.5", "1/2", "1/2"], same) == ["1/2"] * 3
  assert votes.group([None, None], same) == [None, None]
  assert votes.group([], same) == []


def test_equal_spellings_need_no_comparison():
  pairs = []

  def same(answers, others):
    pairs.extend(zip(answers, others, strict=True))
    return [False] * len(answers)

  assert votes.group([r"\dfrac12", r"\frac{1}{2}"] * 16, same) == (
      [r"\dfrac12"] * 32
  )
  assert not pairs


def test_the_number_of_comparisons_is_bounded():
  pairs = []

  def same(answers, others):
    pairs.extend(zip(answers, others, strict=True))
    return [False] * len(answers)

  answers = [str(i) for i in range(32)]
  assert votes.group(answers, same) == answers
  assert len(pairs) == votes.MOST * (votes.MOST - 1) // 2


def test_answers_that_hang_are_left_alone():
  pairs = []

  def same(answers, others):
    pairs.extend(zip(answers, others, strict=True))
    return [None] * len(answers)

  answers = ["0", "0", *[str(i) for i in range(32)]]
  assert votes.group(answers, same) == answers
  # The second against the first, the third against both, the next one.
  assert len(pairs) == 1 + 2 + 3


@pytest.mark.parametrize(
    "answer", ["", "{" * 4000, "\ud800", "9" * 5000, "\\frac{1}{0}", "\x00"]
)
def test_any_text_has_a_spelling(answer):
  assert isinstance(votes.canonical(answer), str)


def test_random_texts_are_grouped_without_an_error(same):
  rng = random.Random(0)
  symbols = r"\frac{}^_12x()[],.$ "
  answers = ["".join(rng.choices(symbols, k=6)) for _ in range(12)]
  found = votes.group(answers, same)
  assert all(f in answers for f in found)
