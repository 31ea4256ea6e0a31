"""Problems, grades, splits and the suite of the embedded task."""

import collections

import numpy as np
import pytest

from poise_jax.tasks import arithmetic
from poise_jax.tasks.arithmetic import Split, Tier


def test_a_problem_worked_by_hand():
  # 123 + 4 = 127; 127 * 5 = 635; 635 - 9 = 626.
  problem = arithmetic.make_problem(123, "+*-", (4, 5, 9))
  assert problem.prompt == "123+4*5-9=____"
  assert problem.answer == "626"


@pytest.mark.parametrize(
    "start, operators, operands, answer",
    [
        (999, "+", (1,), "000"),
        (0, "-", (1,), "999"),
        (334, "*", (3,), "002"),
        (7, "", (), "007"),
    ],
)
def test_every_step_is_modulo_1000(start, operators, operands, answer):
  assert arithmetic.make_problem(start, operators, operands).answer == answer


def test_prompts_fill_their_width_exactly():
  rng = np.random.default_rng(0)
  tiers = [Tier(k, 0.5) for k in range(1, 6)]
  problems = arithmetic.sample(rng, tiers, 200, Split.TRAIN)
  widths = {len(p.prompt) for p in problems}
  assert widths == {arithmetic.PROMPT_LENGTH - 1}
  assert {len(p.operators) for p in problems} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    "completion, finished, correct, valid",
    [
        ("\\boxed{635}", True, True, True),
        ("+4721*5536\\boxed{635}", True, True, True),
        ("\\boxed{636}", True, False, True),
        ("\\boxed{635}", False, False, False),
        ("\\boxed{635", True, False, False),
        ("\\boxed{63}", True, False, False),
        ("\\boxed{0635}", True, False, False),
        ("\\boxed{635};", True, False, False),
        ("\\boxed{635}\n", True, False, False),
        ("635", True, False, False),
        ("", True, False, False),
        ("\\boxed{111}\\boxed{635}", True, True, True),
        ("\\boxed{٦٣٥}", True, False, False),
    ],
)
def test_grading(completion, finished, correct, valid):
  grade = arithmetic.grade(completion, "635", finished=finished)
  assert (grade.correct, grade.format_valid) == (correct, valid)


@pytest.mark.parametrize("split", list(Split))
def test_sampled_problems_belong_to_their_split(split):
  rng = np.random.default_rng(1)
  problems = arithmetic.sample(rng, arithmetic.TRAINING_TIERS, 100, split)
  assert {arithmetic.split_of(p) for p in problems} == {split}


def test_fixed_sets_are_disjoint_between_splits():
  scored = [Split.SEARCH, Split.CONFIRM, Split.SEALED]
  for problem_set in arithmetic.SUITE:
    prompts = [
        {p.prompt for p in arithmetic.problems_of(problem_set, split, 384)}
        for split in scored
    ]
    assert [len(p) for p in prompts] == [384] * 3
    assert len(set.union(*prompts)) == 3 * 384


def test_a_smaller_set_is_a_prefix_of_a_larger_one():
  for problem_set in arithmetic.SUITE:
    large = arithmetic.problems_of(problem_set, Split.SEARCH, 192)
    assert arithmetic.problems_of(problem_set, Split.SEARCH, 48) == large[:48]


def test_training_problems_are_not_a_scored_split():
  with pytest.raises(ValueError, match="SEARCH, CONFIRM or SEALED"):
    arithmetic.problems_of(arithmetic.SUITE[0], Split.TRAIN, 1)


def test_the_suite_has_the_protocol_of_the_paper():
  weights = [s.weight for s in arithmetic.SUITE]
  metrics = collections.Counter(s.metric for s in arithmetic.SUITE)
  assert sorted(weights) == [0.15] * 4 + [0.2] * 2
  assert sum(weights) == pytest.approx(1)
  assert metrics == {"pass_at_k": 3, "accuracy": 3}
  hardest = [s for s in arithmetic.SUITE if s.weight == 0.2]
  assert all(s.metric == "pass_at_k" for s in hardest)


def test_products_are_as_frequent_as_the_tier_says():
  rng = np.random.default_rng(2)
  problems = arithmetic.sample(rng, [Tier(5, 0.8)], 400, Split.SEARCH)
  operators = "".join(p.operators for p in problems)
  assert operators.count("*") / len(operators) == pytest.approx(0.8, abs=0.04)


def test_an_unknown_operator_is_refused():
  with pytest.raises(ValueError, match="`operator`"):
    arithmetic.apply(1, "/", 2)
