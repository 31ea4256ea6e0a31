"""Winner and root tuned alike, by real trials."""

import dataclasses
import datetime

import pytest

from poise_jax.algorithms import catalog
from poise_jax.archive import records
from poise_jax.discovery import admission
from poise_jax.discovery.dissection import explanation, tuning_fairly

SCORE = lambda candidate, run: run.metrics["overall"]
PLAN = explanation.Plan(
    budget="tiny", settings=4, tuning_seeds=1, fresh_seeds=2
)


@pytest.fixture
def pair(campaigns):
  """A campaign of GRPO, and DAPO to be tuned."""
  campaign = campaigns()
  made = [
      campaign.admit(
          index,
          admission.Draft(
              name=name,
              role="root" if index == 0 else "generated",
              generation=index,
              parents=(),
              source=catalog.source(name),
              mechanisms={},
              rationale="r",
          ),
      )
      for index, name in enumerate(("grpo", "dapo"))
  ]
  return campaign, made[1]


@pytest.mark.slow
def test_both_get_the_same_settings_and_fresh_seeds(pair):
  campaign, winner = pair
  means = explanation.Means(campaign, SCORE, PLAN)
  found = tuning_fairly.control(means, winner)
  runs = campaign.archive.evaluations(campaign.id)
  chosen, fresh = (
      [run for run in runs if run.split == split]
      for split in ("search", "confirm")
  )
  assert len(chosen) == 2 * 4
  assert len(fresh) <= 5 * 2
  assert (
      len(runs)
      <= found["trainings"]
      <= dataclasses.replace(PLAN, ablation_trials=0, hard_seeds=0).trials
  )
  told = {run.budget for run in chosen}
  assert {
      "explain:tiny",
      "explain:tiny rate=0.5",
      "explain:tiny rate=2.0",
  } < told
  # Of DAPO's constants the one that GRPO has not at its value.
  (own,) = {
      run.budget
      for run in chosen
      if run.candidate_id == winner.id and "hparams" in run.budget
  }
  name = own.split("hparams.")[1].split("=")[0]
  root = campaign.candidates[0]
  assert winner.hparams[name] != root.hparams.get(name)
  assert found["untuned"]["low"] is not None
  assert {"tokens", "KL"} == set(found["equal"])
  assert records.canonical_json(found)
  assert tuning_fairly.control(means, winner) == found
  assert len(campaign.archive.evaluations(campaign.id)) == len(runs)
  own, roots = (
      campaign.archive.evaluations(campaign.id, who.id)
      for who in (winner, root)
  )
  base = runs[0].key["base"]
  seconds = tuning_fairly.at_equal_seconds(PLAN, base, own, roots)
  assert seconds.at > 0 and seconds.pairs == 2


def test_a_single_setting_leaves_nothing_to_choose(pair):
  campaign, winner = pair
  plan = dataclasses.replace(PLAN, settings=1)
  means = explanation.Means(campaign, SCORE, plan)
  found = tuning_fairly.control(means, winner)
  assert found["tuned"] == found["untuned"]
  # With one learning rate there is none to match the step size by.
  assert found["step_size"] is None
  scores = {
      (run.candidate_id, run.seed): run.metrics["overall"]
      for run in campaign.archive.evaluations(campaign.id)
  }
  gaps = [
      scores[winner.id, seed] - scores[campaign.candidates[0].id, seed]
      for seed in plan.fresh(2)
  ]
  assert found["untuned"]["mean"] == pytest.approx(sum(gaps) / 2)
  assert found["gradient_scale"][1] == pytest.approx(1.0)
  assert found["sentences"][0] == (
      "Tuned beside the root at budget tiny, base embedded: 1 settings of each,"
      " compared on 2 fresh seeds."
  )


def test_equal_seconds_are_read_off_untuned_runs_at_home(make):
  def run(index, seed, seconds, rights, **changes):
    values = {
        "budget": "explain:tiny",
        "split": "confirm",
        "curve": {"rewards/correct/mean": rights},
    }
    made = make.evaluation(index, seed, 50.0, **(values | changes))
    taken = datetime.timedelta(seconds=seconds)
    return dataclasses.replace(made, finished_at=made.started_at + taken)

  base = "0123456789abcdef"
  slow = [run(1, seed, 8.0, [0.2, 0.4, 0.6, 0.8]) for seed in (2100, 2101)]
  quick = [run(0, seed, 4.0, [0.1, 0.2, 0.3, 0.4]) for seed in (2100, 2101)]
  others = [
      run(0, 2102, 1.0, [1.0]),  # not asked for
      run(0, 2101, 1.0, [1.0], budget="explain:tiny rate=2.0"),
      run(0, 2101, 1.0, [1.0], split="search"),
      run(0, 2101, 1.0, [1.0], key={"base": "another"}),
  ]
  found = tuning_fairly.at_equal_seconds(PLAN, base, slow, quick + others)
  # After 4 s the slow one is at its second step of four, the quick one done.
  assert (found.at, found.pairs) == (4.0, 2)
  assert found.child == pytest.approx(0.4)
  assert found.root == pytest.approx(0.4)
  assert tuning_fairly.at_equal_seconds(PLAN, base, slow, others) is None
