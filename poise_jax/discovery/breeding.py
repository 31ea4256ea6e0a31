"""Whom a round of the search builds on."""

import dataclasses

import numpy as np

from poise_jax.archive import records
from poise_jax.candidates import fingerprint as fingerprints
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery import search_config
from poise_jax.discovery.objectives import worth as worths
from poise_jax.discovery.parents import features, rules, selection
from poise_jax.discovery.proposer import genome as genomes


def choose_parents(
    campaign: campaign_lib.Campaign,
    config: search_config.SearchConfig,
    generation: int,
    worth: worths.Worth,
) -> tuple[str, ...]:
  """Chooses the parents of a round by what is known before it.

  The choice, its odds and what it was made by are stored; one that is stored
  is read back.

  Args:
    campaign: so far.
    config: its rule and weights, the noise among them as in the race.
    generation: of the children.
    worth: what runs are worth.
  """
  for known in campaign.archive.selections(campaign.id):
    if known.generation == generation:
      return known.parents
  campaign.progress.stage(f"round {generation}", "choose parents")
  nodes = [
      node
      for candidate in campaign.candidates
      if candidate.generation < generation
      and (node := _node(campaign, candidate)) is not None
  ]
  choice = rules.named(config.rule)(
      nodes,
      count=config.parents,
      weights=dataclasses.replace(
          config.weights, noise_variance=config.noise_sd**2
      ),
      objective=worth.objective,
      scale_of=worth.scales,
      rng=np.random.default_rng([config.seed, generation, _PARENTS]),
  )
  # First the reasons: a search that is cut off between the two repeats both.
  campaign.decide("selection", f"round {generation:03d}", lambda: choice.log)
  campaign.archive.add_selection(
      records.Selection(
          campaign.id, generation, choice.parents, choice.terms, records.now()
      )
  )
  return choice.parents


_PARENTS = 1  # names a stream of random numbers


def _node(
    campaign: campaign_lib.Campaign,
    candidate: records.Candidate,
) -> selection.Node | None:
  """A candidate as a possible parent; None if it cannot be one."""
  runs = campaign.at_home(candidate)
  breedable = candidate.role in ("root", "generated") and runs
  if not breedable or any(run.outcome != "scored" for run in runs):
    return None
  columns = [worths.of_run(candidate, run) for run in runs]
  mean = {
      name: float(np.mean([column[name] for column in columns]))
      for name in columns[0]
  }
  sets = [name for name in mean if "/" in name and not name.startswith(_OTHER)]
  return selection.Node(
      id=candidate.id,
      parents=candidate.parents,
      overall=mean["overall"],
      seeds=len(runs),
      set_scores={name: mean[name] for name in sets},
      genome=(described := candidate.mechanisms.get("genome"))
      and genomes.from_json(described),
      fingerprint=candidate.fingerprint
      and fingerprints.from_bytes(candidate.fingerprint),
      features=features.of_runs(runs),
      metrics=mean,
  )


# Of a sampled set pass@32 is its score, and pass@1 another view of it.
_OTHER = "pass_at_1/"
