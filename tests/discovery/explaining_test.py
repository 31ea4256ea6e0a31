"""A winner explained once, whatever happens on the way."""

import dataclasses
import datetime

import pytest

from poise_jax.archive import records, store
from poise_jax.discovery import admission, confirming, explaining
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import rendering

SCORE = lambda candidate, run: run.metrics["overall"]
PLAN = explaining.Plan(
    budget="tiny",
    ablation_trials=10,
    margin=1000.0,
    pairs=2,
    effect_pairs=1,
    settings=1,
    tuning_seeds=1,
    fresh_seeds=2,
    hard_seeds=1,
    false_positive=(),
    false_negative=(0.5,),
    group_sizes=(),
    lags=(1,),
    lengths=(),
)
BASE = "0123456789abcdef"
EFFECT = 500.0  # as if it had been confirmed
FIRST = 5  # with room for candidates of a search


def _explained(campaign, plan=PLAN):
  """Admits a root and a winner, and explains it."""
  root = genomes.named("grpo")
  child = genomes.edited(root, {"scale": "none"})
  for index, genome in enumerate((root, child)):
    source = rendering.render(
        genome,
        name=f"number {index}",
        parents=(),
        rationale="r",
        prediction="p",
        falsifier="f",
    )
    draft = admission.Draft(
        name=f"number {index}",
        role="generated" if index else "root",
        generation=index,
        parents=(),
        source=source,
        mechanisms={"genome": genomes.to_json(genome)},
        rationale="r",
    )
    winner = campaign.admit(index, draft)
  campaign.decide(confirming.FIRST, winner.id, lambda: {"mean": EFFECT})
  return explaining.explain(campaign, winner, plan, SCORE, FIRST)


@pytest.fixture
def whole(campaigns):
  campaign = campaigns("whole")
  return campaign, _explained(campaign)


def _found(campaign, stage):
  (decision,) = campaign.archive.decisions(campaign.id, stage)
  return decision


def test_each_part_is_a_conclusion_that_is_drawn_once(whole, monkeypatch):
  campaign, after = whole
  winner = campaign.candidates[1]
  for stage in (
      *(explaining.ABLATION, explaining.CONFOUNDS, explaining.ROBUSTNESS),
  ):
    decision = _found(campaign, stage)
    assert decision.subject == winner.id
    assert decision.data["budget"] == "tiny"
    assert all(isinstance(s, str) for s in decision.data["sentences"])
    assert "at budget tiny, base embedded" in decision.data["sentences"][0]
  # The plan would allow 1000.
  ablation = _found(campaign, explaining.ABLATION).data
  assert ablation["margin"] == EFFECT / 2
  assert "below 250 points" in ablation["sentences"][0]
  assert "within 250 of" in ablation["sentences"][2]
  variants = [c for c in campaign.candidates if c.role == "variant"]
  assert after == FIRST + len(variants) == variants[-1].index + 1
  assert len(campaign.archive.evaluations(campaign.id)) <= PLAN.trials
  # Once more, nothing is done.
  digest = campaign.archive.digest(campaign.id)
  stages = []
  with monkeypatch.context() as patch:
    patch.setattr(campaign, "measure", None)
    patch.setattr(campaign.progress, "stage", lambda *told: stages.append(told))
    assert _explained(campaign) == after
  assert campaign.archive.digest(campaign.id) == digest
  assert stages == []
  with pytest.raises(ValueError, match="`winner` must be an admitted"):
    explaining.explain(campaign, campaign.candidates[0], PLAN, SCORE, FIRST)


class PowerCutError(Exception):
  """The process ends here."""


class Mortal(store.Archive):
  """Ends the process at the next write but `left`."""

  left = 0


def _mortal(name):
  def add(self, record):
    if self.left == 0:
      raise PowerCutError
    self.left -= 1
    getattr(super(Mortal, self), name)(record)

  return add


for _kind in ("candidate", "evaluation", "decision"):
  setattr(Mortal, f"add_{_kind}", _mortal(f"add_{_kind}"))


def test_cut_off_after_every_few_writes_it_ends_the_same(
    whole, campaigns, opened
):
  campaign, after = whole
  archive = opened("mortal", Mortal)
  cuts = []
  while len(cuts) < 20:
    archive.left = 4
    resumed = campaigns("mortal")
    resumed.archive = archive
    try:
      assert _explained(resumed) == after
      break
    except PowerCutError:
      cuts.append(len(resumed.candidates))
  assert 3 < len(cuts) < 20
  assert archive.digest(resumed.id) == campaign.archive.digest(campaign.id)


def test_what_the_plan_leaves_out_is_not_done(campaigns):
  campaign = campaigns("none")
  plan = explaining.Plan(ablation_trials=0, settings=0, hard_seeds=0)
  assert plan.trials == 0
  assert _explained(campaign, plan) == FIRST
  assert campaign.archive.evaluations(campaign.id) == []
  for stage in (
      *(explaining.ABLATION, explaining.CONFOUNDS, explaining.ROBUSTNESS),
  ):
    assert campaign.archive.decisions(campaign.id, stage) == []


def test_a_margin_below_half_of_the_effect_stays(campaigns, monkeypatch):
  found = []
  conclude = lambda means, *_: found.append(means.plan.margin) or {}
  monkeypatch.setattr(explaining.dissecting, "dissect", conclude)
  plan = explaining.Plan(margin=0.5, settings=0, hard_seeds=0)
  _explained(campaigns("own"), plan)
  assert found == [0.5] and plan.margin == 0.5


def test_equal_seconds_are_told_of_what_was_tuned(opened, make):
  archive = opened("told")
  archive.add_campaign(make.campaign(config={"base_sha256": BASE}))
  plan = explaining.Plan(budget="quick", fresh_seeds=2)
  for index, rights in enumerate(([0.1, 0.2], [0.3, 0.4])):
    archive.add_candidate(make.candidate(index, f"number {index}"))
    for seed in plan.fresh(2):
      run = make.evaluation(
          index,
          seed,
          50.0,
          budget="explain:quick",
          split="confirm",
          curve={"rewards/correct/mean": rights},
      )
      taken = datetime.timedelta(seconds=2 + index)
      archive.add_evaluation(
          dataclasses.replace(run, finished_at=run.started_at + taken)
      )
  tell = lambda: list(explaining.at_equal_seconds(archive, "c0ffee", plan))
  assert tell() == []
  archive.add_decision(
      records.Decision(
          *("c0ffee", explaining.CONFOUNDS, "c0ffee-001"),
          *({"name": "new"}, records.now()),
      )
  )
  # After 2 s: a third of the way from 0.3 at 1.5 s to 0.4 at 3 s.
  assert tell() == [
      "new: At equal seconds on this machine (2): right answers 0.333 against"
      " 0.200, +0.133 [+0.133, +0.133]."
  ]
