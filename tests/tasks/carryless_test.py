"""Problems, splits, lengths and the suite of carry-less arithmetic."""

import collections

import numpy as np
import pytest

from poise_jax.tasks import arithmetic, carryless
from poise_jax.tasks.arithmetic import Split, Tier


def test_a_problem_worked_by_hand():
  # 4*7, 8*7, 2*7 = 28, 56, 14; 8+5, 6+5, 4+5 = 13, 11, 9.
  problem = carryless.make_problem(482, "*+", (7, 5))
  assert problem.prompt == "482*7+5=______"
  assert problem.answer == "319"


@pytest.mark.parametrize(
    "value, operator, operand, result",
    [
        (999, "+", 1, 0),
        (0, "-", 1, 999),
        (505, "*", 2, 0),
        (123, "*", 9, 987),
        (7, "-", 9, 118),
    ],
)
def test_nothing_is_carried(value, operator, operand, result):
  assert carryless.apply(value, operator, operand) == result


def test_an_unknown_operator_is_refused():
  with pytest.raises(ValueError, match="`operator`"):
    carryless.apply(1, "/", 2)


@pytest.mark.parametrize("split", list(Split))
def test_problems_are_those_of_arithmetic_with_other_answers(split):
  tiers = carryless.TRAINING_TIERS
  ours = carryless.sample(np.random.default_rng(1), tiers, 50, split)
  theirs = arithmetic.sample(np.random.default_rng(1), tiers, 50, split)
  assert [p.prompt for p in ours] == [p.prompt for p in theirs]
  assert {arithmetic.split_of(p) for p in ours} == {split}
  changed = [a.answer != b.answer for a, b in zip(ours, theirs, strict=True)]
  assert any(changed)


def test_fixed_sets_are_disjoint_between_splits():
  scored = [Split.SEARCH, Split.CONFIRM, Split.SEALED]
  for problem_set in carryless.SUITE:
    prompts = [
        {p.prompt for p in carryless.problems_of(problem_set, split, 192)}
        for split in scored
    ]
    assert [len(p) for p in prompts] == [192] * 3
    assert len(set.union(*prompts)) == 3 * 192


def test_a_smaller_set_is_a_prefix_of_a_larger_one():
  for problem_set in carryless.SUITE:
    large = carryless.problems_of(problem_set, Split.SEARCH, 192)
    assert carryless.problems_of(problem_set, Split.SEARCH, 48) == large[:48]


def test_training_problems_are_not_a_scored_split():
  with pytest.raises(ValueError, match="SEARCH, CONFIRM or SEALED"):
    carryless.problems_of(carryless.SUITE[0], Split.TRAIN, 1)


def test_the_suite_has_the_protocol_of_the_paper():
  weights = [s.weight for s in carryless.SUITE]
  metrics = collections.Counter(s.metric for s in carryless.SUITE)
  assert sorted(weights) == [0.15] * 4 + [0.2] * 2
  assert metrics == {"pass_at_k": 3, "accuracy": 3}
  assert len({s.name for s in carryless.SUITE}) == 6
  tiers = [t for s in carryless.SUITE for t in s.tiers]
  tiers += carryless.TRAINING_TIERS
  assert {t.operations for t in tiers} == {1, 2, 3, 4}


def test_the_answer_survives_no_shortcut_by_carrying():
  rng = np.random.default_rng(2)
  problems = carryless.sample(rng, [Tier(2, 1.0)], 400, Split.SEARCH)
  carried = [
      arithmetic.make_problem(p.start, p.operators, p.operands).answer
      for p in problems
  ]
  same = [p.answer == c for p, c in zip(problems, carried, strict=True)]
  assert np.mean(same) < 0.1
