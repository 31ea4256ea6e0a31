"""Reflections: one a candidate, against its parent and the root."""

import pytest

from poise_jax.algorithms import catalog
from poise_jax.discovery import admission, reflecting
from poise_jax.discovery.agents import scientists
from poise_jax.discovery.evidence import shrinkage
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths

NOISE = shrinkage.Noise(sd=2.5, correlation=0.1, dof=8.0)


def _draft(name, source, role, parents=()):
  return admission.Draft(
      name=name,
      role=role,
      generation=len(parents),
      parents=parents,
      source=source,
      mechanisms={},
      rationale="to see",
  )


def test_each_is_noted_once_with_what_it_was_compared_with(campaigns, make):
  campaign = campaigns()
  source = catalog.source("grpo")
  root = campaign.admit(0, _draft("grpo", source, "root"))
  parents = (root.id,)
  dapo = campaign.admit(
      1, _draft("dapo", catalog.source("dapo"), "generated", parents)
  )
  bad = campaign.admit(2, _draft("bad", "import os", "generated", parents))
  copy = campaign.admit(3, _draft("copy", source + "#", "generated", parents))
  for candidate, overall in ((root, 40.0), (dapo, 42.5)):
    run = make.evaluation(
        candidate.index, 0, overall, candidate_id=candidate.id
    )
    campaign.archive.add_evaluation(run)
  everything = [root, dapo, bad, copy]
  reflecting.reflect(campaign, everything, noise=NOISE)
  notes = {
      note.candidate_id: note
      for note in campaign.archive.reflections(campaign.id)
  }
  assert notes[root.id].data["versus"] == {}
  assert notes[dapo.id].data["versus"][root.id]["mean"] == 2.5
  assert notes[bad.id].text.startswith("Rejected before training. [construct]")
  told = "Not trained: it compiles to the same program as grpo, which was"
  assert notes[copy.id].text.startswith(told)
  reflecting.reflect(campaign, everything, noise=NOISE)
  assert len(campaign.archive.reflections(campaign.id)) == 4


def test_known_noise_and_the_budget_of_the_search_decide(campaigns, make):
  campaign = campaigns()
  root = campaign.admit(0, _draft("grpo", catalog.source("grpo"), "root"))
  dapo = campaign.admit(
      1, _draft("dapo", catalog.source("dapo"), "generated", (root.id,))
  )
  # Three seeds that happen to agree, and more of a cheaper budget.
  for budget, seeds, gain in (("tiny", 3, 3.0), ("cheap", 4, -9.0)):
    for candidate, overall in ((root, 40.0), (dapo, 40.0 + gain)):
      for seed in range(seeds):
        run = make.evaluation(
            candidate.index,
            seed,
            overall,
            budget=budget,
            candidate_id=candidate.id,
        )
        campaign.archive.add_evaluation(run)
  reflecting.reflect(campaign, [dapo], noise=NOISE)
  (note,) = campaign.archive.reflections(campaign.id)
  assert (note.data["budget"], note.data["seeds"]) == ("tiny", [0, 1, 2])
  # s0² = 2 * 0.9 * 6.25 = 11.25; with differences that do not vary
  # s² = 8 * 11.25 / 10 = 9, so half of the width is t_10 = 2.228139 times
  # sqrt(9 / 3).
  own = note.data["versus"][root.id]
  assert own["mean"] == 3.0 and own["seeds"] == 3
  assert own["high"] - 3.0 == pytest.approx(2.228139 * 3**0.5, abs=1e-4)
  assert own["low"] == pytest.approx(3.0 - 2.228139 * 3**0.5, abs=1e-4)
  assert note.data["suggestion"] == "undecided"


def test_somebody_else_may_reflect(campaigns):
  campaign = campaigns()
  root = campaign.admit(0, _draft("grpo", catalog.source("grpo"), "root"))
  asked = scientists.OFFLINE._replace(
      reflect=lambda campaign, candidate, noise, yardstick, by_rule: (
          f"{candidate.name}: {by_rule()[1]['suggestion']}",
          {},
      )
  )
  reflecting.reflect(campaign, [root], asked, noise=NOISE)
  (note,) = campaign.archive.reflections(campaign.id)
  assert note.text == "grpo: keep"


def test_what_counts_is_passed_on(campaigns, make):
  """Ten tokens fewer at the same Overall, where length is the objective."""
  campaign = campaigns()
  root = campaign.admit(0, _draft("grpo", catalog.source("grpo"), "root"))
  dapo = campaign.admit(
      1, _draft("dapo", catalog.source("dapo"), "generated", (root.id,))
  )
  for candidate, length in ((root, 20.0), (dapo, 10.0)):
    for seed in range(3):
      run = make.evaluation(
          candidate.index,
          seed,
          40.0,
          budget="tiny",
          candidate_id=candidate.id,
          metrics={"overall": 40.0, "response_length": length},
      )
      campaign.archive.add_evaluation(run)
  worth = worths.Worth(
      objectives.Objective((objectives.Term("response_length", "min"),)),
      {"overall": 40.0, "response_length": 20.0},
      {"response_length": 2.0},
  )
  told = []
  asked = scientists.OFFLINE._replace(
      reflect=lambda campaign, candidate, noise, yardstick, by_rule: (
          told.append(yardstick.worth) or by_rule()
      )
  )
  reflecting.reflect(campaign, [dapo], asked, noise=NOISE, worth=worth)
  (note,) = campaign.archive.reflections(campaign.id)
  assert told == [worth]
  # Five points, more than the 3.86 that the noise leaves open.
  assert note.data["objective"]["versus"][root.id]["mean"] == 5.0
  assert note.data["versus"][root.id]["mean"] == 0.0
  assert note.data["suggestion"] == "keep"
