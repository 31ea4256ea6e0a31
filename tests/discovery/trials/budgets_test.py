"""Budgets by name."""

import dataclasses

import pytest

from poise_jax.discovery.trials import budgets
from poise_jax.evaluation import suite
from poise_jax.tasks import arithmetic


def test_names_lead_to_their_budgets():
  assert list(budgets.ALL) == [
      *("smoke", "quarter"),
      *("quick", "standard", "confirm"),
  ]
  for name in budgets.ALL:
    assert budgets.named(name).name == name


def test_an_unknown_name_is_answered_with_the_known_ones():
  with pytest.raises(ValueError, match="quick, standard, confirm, got 'huge'"):
    budgets.named("huge")


@pytest.mark.parametrize("name", list(budgets.ALL))
def test_sizes_allow_what_every_budget_promises(name):
  budget = budgets.named(name)
  # Splits must hold enough distinct problems of the smallest set.
  for problem_set in arithmetic.SUITE:
    sampled = problem_set.metric == "pass_at_k"
    sizes = budget.evaluate or suite.SuiteConfig(1, 1)
    count = sizes.sampled_problems if sampled else sizes.greedy_problems
    found = arithmetic.problems_of(problem_set, arithmetic.Split.SEARCH, count)
    assert len({problem.prompt for problem in found}) == count
  # Group statistics need a group; ratios leave 1 only after an update.
  assert budget.train.group_size > 1
  assert budget.train.epochs * budget.train.minibatches > 1


def test_each_rung_costs_more_than_the_one_before():
  def cost(budget):
    train = budget.train
    return train.steps * train.prompts * train.group_size

  costs = [cost(budget) for budget in budgets.ALL.values()]
  assert costs == sorted(set(costs))
  scored = [b.evaluate for b in budgets.ALL.values() if b.evaluate]
  assert len(scored) == len(costs) - 1
  sizes = [dataclasses.astuple(evaluate) for evaluate in scored]
  assert sizes == sorted(sizes)
