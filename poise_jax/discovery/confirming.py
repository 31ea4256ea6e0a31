"""Confirms the finalists of a campaign on what the search never saw.

Fresh seeds, the CONFIRM split, the budget of the protocol. A gain has to be
shown in U, by the terms of the objective alone, and of each constraint that it
is kept. Those confirmed are asked once more from a second base policy, and
scored once on the sealed split: beside the root, for the record and for no
choice, with seeds after those of the confirmation. That one stopped on a high,
and its seeds would carry some of the luck over.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import numpy as np

from poise_jax.archive import records
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery.evidence import breakdown, confirmation
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths
from poise_jax.discovery.trials import trial
from poise_jax.evaluation import statistics
from poise_jax.tasks import arithmetic

# Stages of the decisions that are stored, by candidate.
FIRST, SECOND, SEALED = "confirmation", "second base", "sealed"

# Of a candidate and of the root, with one seed.
_Pair = tuple[records.Evaluation, records.Evaluation]


class Plan(NamedTuple):
  """What is confirmed how.

  Attributes:
    protocol: of confirmations on the base policy of the search.
    second_base: another base policy, asked of what was confirmed; empty for
      none.
    alpha: error probability of all first confirmations together, and again
      of all second ones.
    shares: of alpha, for each finalist in turn.
    sealed_seeds: seeds scored on the sealed split; 0 for none.
  """

  protocol: confirmation.Protocol
  second_base: str
  alpha: float
  shares: tuple[float, ...]
  sealed_seeds: int


def confirm(
    campaign: campaign_lib.Campaign,
    plan: Plan,
    finalists: Sequence[str],
    worth: worths.Worth,
) -> tuple[str, ...]:
  """Confirms finalists, in their order; ids of those that were confirmed.

  What was found is stored: under `FIRST` and `SECOND` the findings, with the
  claim that they support and, where the objective is not Overall alone, what
  became of its metrics in their own units; under `SEALED` the differences to the root,
  their mean and its 95 % interval of Student.
  """
  protocol = plan.protocol
  found = _confirm(campaign, plan, protocol, FIRST, finalists, worth)
  held = confirmation.sealed_due(found)
  if plan.second_base and held:
    other = dataclasses.replace(protocol, base=plan.second_base)
    _confirm(campaign, plan, other, SECOND, held, worth)
  for name in held if plan.sealed_seeds else ():
    _seal(campaign, plan, name, worth)
  return held


def _confirm(
    campaign: campaign_lib.Campaign,
    plan: Plan,
    protocol: confirmation.Protocol,
    stage: str,
    finalists: Sequence[str],
    worth: worths.Worth,
) -> dict[str, confirmation.Finding]:
  """Confirms finalists from one base policy, and stores what was found."""
  by_id = {candidate.id: candidate for candidate in campaign.candidates}
  root = campaign.candidates[0]
  seen: dict[str, list[_Pair]] = {}

  def run(name: str, seeds: tuple[int, ...]) -> confirmation.Measured:
    pairs = _pairs(campaign, by_id[name], seeds, _setting(protocol))
    seen.setdefault(name, []).extend(pairs)
    return _compared(by_id[name], root, pairs, worth)

  found = confirmation.confirm(
      protocol,
      finalists,
      alpha=plan.alpha,
      shares=plan.shares,
      run=run,
      # By the search's runs of the root, so that they are fixed before.
      margins=worth.margins,
  )
  for name, finding in found.items():
    data = finding._asdict() | {
        "verdict": str(finding.verdict),
        "constraints": {
            key: slack._asdict() for key, slack in finding.constraints.items()
        },
        "claim": finding.claim,
        "name": by_id[name].name,
        **worth.provenance,
    }
    if worth.objective.terms != objectives.DEFAULT.terms:
      data["terms"] = _terms(by_id[name], root, seen.get(name, ()), worth)
    campaign.decide(stage, name, lambda data=data: data)
  return found


def _terms(
    candidate: records.Candidate,
    root: records.Candidate,
    pairs: Sequence[_Pair],
    worth: worths.Worth,
) -> dict[str, dict[str, float | None]]:
  """Candidate minus root in each metric that the objective names, and the root.

  Means and 95 % intervals of Student over the seeds on which neither broke
  down, in the metric's own unit: a point of U may be little of it.
  """
  metrics = [
      (worths.of_run(candidate, ours), worths.of_run(root, theirs))
      for ours, theirs in pairs
      if ours.metrics and theirs.metrics
  ]
  names = [term.metric for term in worth.objective.terms]
  names += [limit.metric for limit in worth.objective.constraints]
  found = {}
  for name in dict.fromkeys(names):
    both = [(own[name], other[name]) for own, other in metrics]
    told = _interval([own - other for own, other in both])
    level = float(np.mean([other for _, other in both])) if both else None
    found[name] = told | {"root": level}
  return found


def _pairs(
    campaign: campaign_lib.Campaign,
    candidate: records.Candidate,
    seeds: Sequence[int],
    setting: trial.Setting,
) -> list[_Pair]:
  """Runs of a candidate and the root, seed by seed."""
  root = campaign.candidates[0]
  wanted = [
      trial.Measurement(which, seed, setting)
      for seed in seeds
      for which in (candidate, root)
  ]
  runs = iter(campaign.measure(wanted))
  return list(zip(runs, runs, strict=True))


def worth_of(
    campaign: campaign_lib.Campaign,
    protocol: confirmation.Protocol,
    worth: worths.Worth,
) -> worths.Worth:
  """What runs are worth by the level of the root in its first confirmations.

  Their seeds have been run once a finalist was confirmed.
  """
  root, first = campaign.candidates[0], protocol.first_seed
  runs = campaign.measure(
      [
          trial.Measurement(root, seed, _setting(protocol))
          for seed in range(first, first + protocol.least_seeds)
      ]
  )
  return worth.beside(root, runs)


def _setting(protocol: confirmation.Protocol) -> trial.Setting:
  split = arithmetic.Split[protocol.split.upper()]
  return trial.Setting(protocol.budget, split, protocol.base)


def beside_root(
    campaign: campaign_lib.Campaign,
    candidate: records.Candidate,
    seeds: Sequence[int],
    setting: trial.Setting,
    worth: worths.Worth,
) -> confirmation.Measured:
  """Candidate minus root by seed, and the slack of each constraint.

  Limits relative to the root are relative to its run with the same seed. A
  seed on which either broke down gives neither.
  """
  pairs = _pairs(campaign, candidate, seeds, setting)
  return _compared(candidate, campaign.candidates[0], pairs, worth)


def _compared(
    candidate: records.Candidate,
    root: records.Candidate,
    pairs: Sequence[_Pair],
    worth: worths.Worth,
) -> confirmation.Measured:
  """Differences and slacks of pairs of runs; see `beside_root`."""
  gaps, broken, lost = [], "", ""
  slacks: dict[str, list[float]] = {}
  for ours, theirs in pairs:
    if fault := breakdown.find(ours.reason, ours.curve):
      broken = broken or fault.detail
    elif theirs.outcome == "diverged":
      lost = lost or f"{theirs.reason} with seed {theirs.seed}"
    else:
      gaps.append(worth.gain(candidate, ours) - worth.gain(root, theirs))
      for name, slack in worth.slacks(candidate, ours, root, theirs).items():
        slacks.setdefault(name, []).append(slack)
  return confirmation.Measured(gaps, slacks, broken, lost)


def _seal(
    campaign: campaign_lib.Campaign,
    plan: Plan,
    name: str,
    worth: worths.Worth,
) -> None:
  """Scores a confirmed candidate and the root on the sealed split, once."""
  by_id = {candidate.id: candidate for candidate in campaign.candidates}
  protocol = plan.protocol
  setting = trial.Setting(
      protocol.budget, arithmetic.Split.SEALED, protocol.base
  )
  first = protocol.first_seed + protocol.max_seeds
  seeds = range(first, first + plan.sealed_seeds)

  def conclude() -> Mapping[str, Any]:
    found = beside_root(campaign, by_id[name], seeds, setting, worth)
    return {
        "differences": found.differences,
        **_interval(found.differences),
        "constraints": {k: _interval(own) for k, own in found.slacks.items()},
        "breakdown": found.breakdown,
        "root_breakdown": found.root_breakdown,
        "budget": protocol.budget,
        "base": protocol.base,
        **worth.provenance,
    }

  campaign.decide(SEALED, name, conclude)


def _interval(values: Sequence[float]) -> dict[str, float | None]:
  """Mean and ends of its interval; None where there is none."""
  if not values:
    return {"mean": None, "low": None, "high": None}
  return statistics.mean_interval(values)._asdict()
