"""Explains a confirmed candidate: what it needs, and what its effect is not.

    ablation     the smallest program that is not worse, an effect for each part
    confounds    what tuning, step size and cost leave of the effect
    robustness   how it fares where the verifier errs, groups are small ...

Each is a conclusion of the campaign, stored once with its numbers and read back
ever after; what it rests on are trials that are stored one by one. A campaign
that was killed goes on with the first that is missing.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Any

from poise_jax.archive import records
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery.dissection import (
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
    plan: what was declared.
    score: what a run of a candidate is worth, such as `Worth.score`.
    first: index for the first of the variants that are stored: the first after
      all candidates of the search, and for a further winner what this
      returned for the one before.

  Returns:
    The first index after those variants.

  Raises:
    ValueError: if the winner is the root or was not admitted.
  """
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
