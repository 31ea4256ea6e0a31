"""Contexts: what the search has seen, and nothing that it may not see."""

import pytest

from poise_jax.algorithms import catalog
from poise_jax.discovery import admission, planting
from poise_jax.discovery.agents import briefing
from poise_jax.discovery.agents import context as context_lib
from poise_jax.discovery.objectives import objective as objectives


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


def test_an_objective_in_words():
  assert briefing.wanted(objectives.DEFAULT) == ""
  told = briefing.wanted(
      objectives.Objective(
          (objectives.Term("response_length", "min", 2.0),),
          (objectives.Constraint("overall", ">=", 0.98, True),),
          ("kl_penalty",),
      )
  )
  assert told.startswith("lower response_length (weight 2); keep overall >=")
  assert told.endswith("without kl_penalty")
