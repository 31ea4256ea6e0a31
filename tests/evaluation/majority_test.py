"""maj@k against all subsets of k, counted one by one."""

import collections
import fractions
import itertools
import random

import pytest

from poise_jax.evaluation import majority


def _counted(answers, correct, k):
  """Mean over subsets of the chance that the right answer wins."""
  total, count = fractions.Fraction(0), 0
  for chosen in itertools.combinations(range(len(answers)), k):
    votes = collections.Counter(
        "right" if correct[i] else f"wrong {answers[i]}"
        for i in chosen
        if answers[i] is not None
    )
    most = max(votes.values(), default=0)
    first = [v for v, n in votes.items() if n == most]
    if "right" in first:
      total += fractions.Fraction(1, len(first))
    count += 1
  return total / count


def test_by_hand():
  answers = ["4", "4", "5", None]
  right = [True, True, False, False]
  assert majority.maj_at_k(answers, right, 4) == 1
  # Of the six pairs: 44 wins, 45 twice ties, 4- twice wins, 5- loses.
  assert majority.maj_at_k(answers, right, 2) == pytest.approx(4 / 6)
  assert majority.maj_at_k(answers, right, 1) == 0.5


def test_all_subsets():
  rng = random.Random(0)
  for _ in range(60):
    n = rng.randint(1, 7)
    answers = [rng.choice(["1", "2", "3", "7", None]) for _ in range(n)]
    correct = [a == "7" for a in answers]
    for k in range(1, n + 1):
      expected = _counted(answers, correct, k)
      found = majority.maj_at_k(answers, correct, k)
      assert found == pytest.approx(float(expected), rel=1e-12)


def test_right_answers_are_one_however_written():
  answers = ["1/2", "0.5", "3", "3 "]
  assert majority.maj_at_k(answers, [True, True, False, False], 4) == 0.5
  assert majority.maj_at_k(answers, [True, False, False, False], 4) == 0
  assert majority.maj_at_k([None, None], [False, False], 2) == 0


def test_the_size_of_the_paper():
  answers = [str(i % 9) for i in range(32)]
  correct = [a == "0" for a in answers]
  # Four nines of 4 or 3 votes each; the five with 4 share the win.
  assert majority.maj_at_k(answers, correct, 32) == pytest.approx(1 / 5)


def test_what_cannot_vote():
  with pytest.raises(ValueError, match=r"`k` must lie in \[1, n = 2\], got 3"):
    majority.maj_at_k(["1", "2"], [True, False], 3)
  with pytest.raises(ValueError, match="as many as `answers`, got 1 and 2"):
    majority.maj_at_k(["1", "2"], [True], 1)
  with pytest.raises(TypeError):
    majority.maj_at_k(["1", "2"], [True, False], 1.5)
