"""What an agent is told of a campaign: from the archive to a `Context`.

Runs of the search split, and nothing else: what confirms a candidate, or is
sealed, is left out before anything is computed. Numbers are those at the budget
of the search; of cheaper ones it is told why somebody did not get beyond.
"""

from collections.abc import Mapping, Sequence
from typing import get_args, NamedTuple

import numpy as np

from poise_jax.archive import records
from poise_jax.candidates import fingerprint as fingerprints
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery import sentences
from poise_jax.discovery import yardstick as yardsticks
from poise_jax.discovery.agents import context as context_lib
from poise_jax.discovery.agents import research
from poise_jax.discovery.evidence import pairing, shrinkage
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths
from poise_jax.discovery.parents import nodes, posterior, references, tree
from poise_jax.discovery.proposer import genome as genomes

# What predictions are about.
SIGNALS: tuple[str, ...] = get_args(research.Metric)
_CLEARLY_WORSE = -5.0  # points
_MOST_FORBIDDEN = 24
_REFERENCES = 7  # names a stream of random numbers


# Where nothing else is wanted, a run is worth its Overall.
OVERALL = yardsticks.OVERALL.worth


class Task(NamedTuple):
  """A candidate that is to be proposed.

  Attributes:
    index: of the candidate.
    generation: of the candidate.
    parents: ids, the one to change first; they have been measured.
    worth: what a run is worth to the objective of the campaign.
    noise: of a score from seed to seed.
    seed: of the campaign.
  """

  index: int
  generation: int
  parents: tuple[str, ...]
  worth: worths.Worth = OVERALL
  noise: shrinkage.Noise = shrinkage.Noise(2.5)
  seed: int = 0


def context(campaign: campaign_lib.Campaign, task: Task) -> context_lib.Context:
  """Tells what a proposal is made from.

  A function of what is stored before the candidate of the task alone, so that
  a search that is continued asks the same.
  """
  earlier = [c for c in campaign.candidates if c.index < task.index]
  by_id = {c.id: c for c in earlier}
  first = by_id[task.parents[0]]
  reflections = {
      r.candidate_id: r.text for r in campaign.archive.reflections(campaign.id)
  }
  children = [
      (c, by_id[c.parents[0]], gain(campaign, c, by_id[c.parents[0]], task))
      for c in earlier
      if c.generation and c.parents
  ]
  gaps = {child.id: found for child, _, found in children}
  above = {c.id: c.parents for c in earlier}
  return context_lib.Context(
      label=f"{task.index:03d}",
      index=task.index,
      parent=_parent(campaign, first, by_id, reflections.get(first.id, "")),
      lineage=[
          _ancestor(by_id[known], gaps.get(known), task)
          for known in tree.line(above, first.id)
      ],
      references=_references(campaign, task, by_id),
      effects=_effects(children, task.noise),
      forbidden=[
          _forbidden(campaign, child, parent, found, task)
          for child, parent, found in children
          if child.generation == task.generation
          or _failed(evidence(campaign, child), found)
      ][-_MOST_FORBIDDEN:],
      directive=yardsticks.wanted(task.worth.objective),
      limits=_limits(campaign),
  )


def equations(campaign: campaign_lib.Campaign) -> list[str]:
  """The equations of all ideas that were built."""
  stated = [c.mechanisms.get("equations", "") for c in campaign.candidates]
  return [text for text in stated if text]


def runs(
    campaign: campaign_lib.Campaign, candidate: records.Candidate
) -> list[records.Evaluation]:
  """What agents may see of a candidate's runs, by seed: those of the search."""
  return [
      run
      for run in campaign.at_home(candidate)
      if run.split == context_lib.SEARCH_SPLIT
  ]


def evidence(
    campaign: campaign_lib.Campaign, candidate: records.Candidate
) -> pairing.Evidence:
  """A candidate with all that agents may see, whatever the budget."""
  seen = [
      run
      for run in campaign.evaluations(candidate)
      if run.split == context_lib.SEARCH_SPLIT
      and pairing.base_of(run) == campaign.laboratory.base_sha256
  ]
  return pairing.Evidence(
      candidate.id, candidate.name, candidate.mechanisms, seen
  )


def gap(
    campaign: campaign_lib.Campaign,
    one: records.Candidate,
    other: records.Candidate,
    metric: str,
) -> context_lib.Gap | None:
  """One candidate minus another in a metric, None without a common seed."""
  pairs = _common(campaign, one, other)
  if pairs is None:
    return None
  return _gap(pairing.differences(pairs, metric), 0.0, 0.0)


def gain(
    campaign: campaign_lib.Campaign,
    one: records.Candidate,
    other: records.Candidate,
    task: Task,
) -> context_lib.Gap | None:
  """One candidate minus another in what counts, None without a common seed.

  In points of Overall, whatever the objective is; intervals are moderated by
  the noise of the campaign, as in the race.
  """
  pairs = _common(campaign, one, other)
  if pairs is None:
    return None
  values = [
      task.worth.score(one, mine) - task.worth.score(other, theirs)
      for mine, theirs in zip(pairs.ours, pairs.theirs, strict=True)
  ]
  return _gap(values, task.noise.paired_variance, task.noise.dof)


def _common(
    campaign: campaign_lib.Campaign,
    one: records.Candidate,
    other: records.Candidate,
) -> pairing.Pairs | None:
  if one.id == other.id:
    return None
  return pairing.common_runs(
      *(
          pairing.Evidence(c.id, c.name, c.mechanisms, runs(campaign, c))
          for c in (one, other)
      )
  )


def _gap(
    values: Sequence[float], prior_variance: float, prior_dof: float
) -> context_lib.Gap | None:
  found = pairing.interval(
      values, prior_variance=prior_variance, prior_dof=prior_dof
  )
  return found and context_lib.Gap(
      found.mean, found.low, found.high, len(values)
  )


def _in_words(found: context_lib.Gap, task: Task) -> str:
  plain = task.worth.objective == objectives.DEFAULT
  return f"{'Overall' if plain else 'objective'} {found.words()}"


def _parent(
    campaign: campaign_lib.Campaign,
    first: records.Candidate,
    by_id: Mapping[str, records.Candidate],
    reflection: str,
) -> context_lib.Parent:
  """The candidate to build on, with its numbers."""
  seen = pairing.scored(runs(campaign, first))
  own = by_id.get((*first.parents, "")[0])
  return context_lib.Parent(
      first.id,
      first.name,
      first.source,
      rationale=first.rationale,
      metrics=_means(campaign, first),
      versus_parent={} if own is None else _gaps(campaign, first, own),
      versus_root=_gaps(campaign, first, campaign.candidates[0]),
      curve=seen[0].curve if seen else {},
      reflection=reflection,
      splits=frozenset(run.split for run in seen),
  )


def _means(
    campaign: campaign_lib.Campaign, candidate: records.Candidate
) -> dict[str, float]:
  """Metrics that all scored runs have, averaged; empty without such a run."""
  scored = pairing.scored(runs(campaign, candidate))
  if not scored:
    return {}
  names = set.intersection(*(set(run.metrics) for run in scored))
  return {
      name: float(np.mean([run.metrics[name] for run in scored]))
      for name in sorted(names)
  }


def _gaps(
    campaign: campaign_lib.Campaign,
    one: records.Candidate,
    other: records.Candidate,
) -> dict[str, context_lib.Gap]:
  """All signals that both have, one minus the other."""
  found = {name: gap(campaign, one, other, name) for name in SIGNALS}
  return {name: own for name, own in found.items() if own is not None}


def _ancestor(
    candidate: records.Candidate, found: context_lib.Gap | None, task: Task
) -> context_lib.Ancestor:
  outcome = "the root" if not candidate.parents else "not measured"
  if found is not None:
    outcome = f"{_in_words(found, task)} against its parent"
  return context_lib.Ancestor(candidate.name, candidate.rationale, outcome)


def _references(
    campaign: campaign_lib.Campaign,
    task: Task,
    by_id: Mapping[str, records.Candidate],
) -> list[context_lib.Reference]:
  """Other candidates in tiers, after the other parents of the round."""
  root = campaign.candidates[0]
  tiers = {known: "parent of this round" for known in task.parents[1:]}
  scored = [
      node
      for candidate in by_id.values()
      if (node := _node(campaign, candidate)) is not None
  ]
  if task.parents[0] in [node.id for node in scored]:
    chosen = references.choose(
        scored,
        task.parents[0],
        posterior.of(
            scored,
            task.noise.sd**2,
            task.worth.objective,
            task.worth.scales,
        ),
        np.random.default_rng([task.seed, task.index, _REFERENCES]),
    )
    for reference in chosen:
      tiers.setdefault(reference.id, reference.tier)
  told = []
  for known, tier in tiers.items():
    candidate = by_id[known]
    found = gain(campaign, candidate, root, task)
    outcome = "the root" if candidate is root else "not measured"
    if found is not None:
      outcome = f"{_in_words(found, task)} against the root"
    told.append(
        context_lib.Reference(
            candidate.name, tier, candidate.rationale, outcome
        )
    )
  return told


def _node(
    campaign: campaign_lib.Campaign, candidate: records.Candidate
) -> nodes.Node | None:
  """A candidate as `references` sees it; None if it is no example."""
  means = _means(campaign, candidate)
  if candidate.role not in ("root", "generated") or "overall" not in means:
    return None
  described = candidate.mechanisms.get("genome")
  scored = pairing.scored(runs(campaign, candidate))
  measured = [worths.of_run(candidate, run) for run in scored]
  return nodes.Node(
      id=candidate.id,
      parents=candidate.parents,
      overall=means["overall"],
      seeds=len(scored),
      set_scores={
          name: value
          for name, value in means.items()
          if name.startswith(("accuracy/", "pass_at_k/"))
      },
      genome=described and genomes.from_json(described),
      fingerprint=candidate.fingerprint
      and fingerprints.from_bytes(candidate.fingerprint),
      metrics={
          name: float(np.mean([run[name] for run in measured]))
          for name in measured[0]
      },
  )


_Child = tuple[records.Candidate, records.Candidate, context_lib.Gap | None]


def _effects(
    children: Sequence[_Child], noise: shrinkage.Noise
) -> list[context_lib.Effect]:
  """What candidates with a mechanism gained, against their parents.

  The spread is that of the noise of scores on the seeds behind them.
  """
  seen: dict[str, list[context_lib.Gap]] = {}
  for child, _, found in children:
    for mechanism in _mechanisms(child) if found else ():
      seen.setdefault(mechanism, []).append(found)
  return [
      context_lib.Effect(
          mechanism,
          float(np.mean([own.mean for own in found])),
          float(np.sqrt(sum(noise.paired_variance / g.seeds for g in found)))
          / len(found),
          len(found),
      )
      for mechanism, found in sorted(seen.items())
  ]


def _mechanisms(candidate: records.Candidate) -> list[str]:
  """What is new in a candidate: slots with their choice, or tags."""
  stated = candidate.mechanisms
  if "genome" not in stated:
    return [str(tag) for tag in stated.get("tags", ())]
  choices = genomes.from_json(stated["genome"]).choices
  return [
      f"{slot}={choices[slot]}"
      for slot in stated.get("changed", ())
      if slot in choices
  ]


def _failed(own: pairing.Evidence, found: context_lib.Gap | None) -> bool:
  """Whether a candidate was refused, a twin, broke down, or did much worse."""
  if found is None or found.mean < _CLEARLY_WORSE:
    return True
  return any(map(sentences.fault, own.evaluations))


def _forbidden(
    campaign: campaign_lib.Campaign,
    child: records.Candidate,
    parent: records.Candidate,
    found: context_lib.Gap | None,
    task: Task,
) -> context_lib.Forbidden:
  """Why not to do it again."""
  own, other = evidence(campaign, child), evidence(campaign, parent)
  if not child.accepted and child.findings:
    why = child.findings[0]["message"]
  elif child.generation == task.generation:
    why = "proposed in this round, not measured yet"
  elif found is not None and not any(map(sentences.fault, own.evaluations)):
    why = f"{_in_words(found, task)} against its parent"
  else:
    by_id = {child.id: child, parent.id: parent}
    judge = yardsticks.Yardstick(task.worth, by_id)
    why = sentences.stopped(own, other, judge)
  key = records.sha256(child.fingerprint or child.source)
  return context_lib.Forbidden(key, child.name, child.rationale, why)


def _limits(campaign: campaign_lib.Campaign) -> str:
  """What all candidates are trained with."""
  train = campaign.laboratory.budget.train
  return (
      f"budget {campaign.home.budget}: {train.steps} rollout steps of"
      f" {train.prompts} prompts with {train.group_size} completions each,"
      f" {train.epochs} epochs in {train.minibatches} minibatches, learning"
      f" rate {train.learning_rate:g}"
  )
