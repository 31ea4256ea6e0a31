"""Each style of demonstration, by hand and by the grader."""

import numpy as np
import pytest

from poise_jax.tasks import arithmetic, demonstrations

PROBLEM = arithmetic.make_problem(123, "+*-", (4, 5, 9))  # 127, 635, 626


@pytest.mark.parametrize(
    "style, text",
    [
        (demonstrations.worked, "+4721*5536-9626\\boxed{626}"),
        (demonstrations.skipping, "635;\\boxed{626}"),
        (demonstrations.direct, "\\boxed{626}"),
        (demonstrations.unclosed, "+4721*5536-9626\\boxed{626"),
        (demonstrations.bare, "626"),
        (demonstrations.unanswered, "+4721*5536-9626"),
    ],
)
def test_styles_written_by_hand(style, text):
  assert style(PROBLEM, np.random.default_rng(0)) == text


@pytest.mark.parametrize(
    "mixture", [demonstrations.skill_mixture, demonstrations.style_mixture]
)
def test_mixtures_sum_to_one_and_fit_the_length_limit(mixture):
  rng = np.random.default_rng(0)
  tiers = [arithmetic.Tier(k, 0.4) for k in range(1, 6)]
  for problem in arithmetic.sample(rng, tiers, 100, arithmetic.Split.TRAIN):
    assert sum(mixture(problem).values()) == pytest.approx(1)
    text = demonstrations.demonstrate(problem, mixture(problem), rng)
    # `\boxed{` is one symbol, and end-of-text takes one more.
    symbols = len(text.replace("\\boxed{", "[")) + 1
    assert symbols <= arithmetic.COMPLETION_LENGTH


def test_shares_are_respected():
  rng = np.random.default_rng(0)
  mixture = {demonstrations.direct: 0.25, demonstrations.bare: 0.75}
  texts = [
      demonstrations.demonstrate(PROBLEM, mixture, rng) for _ in range(2000)
  ]
  assert texts.count("626") / 2000 == pytest.approx(0.75, abs=0.04)


def test_wrong_answers_are_valid_and_mostly_wrong():
  rng = np.random.default_rng(0)
  for style in (demonstrations.wrong_worked, demonstrations.wrong_direct):
    grades = [
        arithmetic.grade(style(PROBLEM, rng), PROBLEM.answer)
        for _ in range(200)
    ]
    assert all(g.format_valid for g in grades)
    assert sum(g.correct for g in grades) <= 2


def test_shares_that_do_not_sum_to_one_are_refused():
  with pytest.raises(ValueError, match="sum to 1"):
    demonstrations.demonstrate(
        PROBLEM, {demonstrations.direct: 0.5}, np.random.default_rng(0)
    )
