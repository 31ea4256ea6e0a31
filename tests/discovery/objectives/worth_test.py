"""What a run is worth: gains count, and cannot buy a broken constraint."""

import pytest

from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths

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
  candidate = make.candidate(0, "a", intrinsic={"operations": 7, "flops": None})
  (run,) = _runs(make, (40.0, 20.0))
  assert worths.of_run(candidate, run) == {
      "overall": 40.0,
      "response_length": 20.0,
      "tokens": 15.0,
      "description_length": 7.0,
  }


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


def test_an_objective_that_is_not_recorded_is_refused(make):
  objective = objectives.Objective(
      terms=(objectives.Term("heldout_perplexity", "min"),)
  )
  groups = [(make.candidate(0, "a"), _runs(make, (40.0, 20.0)))]
  with pytest.raises(ValueError, match="heldout_perplexity; there are"):
    worths.appraise(objective, groups)
