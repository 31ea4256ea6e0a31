"""Explains a confirmed candidate: what it needs, and what its effect is not.

    ablation     the smallest program that is not worse, an effect for each part
    confounds    what tuning, step size and cost leave of the effect
    robustness   how it fares where the verifier errs, groups are small ...

Each is a conclusion of the campaign, stored once with its numbers and read back
ever after; what it rests on are trials that are stored one by one. A campaign
that was killed goes on with the first that is missing.
"""

from collections.abc import Callable, Iterator, Mapping
import dataclasses
import functools
from typing import Any

from poise_jax.archive import records, store
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery import confirming
from poise_jax.discovery.dissection import (
    confounds,
    dissecting,
    explanation,
    hardening,
    tuning_fairly,
)

Plan = explanation.Plan

# Stages of the decisions that are stored, by candidate.
ABLATION, CONFOUNDS, ROBUSTNESS = "ablation", "confounds", "robustness"


def explain(
    campaign: campaign_lib.Campaign,
    winner: records.Candidate,
    plan: Plan,
    score: explanation.Score,
    first: int,
) -> int:
  """Explains one winner, at most `plan.trials` trials.

  Args:
    campaign: of the winner; its first candidate is the root.
    winner: an admitted candidate other than the root.
    plan: what was declared, with a budget. Of a winner that was confirmed the
      margin of the ablation is at most half of the effect that was confirmed:
      else the root might pass for no worse than it.
    score: what a run of a candidate is worth, such as `Worth.score`, where
      limits are relative to the root's level in confirmations; see
      `explanation` for where that is not quite right.
    first: index for the first of the variants that are stored: the first after
      all candidates of the search, and for a further winner what this
      returned for the one before.

  Returns:
    The first index after those variants.

  Raises:
    ValueError: if the winner is the root or was not admitted.
  """
  plan = _declared(campaign, winner, plan)
  means = explanation.Means(campaign, score, plan)
  if not winner.accepted or winner.id == means.root.id:
    raise ValueError(
        "`winner` must be an admitted candidate other than the root, got"
        f" {winner.name}"
    )
  parts = {
      ABLATION: (
          plan.ablation_trials,
          lambda: dissecting.dissect(means, winner, first),
      ),
      CONFOUNDS: (
          plan.settings,
          lambda: tuning_fairly.control(means, winner),
      ),
      ROBUSTNESS: (
          plan.conditions and plan.hard_seeds,
          lambda: hardening.harden(means, winner),
      ),
  }

  def conclude(
      stage: str, part: Callable[[], Mapping[str, Any]]
  ) -> Mapping[str, Any]:
    campaign.progress.stage(winner.name, stage)
    return part()

  decided = {
      stage: campaign.decide(
          stage, winner.id, functools.partial(conclude, stage, part)
      )
      for stage, (wanted, part) in parts.items()
      if wanted
  }
  return first + decided.get(ABLATION, {}).get("variants", 0)


def _declared(
    campaign: campaign_lib.Campaign, winner: records.Candidate, plan: Plan
) -> Plan:
  """The plan with the margin for this winner, set before anything is tried."""
  found = campaign.archive.decision(campaign.id, confirming.FIRST, winner.id)
  if found is None:
    return plan
  return dataclasses.replace(
      plan, margin=min(plan.margin, found.data["mean"] / 2)
  )


def at_equal_seconds(
    archive: store.Archive, campaign_id: str, plan: Plan
) -> Iterator[str]:
  """Winners against the root at equal wall-clock, in sentences for a terminal.

  Clocks differ from run to run, so this is told and never stored.

  Args:
    archive: of the campaign.
    campaign_id: its id.
    plan: that winners were explained by.
  """
  config = archive.campaign(campaign_id).config
  root = archive.candidates(campaign_id)[0]
  for decision in archive.decisions(campaign_id, CONFOUNDS):
    runs = (
        archive.evaluations(campaign_id, candidate)
        for candidate in (decision.subject, root.id)
    )
    found = tuning_fairly.at_equal_seconds(plan, config["base_sha256"], *runs)
    if found is not None:
      yield (
          f"{decision.data['name']}:"
          f" {confounds.at_equal('seconds on this machine', found)}"
      )
