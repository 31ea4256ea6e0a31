"""Breeding: who may be a parent, and what is made of whom."""

import pytest

from poise_jax.algorithms import catalog
from poise_jax.discovery import admission, breeding, planting
from poise_jax.discovery.objectives import worth as worths


@pytest.fixture
def bred(campaigns, tiny_config):
  """A campaign after planting, with its configuration."""
  campaign, config = campaigns(), tiny_config()
  root, *_ = planting.plant(campaign, config)
  worth = worths.appraise(config.objective, [(root, campaign.at_home(root))])
  return campaign, config, worth


def test_the_first_round_builds_on_the_root(bred):
  campaign, config, worth = bred
  root = campaign.candidates[0]
  assert breeding.choose_parents(campaign, config, 1, worth) == (root.id,)
  (choice,) = campaign.archive.selections(campaign.id)
  assert choice.parents == (root.id,) == tuple(choice.terms)
  (log,) = campaign.archive.decisions(campaign.id, "selection")
  assert (log.subject, log.data["rule"]) == ("round 001", "epistemic")
  # The second time the choice is read back.
  assert breeding.choose_parents(campaign, config, 1, worth) == (root.id,)


def test_one_measured_elsewhere_or_diverged_is_no_parent(bred, make):
  campaign, config, worth = bred
  base = campaign.laboratory.base_sha256
  sources = {"dr_grpo": {}, "rloo": {"budget": "quarter"}, "cispo": {}}
  sources["gspo"] = {"outcome": "diverged", "metrics": {}, "reason": "nan"}
  metrics = campaign.at_home(campaign.candidates[0])[0].metrics
  for i, (name, changes) in enumerate(sources.items()):
    draft = admission.Draft(
        name=name,
        role="generated",
        generation=1,
        parents=(campaign.candidates[0].id,),
        source=catalog.source(name),
        mechanisms=campaign.candidates[0].mechanisms,
        rationale="",
    )
    index = config.planted + i
    child = campaign.admit(index, draft)
    assert child.accepted
    values = {"budget": "tiny", "metrics": metrics, "candidate_id": child.id}
    key = {"base": "another" if name == "cispo" else base}
    run = make.evaluation(index, 0, 1.0, **(values | {"key": key} | changes))
    campaign.archive.add_evaluation(run)
  breeding.choose_parents(campaign, config, 2, worth)
  (choice,) = campaign.archive.selections(campaign.id)
  by_id = {candidate.id: candidate.name for candidate in campaign.candidates}
  assert {by_id[id_] for id_ in choice.terms} == {"grpo", "dr_grpo"}
