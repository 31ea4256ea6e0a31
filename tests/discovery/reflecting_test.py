"""Reflections: one a candidate, against its parent and the root."""

from poise_jax.algorithms import catalog
from poise_jax.discovery import admission, reflecting
from poise_jax.discovery.agents import scientists


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
  reflecting.reflect(campaign, everything)
  notes = {
      note.candidate_id: note
      for note in campaign.archive.reflections(campaign.id)
  }
  assert notes[root.id].data["versus"] == {}
  assert notes[dapo.id].data["versus"][root.id]["mean"] == 2.5
  assert notes[bad.id].text.startswith("Rejected before training. [construct]")
  told = "Not trained: it compiles to the same program as grpo, which was"
  assert notes[copy.id].text.startswith(told)
  reflecting.reflect(campaign, everything)
  assert len(campaign.archive.reflections(campaign.id)) == 4


def test_somebody_else_may_reflect(campaigns):
  campaign = campaigns()
  root = campaign.admit(0, _draft("grpo", catalog.source("grpo"), "root"))
  asked = scientists.OFFLINE._replace(
      reflect=lambda campaign, candidate, by_rule: (
          f"{candidate.name}: {by_rule()[1]['suggestion']}",
          {},
      )
  )
  reflecting.reflect(campaign, [root], asked)
  (note,) = campaign.archive.reflections(campaign.id)
  assert note.text == "grpo: keep"
