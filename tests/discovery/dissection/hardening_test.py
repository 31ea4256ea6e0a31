"""Axes by hand; a verifier that always errs, by real trials."""

import dataclasses
import math

import pytest

from poise_jax.algorithms import catalog
from poise_jax.discovery import admission
from poise_jax.discovery.dissection import explanation, hardening
from poise_jax.discovery.trials import robustness

NOMINAL = robustness.Condition(0.0, 0.0, 8, 0, 31, "embedded")
SCORE = lambda candidate, run: run.metrics["overall"]


def test_the_nominal_value_lies_on_every_axis():
  plan = explanation.Plan(group_sizes=(16, 4), bases=("other",))
  found = {axis.field: axis for axis in hardening.axes(plan, NOMINAL)}
  assert {field: axis.values for field, axis in found.items()} == {
      "false_positive": (0.0, 0.1),
      "false_negative": (0.0, 0.1),
      "group_size": (4, 8, 16),
      "lag": (0, 2),
      "completion_length": (25, 31),
      "base": ("embedded", "other"),
  }
  assert found["group_size"].position is math.log2
  assert found["base"].position is None
  conditions = robustness.conditions(NOMINAL, tuple(found.values()))
  assert len(conditions) == 1 + plan.conditions


def test_an_axis_without_other_values_is_left_out():
  plan = explanation.Plan(
      false_positive=(), false_negative=(0.0,), group_sizes=(8,), lags=()
  )
  (axis,) = hardening.axes(plan, NOMINAL)
  assert axis.field == "completion_length"


@pytest.fixture
def pair(campaigns):
  """A campaign of a root that learns from rewards, and one from length."""
  campaign = campaigns()
  made = [
      campaign.admit(
          index,
          admission.Draft(
              name=name,
              role=role,
              generation=0,
              parents=(),
              source=catalog.source(name),
              mechanisms={},
              rationale="r",
          ),
      )
      for index, (name, role) in enumerate(
          [("grpo", "root"), ("dapo", "baseline")]
      )
  ]
  return campaign, made[1]


def test_conditions_are_trained_in_and_scores_compared(pair):
  campaign, winner = pair
  plan = explanation.Plan(
      budget="tiny",
      hard_seeds=2,
      false_positive=(1.0,),
      false_negative=(),
      group_sizes=(),
      lags=(1,),
      lengths=(),
  )
  means = explanation.Means(campaign, SCORE, plan)
  found = hardening.harden(means, winner)
  runs = campaign.archive.evaluations(campaign.id)
  # The usual condition and two more, for two candidates with two seeds.
  assert len(runs) == 12
  assert {run.split for run in runs} == {"confirm"}
  rewards = {run.budget: set() for run in runs}
  for run in runs:
    rewards[run.budget] |= {*run.curve["reward"]}
  assert rewards.pop("explain:tiny false_positive=1.0") == {1.0}
  assert set(rewards) == {"explain:tiny", "explain:tiny lag=1"}
  assert all(max(seen) < 1.0 for seen in rewards.values())
  by_key = {
      (run.budget, run.candidate_id, run.seed): run.metrics["overall"]
      for run in runs
  }
  errs, lag = found["axes"]
  assert (errs["field"], errs["values"]) == ("false_positive", [0.0, 1.0])
  assert (lag["field"], lag["values"]) == ("lag", [0, 1])
  score = lambda budget, who: sum(
      by_key[budget, who.id, seed] for seed in plan.fresh(2)
  )
  usual, hard = "explain:tiny", "explain:tiny lag=1"
  # Trapezoid over one interval, mean over two seeds.
  area = (score(usual, winner) + score(hard, winner)) / 4
  assert lag["child"] == pytest.approx(area)
  assert lag["area"]["low"] <= lag["area"]["mean"] <= lag["area"]["high"]
  header, *told = found["sentences"]
  assert "at budget tiny, base embedded: 2 seeds" in header and len(told) == 2
  again = hardening.harden(means, winner)
  assert again == found
  more = dataclasses.replace(plan, lags=())
  assert len(hardening.harden(means._replace(plan=more), winner)["axes"]) == 1
