"""Plans: seconds from what was measured, and a fair account afterwards."""

import datetime

import pytest

from poise_jax.discovery import outlook, search_config
from poise_jax.discovery.evidence import plan
from poise_jax.discovery.trials import budgets

SECOND = datetime.timedelta(seconds=1)


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
      _run(make, 9, 1000, 240, budget="confirm", split="confirm"),
      _run(make, 9, 1000, 999, budget="confirm", split="sealed"),
  ]
  assert outlook.spent(config, candidates, runs) == {
      "full": 2.0,
      "quarter": 0.5,
      plan.CONFIRMATION: 2.0,
  }


def test_steps_count_what_is_planned_for():
  config = search_config.SearchConfig(
      rounds=1, children=2, root_seeds=2, rungs=("smoke",), finalists=1
  )
  # Root and near clone twice, three others once; two candidates on both rungs;
  # two further seeds and three to close; one confirmation of eight pairs.
  assert outlook.steps(config) == 7 * 16 + 2 * (2 + 16) + 5 * 16 + 16 * 32
