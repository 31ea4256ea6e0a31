"""What a run is worth: to a search, and to claims about it."""

import pytest

from poise_jax.algorithms import catalog
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths
from poise_jax.tasks import arithmetic

SHORT = objectives.Objective(
    terms=(objectives.Term("response_length", "min"),),
    constraints=(objectives.Constraint("overall", ">=", 1.0, relative=True),),
)


def _runs(make, *values):
  return [
      make.evaluation(
          0,
          seed,
          overall,
          metrics={"overall": overall, "response_length": length},
          curve={"num_tokens": [10.0, 5.0]},
      )
      for seed, (overall, length) in enumerate(values)
  ]


def test_metrics_are_those_of_run_and_loss(make):
  described = {"operations": 7, "bits": 3400, "flops": None}
  candidate = make.candidate(0, "a", intrinsic=described)
  (run,) = _runs(make, (40.0, 20.0))
  assert worths.of_run(candidate, run) == {
      "overall": 40.0,
      "response_length": 20.0,
      "tokens": 15.0,
      "description_length": 3400.0,
  }


def test_the_length_of_a_description_is_what_its_unit_says(make):
  # An archive of what had no canonical text: its operations are no bits.
  candidate = make.candidate(0, "a", intrinsic={"operations": 31})
  (run,) = _runs(make, (40.0, 20.0))
  assert "description_length" not in worths.of_run(candidate, run)


def test_a_shorter_answer_counts_only_if_nothing_is_lost(make):
  candidate = make.candidate(0, "a")
  # Seed sd of Overall 2, of length 4: two tokens are worth a point.
  runs = _runs(make, (38.0, 16.0), (42.0, 24.0))
  worth = worths.appraise(SHORT, [(candidate, runs)])
  assert worth.root["overall"] == 40.0
  assert worth.scales["response_length"] == pytest.approx(2.0)
  same, shorter, cheaper, longer = _runs(
      make, (40.0, 20.0), (41.0, 14.0), (37.0, 2.0), (37.0, 30.0)
  )
  score = lambda run: worth.score(candidate, run)
  assert score(same) == pytest.approx(40.0)
  assert score(shorter) == pytest.approx(43.0)
  # Three points of Overall are missing, whatever was gained.
  assert score(cheaper) == pytest.approx(37.0)
  assert score(longer) == pytest.approx(35.0 - 3.0)


def test_claims_see_gain_and_slack_apart(make):
  candidate = make.candidate(0, "a")
  runs = _runs(make, (38.0, 16.0), (42.0, 24.0))
  worth = worths.appraise(SHORT, [(candidate, runs)])
  cheaper, beside = _runs(make, (37.0, 2.0), (39.0, 20.0))
  # 18 tokens less at two for a point, and two points below the run beside it.
  assert worth.gain(candidate, cheaper) == pytest.approx(40.0 + 9.0)
  found = worth.slacks(candidate, cheaper, candidate, beside)
  assert found == {"overall >= 1 x root": pytest.approx(-2.0)}
  assert worth.margins == {"overall >= 1 x root": pytest.approx(0.8)}


def test_limits_are_relative_to_the_root_where_the_runs_were_made(make):
  candidate = make.candidate(0, "a")
  runs = _runs(make, (38.0, 16.0), (42.0, 24.0))
  shorter = objectives.Constraint("response_length", "<=", 0.7, relative=True)
  objective = objectives.Objective(constraints=(shorter,))
  worth = worths.appraise(objective, [(candidate, runs)])
  (run,) = _runs(make, (50.0, 12.0))
  assert worth.score(candidate, run) == 50.0
  there = worth.beside(candidate, _runs(make, (49.0, 9.0), (45.0, 11.0)))
  assert there.root == {
      "overall": 47.0,
      "response_length": 10.0,
      "tokens": 15.0,
  }
  # Five tokens too long, at two for a point; and no gain beyond the root's 47.
  assert there.score(candidate, run) == pytest.approx(47.0 - 2.5)


def test_what_is_recorded_is_known_before_any_run(make, laboratory):
  split = arithmetic.Split.SEARCH
  outcome = laboratory.run(catalog.make("grpo"), split, 0)
  candidate = make.candidate(0, "a", intrinsic={"bits": 7, "flops": 9.0})
  run = make.evaluation(
      0, 0, 50.0, metrics=outcome.metrics, curve=outcome.curve
  )
  found = worths.of_run(candidate, run)
  assert sorted(found) == sorted(worths.recorded(arithmetic.SUITE))
