"""Plans by counting, and runs read without a clock."""

import dataclasses
import datetime

import pytest

from poise_jax.archive import records
from poise_jax.discovery.dissection import explanation
from poise_jax.discovery.trials import trial
from poise_jax.evaluation import statistics
from poise_jax.tasks import arithmetic


def test_trials_are_counted_by_hand():
  plan = explanation.Plan()
  # Tuning: 2 arms of 5 settings with 2 seeds, 5 groups of 4 fresh seeds.
  # Hard: the usual and 8 other conditions, for two with 3 seeds.
  assert plan.conditions == 8
  assert plan.trials == 72 + (20 + 20) + 54
  assert dataclasses.replace(plan, ablation_trials=0).trials == 94
  assert dataclasses.replace(plan, settings=0).trials == 72 + 54
  assert dataclasses.replace(plan, hard_seeds=0).trials == 72 + 40


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"settings": -1}, "`settings` must be at least 0, got -1"),
        ({"pairs": 1}, "`pairs` must be at least 2, got 1"),
        ({"fresh_seeds": 101}, "`fresh_seeds` must be at most 100"),
        ({"effect_pairs": 9}, "`effect_pairs` must be at most .*pairs`, 8"),
        ({"margin": 0.0}, "`margin` must be positive"),
        ({"margin": float("inf")}, "`margin` must be positive"),
        ({"alpha": 1.0}, "`alpha` must lie in"),
        ({"false_negative": (0.1, 1.5)}, r"`false_negative` must .* \[0, 1\]"),
        ({"group_sizes": (1,)}, r"`group_sizes` must lie in \[2, inf\]"),
        ({"lags": (-1,)}, "`lags` must lie in"),
        ({"lengths": (0.0,)}, "`lengths` must lie in"),
    ],
)
def test_plans_without_meaning_are_refused(changes, words):
  with pytest.raises(ValueError, match=words.replace("`", "`explain.", 1)):
    explanation.Plan(**changes).checked()


def test_a_sound_plan_is_returned():
  plan = explanation.Plan()
  assert plan.checked() is plan


def test_seeds_are_for_one_thing():
  plan = explanation.Plan(first_seed=7)
  assert plan.chosen_by(2) == (7, 8)
  assert plan.fresh(2) == (107, 108)


class Remembering:
  """A campaign that has measured everything already."""

  home = trial.Setting("quick", arithmetic.Split.SEARCH, "mine")

  def __init__(self, run):
    self.run = run

  def measure(self, wanted):
    return [self.run for _ in wanted]


@pytest.fixture
def run(make):
  return make.evaluation(2, 1, 40.0)


def _means(run, **changes):
  score = lambda candidate, run: run.metrics["overall"] + candidate.index
  plan = explanation.Plan(budget="quick", **changes)
  return explanation.Means(Remembering(run), score, plan)


def test_trials_are_those_of_a_variation(run, make):
  means = _means(run, first_seed=50)
  assert means.where == "at budget quick, base mine"
  candidate = make.candidate(2, "better", [0])
  chosen = means.wanted(candidate, 149, lag=2)
  assert chosen.setting == trial.Setting(
      "explain:quick lag=2", arithmetic.Split.SEARCH, "mine"
  )
  fresh = means.wanted(candidate, 150, "other")
  assert fresh.setting == trial.Setting(
      "explain:quick", arithmetic.Split.CONFIRM, "other"
  )


def test_a_run_has_its_worth_and_one_that_broke_down_the_least(run, make):
  candidate = make.candidate(2, "better", [0])
  means = _means(run)
  (found,) = means.measured([means.wanted(candidate, 0)])
  assert found.score == 42.0
  assert (found.diverged, found.seconds) == ("", None)
  broken = dataclasses.replace(
      run, outcome="diverged", reason="non-finite loss at step 1", metrics={}
  )
  means = _means(broken, floor=-3.0)
  (found,) = means.measured([means.wanted(candidate, 0)])
  assert (found.score, found.diverged) == (-3.0, broken.reason)


def test_records_become_plain():
  @dataclasses.dataclass
  class Inner:
    interval: statistics.Interval
    by: dict

  found = explanation.as_json([Inner(statistics.Interval(1.0, None, 2.0), {})])
  assert found == [
      {"interval": {"mean": 1.0, "low": None, "high": 2.0}, "by": {}}
  ]
  assert records.canonical_json(found)
  with pytest.raises(TypeError):
    records.canonical_json(explanation.as_json(datetime.datetime.now()))
