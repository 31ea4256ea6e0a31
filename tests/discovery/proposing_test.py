"""Proposals: pure functions of what is stored, each made once."""

import dataclasses

import pytest

from poise_jax.algorithms import catalog
from poise_jax.discovery import admission, planting, proposing
from poise_jax.discovery.agents import briefing, scientists
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths
from poise_jax.discovery.proposer import genome as genomes


@pytest.fixture
def planted(campaigns, tiny_config):
  """A campaign after planting, with its configuration."""
  campaign, config = campaigns(), tiny_config()
  planting.plant(campaign, config)
  return campaign, config


def test_children_are_made_once_in_turn_of_the_parents(planted):
  campaign, config = planted
  root = campaign.candidates[0]
  children = proposing.make_children(
      campaign, config, 1, (root.id,), briefing.OVERALL
  )
  assert [child.index for child in children] == [
      config.planted + i for i in (0, 1)
  ]
  assert {child.parents[0] for child in children} == {root.id}
  assert (
      proposing.make_children(campaign, config, 1, (root.id,), briefing.OVERALL)
      == children
  )


def test_what_failed_is_remembered_and_what_was_measured_counts(
    planted, make, monkeypatch
):
  campaign, config = planted
  root = campaign.candidates[0]
  children = proposing.make_children(
      campaign, config, 1, (root.id,), briefing.OVERALL
  )
  for child, gain in zip(children, (2.5, -9.0), strict=True):
    assert child.accepted, child.findings
    for which, overall in ((root, 40.0), (child, 40.0 + gain)):
      run = make.evaluation(
          which.index,
          7,
          overall,
          budget="tiny",
          candidate_id=which.id,
          key={"base": campaign.laboratory.base_sha256},
      )
      campaign.archive.add_evaluation(run)
  asked = {}

  def propose(rng, parents, seen, **given):
    asked.update(given, parents=parents, draw=rng.random())
    raise InterruptedError

  monkeypatch.setattr(proposing.grammar, "propose", propose)
  for _ in range(2):
    with pytest.raises(InterruptedError):
      proposing.make_children(
          campaign, config, 2, (children[0].id,), briefing.OVERALL
      )
    draw = asked.setdefault("first", asked["draw"])
  assert draw == asked["draw"]
  (parent,) = asked["parents"]
  assert (parent.id, parent.delta) == (children[0].id, 2.5)
  assert [seen.delta for seen in asked["history"]] == [2.5, -9.0]
  # 2 * 0.9 * 2.5²: seeds share a tenth of the noise.
  assert [seen.variance for seen in asked["history"]] == [11.25, 11.25]
  (failure,) = asked["failures"]
  assert failure.parent is None
  assert failure.genome == genomes.from_json(children[1].mechanisms["genome"])


@pytest.fixture
def rooted(campaigns, tiny_config):
  """A campaign with its root alone, and its configuration."""
  campaign = campaigns()
  campaign.admit(0, planting._root("grpo"))
  return campaign, tiny_config()


@pytest.fixture
def line(rooted, make):
  """A root, its child, and what a model made of that; measured once each."""
  campaign, config = rooted
  described = {"genome": genomes.to_json(genomes.named("dapo"))}
  parent = campaign.candidates[0]
  for index, (name, mechanisms) in enumerate(
      (("dapo", described), ("gspo", {"operator": "agent"})), 1
  ):
    draft = admission.Draft(
        name=name,
        role="generated",
        generation=1,
        parents=(parent.id,),
        source=catalog.source(name),
        mechanisms=mechanisms,
        rationale="to see",
    )
    parent = campaign.admit(index, draft)
    assert parent.accepted, parent.findings
  for which, overall in zip(
      campaign.candidates, (40.0, 42.0, 30.0), strict=True
  ):
    _measure(make, campaign, which, 7, overall)
  return campaign, config


def _measure(make, campaign, which, seed, overall, budget="tiny", **changes):
  campaign.archive.add_evaluation(
      make.evaluation(
          which.index,
          seed,
          overall,
          budget=budget,
          candidate_id=which.id,
          key={"base": campaign.laboratory.base_sha256},
          **changes,
      )
  )


GONE = {"outcome": "diverged", "reason": "non-finite loss", "metrics": {}}


def test_what_has_no_genome_is_passed_over(line):
  campaign, config = line
  _, child, written = campaign.candidates
  above, plain = (
      proposing._propose(campaign, config, briefing.Task(3, 2, parents))
      for parents in ((written.id, child.id), (child.id,))
  )
  assert above == plain and above.parents == (child.id,)


def test_a_stand_in_may_have_broken_down_later(line, make):
  """What is told of it is the mean of the runs that have a score."""
  campaign, config = line
  _, child, written = campaign.candidates
  _measure(make, campaign, child, 8, 0.0, **GONE)
  assert proposing._level(campaign, child) == 42.0
  found = proposing._propose(
      campaign, config, briefing.Task(3, 2, (written.id,))
  )
  assert found.parents == (child.id,)


def test_a_budget_that_only_trains_tells_no_gain(line, make):
  """Both got through the first rung, and one broke down on the next."""
  campaign, config = line
  root, child, _ = campaign.candidates
  other = campaign.admit(
      3,
      admission.Draft(
          name="rloo",
          role="generated",
          generation=1,
          parents=(child.id,),
          source=catalog.source("rloo"),
          mechanisms={"genome": genomes.to_json(genomes.named("rloo"))},
          rationale="to see",
      ),
  )
  assert other.accepted, other.findings
  for which in (child, other):
    _measure(make, campaign, which, 0, 0.0, "smoke", metrics={})
  _measure(make, campaign, other, 0, 0.0, "quarter", **GONE)
  assert proposing._gain(campaign, other, child, briefing.OVERALL) is None
  task = briefing.Task(4, 2, (root.id,))
  assert proposing._propose(campaign, config, task).parents == (root.id,)


def test_somebody_else_may_propose(rooted):
  campaign, config = rooted
  root = campaign.candidates[0]
  tasks = []

  def propose(campaign, task, by_rule):
    tasks.append((task, by_rule))
    raise InterruptedError

  asked = scientists.OFFLINE._replace(propose=propose)
  with pytest.raises(InterruptedError):
    proposing.make_children(
        campaign, config, 1, (root.id,), briefing.OVERALL, asked
    )
  ((task, by_rule),) = tasks
  assert (task.index, task.generation) == (config.planted, 1)
  assert task.parents == (root.id,) and task.noise == config.race.noise
  assert callable(by_rule)


def test_what_the_objective_bans_is_not_proposed(planted):
  campaign, config = planted
  root = campaign.candidates[0]
  task = briefing.Task(
      index=config.planted,
      generation=1,
      parents=(root.id,),
      seed=config.seed,
  )
  free = proposing._allowed(campaign, config, task)
  plain = genomes.named("grpo").choices
  slot, *_ = [s for s, c in free.genome.choices.items() if c != plain[s]]
  banned = objectives.Objective(bans=(slot,))
  config = dataclasses.replace(config, objective=banned)
  other = proposing._allowed(campaign, config, task)
  assert other.genome.choices[slot] == genomes.Genome().choices[slot]
  kept = tuple(f"{name}={choice}" for name, choice in plain.items())
  everything = objectives.Objective(bans=kept)
  config = dataclasses.replace(config, objective=everything)
  with pytest.raises(ValueError, match="uses what the objective bans"):
    proposing._allowed(campaign, config, task)


def test_what_counts_is_what_the_objective_says(planted, make):
  """Half the length at a point less: a gain to whom length is the objective."""
  campaign, config = planted
  root = campaign.candidates[0]
  child, *_ = proposing.make_children(
      campaign, config, 1, (root.id,), briefing.OVERALL
  )
  for which, overall, length in ((root, 50.0, 20.0), (child, 49.0, 10.0)):
    campaign.archive.add_evaluation(
        make.evaluation(
            which.index,
            7,
            overall,
            budget="tiny",
            candidate_id=which.id,
            key={"base": campaign.laboratory.base_sha256},
            metrics={"overall": overall, "response_length": length},
        )
    )
  shorter = worths.Worth(
      objectives.Objective(terms=(objectives.Term("response_length", "min"),)),
      {"overall": 50.0, "response_length": 20.0},
      {"response_length": 2.0},
  )
  plain, short = (
      proposing._gain(campaign, child, root, worth)
      for worth in (briefing.OVERALL, shorter)
  )
  assert plain == (pytest.approx(-1.0), 1)
  assert short == (pytest.approx(5.0), 1)
