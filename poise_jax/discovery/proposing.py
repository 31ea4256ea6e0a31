"""What is built on the parents of a round: proposals, through the gate.

What the grammar proposes uses nothing that the objective bans. What a model
writes is told by its own words and by the known algorithms that it equals, no
further; see `agents.banned`.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from poise_jax.archive import records
from poise_jax.discovery import admission, search_config
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery.agents import briefing
from poise_jax.discovery.agents import scientists as scientists_lib
from poise_jax.discovery.evidence import pairing
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths
from poise_jax.discovery.proposer import effects, grammar, negative_memory
from poise_jax.discovery.proposer import genome as genomes


def make_children(
    campaign: campaign_lib.Campaign,
    config: search_config.SearchConfig,
    generation: int,
    parents: Sequence[str],
    worth: worths.Worth,
    scientists: scientists_lib.Scientists = scientists_lib.OFFLINE,
) -> list[records.Candidate]:
  """Proposes and verifies the candidates of a round, each from its parent.

  Args:
    campaign: so far.
    config: of the campaign.
    generation: of the children.
    parents: ids; each in turn is the first parent of a child.
    worth: what runs are worth; proposals learn from what parents gained.
    scientists: who proposes; the grammar stands by.
  """
  first = config.planted + (generation - 1) * config.children
  children = []
  for i in range(config.children):
    index = first + i
    child = campaign.stored(index)
    if child is None:
      turned = (*parents[i % len(parents) :], *parents[: i % len(parents)])
      task = briefing.Task(
          index=index,
          generation=generation,
          parents=turned,
          worth=worth,
          noise=config.race.noise,
          seed=config.seed,
      )
      draft = scientists.propose(
          campaign,
          task,
          functools.partial(_draft, campaign, config, task),
      )
      child = campaign.admit(index, draft)
    children.append(child)
  return children


def _draft(
    campaign: campaign_lib.Campaign,
    config: search_config.SearchConfig,
    task: briefing.Task,
) -> admission.Draft:
  """A candidate of the grammar."""
  proposal = _allowed(campaign, config, task)
  return admission.Draft(
      name=proposal.name,
      role="generated",
      generation=task.generation,
      parents=proposal.parents,
      source=proposal.source,
      mechanisms=proposal.mechanisms,
      rationale=proposal.rationale,
  )


def _allowed(
    campaign: campaign_lib.Campaign,
    config: search_config.SearchConfig,
    task: briefing.Task,
) -> grammar.Proposal:
  """The first proposal that uses nothing that the objective bans.

  Raises:
    ValueError: if there is none among `_REDRAWS`.
  """
  for attempt in range(_REDRAWS):
    proposal = _propose(campaign, config, task, attempt)
    used = objectives.mechanism_names(proposal.genome.choices)
    broken = objectives.breaches(config.objective, used)
    if not broken:
      return proposal
  raise ValueError(
      f"every proposal for candidate {task.index} uses what the objective bans"
      f" ({', '.join(broken)}); lift the ban, or choose a --config.root without"
  )


_REDRAWS = 50


def _propose(
    campaign: campaign_lib.Campaign,
    config: search_config.SearchConfig,
    task: briefing.Task,
    attempt: int = 0,
) -> grammar.Proposal:
  """Asks the offline proposer for one candidate.

  It can build only on what has a genome; what a model wrote has none, and is
  passed over: as history, and as a parent for its nearest ancestor that has one.
  """
  index, generation = task.index, task.generation
  campaign.progress.stage(f"candidate {index}", "propose")
  by_id = {c.id: c for c in campaign.candidates}
  known = {
      c.id: genomes.from_json(c.mechanisms["genome"])
      for c in campaign.candidates
      if "genome" in c.mechanisms
  }
  earlier = [c for c in campaign.candidates if 0 < c.generation < generation]
  gains = {
      c.id: _gain(campaign, c, by_id[c.parents[0]], task.worth) for c in earlier
  }
  seen = {c.source_sha256 for c in campaign.candidates}
  described = [c for c in earlier if c.id in known and c.parents[0] in known]
  parents = task.parents
  if not known.keys() >= set(parents):
    parents = tuple(dict.fromkeys(_described(p, by_id, known) for p in parents))
  return grammar.propose(
      np.random.default_rng([config.seed, index, attempt][: 2 + bool(attempt)]),
      [
          grammar.Parent(
              p,
              by_id[p].name,
              known[p],
              overall=_level(campaign, by_id[p]),
              delta=gains[p].mean if gains.get(p) else None,
          )
          for p in parents
      ],
      seen | {genomes.identity(genome) for genome in known.values()},
      index=index,
      root=genomes.named(config.root),
      wanted=objectives.directions(task.worth.objective),
      history=[
          effects.Observation(
              known[c.id],
              known[c.parents[0]],
              gains[c.id].mean,
              task.noise.paired_variance / gains[c.id].seeds,
          )
          for c in described
          if gains[c.id] is not None
      ],
      failures=[
          _failure(known, c, gains[c.id])
          for c in described
          if _failed(c, gains)
      ],
  )


def _described(
    candidate: str,
    by_id: Mapping[str, records.Candidate],
    known: Mapping[str, genomes.Genome],
) -> str:
  """A candidate, or the nearest above it along first parents, with a genome."""
  while candidate not in known and by_id[candidate].parents:
    candidate = by_id[candidate].parents[0]
  return candidate


class _Gain(NamedTuple):
  """Mean difference to the parent, and the seeds behind it."""

  mean: float
  seeds: int


def _gain(
    campaign: campaign_lib.Campaign,
    child: records.Candidate,
    parent: records.Candidate,
    worth: worths.Worth,
) -> _Gain | None:
  """What a child gained, None where no common seed was scored."""
  pairs = pairing.common_runs(
      _measured(campaign.evidence(child)),
      _measured(campaign.evidence(parent)),
      prefer=campaign.home.budget,
  )
  if pairs is None:
    return None
  gaps = [
      worth.score(child, mine) - worth.score(parent, theirs)
      for mine, theirs in zip(pairs.ours, pairs.theirs, strict=True)
  ]
  return _Gain(float(np.mean(gaps)), len(gaps))


def _measured(evidence: pairing.Evidence) -> pairing.Evidence:
  """Without the runs of budgets that only train."""
  runs = [run for run in evidence.evaluations if run.metrics]
  return dataclasses.replace(evidence, evaluations=runs)


def _failed(
    candidate: records.Candidate, gains: Mapping[str, _Gain | None]
) -> bool:
  """Whether a candidate was refused, broke down, or clearly did worse."""
  if candidate.twin_of is not None:
    return False
  gain = gains[candidate.id]
  return gain is None or gain.mean < _CLEARLY_WORSE


_CLEARLY_WORSE = -5.0  # points


def _failure(
    known: Mapping[str, genomes.Genome],
    candidate: records.Candidate,
    gain: _Gain | None,
) -> negative_memory.Failure:
  """A failure to keep away from; with its parent where no score tells more."""
  return negative_memory.Failure(
      known[candidate.id],
      parent=known[candidate.parents[0]] if gain is None else None,
  )


def _level(
    campaign: campaign_lib.Campaign, candidate: records.Candidate
) -> float:
  """Mean Overall of a parent at the budget of the search, where it has one."""
  runs = pairing.scored(campaign.at_home(candidate))
  return float(np.mean([run.metrics["overall"] for run in runs]))
