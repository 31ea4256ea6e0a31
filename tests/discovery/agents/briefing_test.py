"""Contexts: what the search has seen, and nothing that it may not see."""

import pytest

from poise_jax.algorithms import catalog
from poise_jax.discovery import admission, planting
from poise_jax.discovery.agents import briefing
from poise_jax.discovery.agents import context as context_lib


@pytest.fixture
def campaign(campaigns, make):
  """A root, a good child of it, a bad one, and one that was refused."""
  campaign = campaigns()
  root = campaign.admit(0, planting._root("grpo"))
  drafts = (
      ("good", catalog.source("dapo"), {"tags": ["clip"], "equations": "E=1"}),
      ("bad", catalog.source("gspo"), {"tags": ["clip", "ratio"]}),
      ("refused", "import os", {}),
  )
  for index, (name, source, mechanisms) in enumerate(drafts, 1):
    campaign.admit(
        index,
        admission.Draft(
            name, "generated", 1, (root.id,), source, mechanisms, f"why {name}"
        ),
    )
  for candidate, scores in zip(
      campaign.candidates, ((40, 42), (44, 48), (30, 31), ()), strict=True
  ):
    for split, shift in (("search", 0.0), ("sealed", 33.0), ("confirm", 44.0)):
      for seed, score in enumerate(scores):
        campaign.archive.add_evaluation(
            make.evaluation(
                candidate.index,
                seed,
                score + shift,
                budget="tiny",
                split=split,
                candidate_id=candidate.id,
                key={"base": campaign.laboratory.base_sha256},
            )
        )
  return campaign


def _task(campaign, first=1, **changes):
  ids = [c.id for c in campaign.candidates]
  return briefing.Task(4, 2, (ids[first], ids[0]), **changes)


def test_numbers_are_those_of_the_search(campaign):
  context = briefing.context(campaign, _task(campaign))
  assert (context.label, context.index) == ("004", 4)
  parent = context.parent
  assert parent.name == "good" and parent.metrics["overall"] == 46.0
  gap = parent.versus_parent["overall"]
  assert (gap.mean, gap.seeds) == (5.0, 2) and gap.low < 5.0 < gap.high
  assert parent.versus_parent == parent.versus_root
  assert [a.name for a in context.lineage] == ["grpo", "good"]
  assert context.lineage[0].outcome == "the root"
  assert context.lineage[1].outcome.startswith("Overall +5.00 [")
  effects = {e.mechanism: (e.mean, e.children) for e in context.effects}
  # good +5, bad -10.5: "clip" is in both.
  assert effects == {"clip": (-2.75, 2), "ratio": (-10.5, 1)}
  first, *_ = context.effects
  assert first.sd == pytest.approx((2 * 2 * 0.9 * 2.5**2 / 2) ** 0.5 / 2)
  forbidden = {f.name: f.why for f in context.forbidden}
  assert list(forbidden) == ["bad", "refused"]
  assert forbidden["bad"].startswith("Overall -10.50 [")
  assert "2 steps" not in context.limits and "tiny: 2 rollout" in context.limits
  assert context.references[0].tier == "parent of this round"
  assert {r.name for r in context.references} == {"grpo", "bad"}
  assert briefing.equations(campaign) == ["E=1"]
  text = context_lib.render(context)
  for hidden in (73, 75, 77, 79, 81, 84, 86, 88, 90, 92):
    assert f"overall {hidden}" not in text and f" {hidden}.00" not in text
  assert campaign.id not in text


def test_it_stays_the_same_when_more_is_measured_elsewhere(campaign, make):
  before = briefing.context(campaign, _task(campaign))
  for split in ("sealed", "confirm"):
    for which in campaign.candidates[:2]:
      campaign.archive.add_evaluation(
          make.evaluation(
              which.index,
              9,
              99.0,
              budget="tiny",
              split=split,
              candidate_id=which.id,
              key={"base": campaign.laboratory.base_sha256},
          )
      )
  assert briefing.context(campaign, _task(campaign)) == before


def test_a_sibling_is_not_to_be_repeated_and_the_root_has_no_parent(campaign):
  root = campaign.candidates[0]
  context = briefing.context(campaign, briefing.Task(2, 1, (root.id,)))
  (sibling,) = context.forbidden
  assert sibling.name == "good"
  assert context.parent.versus_parent == context.parent.versus_root == {}


def test_why_somebody_got_no_further_is_told(campaign, make):
  root, *_ = campaign.candidates
  for index, name in enumerate(("rloo", "dr_grpo"), 4):
    child = campaign.admit(
        index,
        admission.Draft(
            name, "generated", 1, (root.id,), catalog.source(name), {}, ""
        ),
    )
    assert child.accepted, child.findings
  broke, slow = campaign.candidates[-2:]

  def measure(which, seed, overall, budget, **changes):
    run = make.evaluation(
        which.index,
        seed,
        overall,
        budget=budget,
        candidate_id=which.id,
        key={"base": changes.pop("base", campaign.laboratory.base_sha256)},
        **changes,
    )
    campaign.archive.add_evaluation(run)

  nan = {"outcome": "diverged", "metrics": {}}
  measure(broke, 0, 0.0, "smoke", reason="non-finite loss", **nan)
  measure(root, 0, 20.0, "quarter")
  measure(slow, 0, 8.5, "quarter")
  # Of another base policy, or sealed: nobody may see that.
  measure(slow, 3, 99.0, "standard", base="another")
  measure(slow, 4, 99.0, "quarter", split="sealed")
  # What did well before it broke down is not to be repeated either.
  good = campaign.candidates[1]
  measure(good, 7, 0.0, "tiny", reason="KL collapse", **nan)
  task = briefing.Task(6, 2, (root.id,))
  told = {f.name: f.why for f in briefing.context(campaign, task).forbidden}
  assert told["rloo"] == (
      "broke down in training at the smoke budget: non-finite loss"
  )
  assert told["dr_grpo"] == (
      "Overall -11.50 at the quarter budget against its parent, not measured"
      " further"
  )
  assert told["good"].endswith("at the tiny budget: KL collapse")
  assert told["bad"].startswith("Overall -10.50 [")
  seen = briefing.evidence(campaign, slow).evaluations
  assert [(run.budget, run.split) for run in seen] == [("quarter", "search")]
