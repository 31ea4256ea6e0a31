"""Plans: seconds from what was measured, and a fair account afterwards."""

import dataclasses
import datetime

import pytest

from poise_jax.discovery import explaining, outlook, search_config
from poise_jax.discovery.evidence import plan
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.trials import budgets

SECOND = datetime.timedelta(seconds=1)
BASE = "0123456789abcdef"
CONFIRMS = {"budget": "confirm", "split": "confirm"}


def _run(make, index, seed, seconds, **changes):
  run = make.evaluation(index, seed, 50.0, **changes)
  fields = {"started_at": run.started_at}
  fields["finished_at"] = run.started_at + seconds * SECOND
  return make.evaluation(index, seed, 50.0, **(changes | fields))


def test_cost_counts_completions():
  # 16 steps of 16 x 8, at 2 + 3 * 2 each; three sets of 48 x 32 samples and
  # three of 192 greedy answers.
  quick = 16 * 128 * 8 + 3 * 48 * 32 + 3 * 192
  assert outlook.cost(budgets.QUICK) == quick == 21568
  assert outlook.cost(budgets.SMOKE) == 2 * 128 * 8


def test_seconds_scale_with_cost_and_workers(make):
  runs = [_run(make, 0, 0, 8), _run(make, 1, 0, 12)]
  found = outlook.seconds(runs, ["quick", "smoke"], workers=2)
  assert found["quick"] == pytest.approx(5.0)
  assert found["smoke"] == pytest.approx(5.0 * 2048 / 21568)
  with pytest.raises(ValueError, match="`runs` must hold a trial"):
    outlook.seconds([], ["quick"], workers=1)


def test_a_plan_has_every_rung_and_the_confirmation(make):
  config = search_config.SearchConfig(rounds=2, children=2, root_seeds=1)
  made = outlook.make(config, [_run(make, 0, 0, 8)], rehearsals=2)
  assert made.candidates == 4
  stages = [line.stage for line in made.lines]
  assert stages == ["verify", "smoke", "quarter", "full", plan.CONFIRMATION]
  assert (made.budget, made.base, made.alpha) == ("confirm", "embedded", 0.05)
  assert made.minutes > 0
  text = "\n".join(plan.as_text(made))
  assert "Minimum detectable effect" in text


def test_the_noise_of_a_plan_is_that_of_the_seeds_so_far(make):
  config = search_config.SearchConfig()
  runs = [
      make.evaluation(index, seed, score)
      for index, scores in enumerate([(50.0, 54.0, 58.0), (40.0, 44.0), (9.0,)])
      for seed, score in enumerate(scores)
  ]
  # 8 x 2.5² for what was assumed, 16 + 0 + 16 and 4 + 4 for what was seen.
  assert outlook.noise(config, runs).sd == pytest.approx((90 / 11) ** 0.5)
  assert outlook.noise(config, runs[-1:]).sd == 2.5
  quiet = outlook.make(config, runs[-1:], rehearsals=2)
  assert outlook.make(config, runs, rehearsals=2).effects > quiet.effects


def test_what_was_spent_is_told_by_stage(make):
  config = search_config.SearchConfig(workers=2)
  candidates = [
      make.candidate(0, "grpo", role="root"),
      make.candidate(9, "new", [0]),
  ]
  runs = [
      _run(make, 0, 0, 600),  # planted
      _run(make, 0, 5, 120),
      _run(make, 9, 0, 120),
      _run(make, 9, 0, 60, budget="quarter"),
      _run(make, 9, 1000, 240, **CONFIRMS),
  ]
  further = [
      _run(make, 9, 1024, 60, budget="confirm", split="sealed"),
      _run(make, 9, 1000, 60, **CONFIRMS, key={"base": "second"}),
      _run(make, 9, 1024, 60, **CONFIRMS),
      _run(make, 9, 2000, 60, budget="explain:confirm"),
      _run(make, 9, 2100, 60, budget="explain:confirm", split="confirm"),
  ]
  planned = {"full": 2.0, "quarter": 0.5, plan.CONFIRMATION: 2.0}
  assert outlook.spent(config, candidates, runs, BASE) == planned
  # What follows a confirmation is in no stage of the plan.
  assert outlook.spent(config, candidates, runs + further, BASE) == (
      planned | {outlook.FOLLOWED: 2.5}
  )


def test_a_review_tells_what_followed_apart(make, opened):
  config = search_config.SearchConfig(rounds=1, children=1, root_seeds=1)
  planned = outlook.make(config, [_run(make, 0, 0, 8)], rehearsals=2)
  archive = opened("a")
  archive.add_campaign(make.campaign(config={"base_sha256": BASE}))
  archive.add_candidate(make.candidate(0, "grpo", role="root"))
  for run in (
      _run(make, 0, 1000, 240, **CONFIRMS),
      _run(make, 0, 2100, 360, budget="explain:confirm", split="confirm"),
  ):
    archive.add_evaluation(run)
  began = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
  *_, total, last = outlook.reviewed(config, planned, archive, "c0ffee", began)
  assert total.split()[0] == "total" and total.split()[-1] == "2.0"
  assert last == "What followed a confirmation took 3.0 minutes."


def test_what_follows_a_confirmation_is_said_before(make):
  # 5 s a trial of `quick`, by 16 x 128 x 8 + 3 x 48 x 32 + 3 x 192 = 21568
  # completions; one of `confirm` takes 32 x 192 x 8 + 3 x 192 x 32 + 3 x 384,
  # that is 68736, and so 15.93 s.
  runs = [_run(make, 0, 0, 10)]
  config = search_config.SearchConfig()
  # 48 + 8 + 166 trials of 15.93 s.
  assert outlook.remarks(config, runs) == [
      "If something holds: second base up to 48 trials, sealed up to 8 trials,"
      " explanation up to 166 trials (about 59 minutes)."
  ]
  quicker = dataclasses.replace(
      config,
      second_base="",
      confirm_seeds=4,
      explain=explaining.Plan("quick", settings=0, hard_seeds=0),
  )
  few, line = outlook.remarks(quicker, runs)
  assert few.startswith("Confirmations decide after 4 seeds already")
  assert few.endswith("likelier than 0.05.")
  # 8 of 15.93 s and 72 of 5 s.
  assert line == (
      "If something holds: sealed up to 8 trials, explanation up to 72 trials"
      " (about 8 minutes)."
  )
  limited = dataclasses.replace(
      config,
      objective=objectives.Objective(
          constraints=(objectives.Constraint("response_length", "<=", 20.0),)
      ),
  )
  first, _ = outlook.remarks(limited, runs)
  assert "that response_length stay within limits" in first
  for idle in ({"rounds": 0}, {"finalists": 0}):
    assert outlook.remarks(dataclasses.replace(config, **idle), runs) == []


def test_steps_count_what_is_planned_for():
  config = search_config.SearchConfig(
      rounds=1, children=2, root_seeds=2, rungs=("smoke",), finalists=1
  )
  # Root and near clone twice, three others once; two candidates on both rungs;
  # two further seeds and three to close; one confirmation of eight pairs.
  assert outlook.steps(config) == 7 * 16 + 2 * (2 + 16) + 5 * 16 + 16 * 32
