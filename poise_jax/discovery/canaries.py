"""Losses that cannot work, measured first: if they score, the scores lie.

`zero_gradient` must leave the base policy exactly as it is, so its scores must
equal the base policy's to the last bit. `sign_flipped` makes right answers
less likely, so it must score below the base and below the root.
"""

from collections.abc import Sequence

import numpy as np

from poise_jax.algorithms import catalog
from poise_jax.archive import records
from poise_jax.discovery import admission
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.tasks import arithmetic

NAMES = ("zero_gradient", "sign_flipped")


class CanaryError(RuntimeError):
  """The evaluator is broken: a loss that cannot work did not score as it must."""


def draft(name: str) -> admission.Draft:
  """The canary `name`, to be verified like any candidate."""
  return admission.Draft(
      name=name,
      role="canary",
      generation=0,
      parents=(),
      source=catalog.source(name),
      mechanisms={},
      rationale=catalog.describe(name).title,
  )


def _mean_overall(runs: Sequence[records.Evaluation]) -> float:
  """Mean Overall; a run that diverged counts as 0, the least there is."""
  return float(np.mean([run.metrics.get("overall", 0.0) for run in runs]))


def _check_unmoved(
    campaign: campaign_lib.Campaign, run: records.Evaluation
) -> None:
  """Compares one run of `zero_gradient` with the base policy, bit for bit."""
  base = campaign.laboratory.score_base(arithmetic.Split.SEARCH, run.seed)
  moved = sorted(n for n, value in base.items() if run.metrics.get(n) != value)
  if moved:
    raise CanaryError(
        "zero_gradient must score as the base policy does, but differs in"
        f" {', '.join(moved)} with seed {run.seed}; the evaluator is broken,"
        " no score can be trusted"
    )


def check(
    campaign: campaign_lib.Campaign, planted: Sequence[records.Candidate]
) -> None:
  """Compares the canaries with the base policy and the root, and notes it.

  Args:
    campaign: in which they were evaluated.
    planted: root and canaries, among others.

  Raises:
    CanaryError: if a canary does not score as it must.
    ValueError: if the root diverged.
  """
  by_name = {candidate.name: candidate for candidate in planted}
  zero, flipped = (by_name[name] for name in NAMES)
  if {zero.id, flipped.id} <= campaign.noted():
    return
  campaign.progress.stage("canaries", "check")
  zero_runs = campaign.evaluations(zero)
  for run in zero_runs:
    _check_unmoved(campaign, run)
  at_rest = _mean_overall(zero_runs)
  root_runs = campaign.evaluations(planted[0])
  if broken := [run.reason for run in root_runs if run.outcome == "diverged"]:
    raise ValueError(
        f"the root {planted[0].name} diverged ({broken[0]}), so there is"
        " nothing to compare with; choose another root, base or budget"
    )
  root = _mean_overall(root_runs)
  wrong_way = _mean_overall(campaign.evaluations(flipped))
  if wrong_way >= min(at_rest, root):
    raise CanaryError(
        f"sign_flipped scored {wrong_way:.1f}, not below the base policy"
        f" ({at_rest:.1f}) and the root ({root:.1f}); the evaluator is broken,"
        " no score can be trusted"
    )
  campaign.note(
      zero,
      f"Scores as the base policy, bit for bit ({at_rest:.1f}): training"
      " changes nothing unless the loss does.",
      {"base_overall": at_rest, "overall": at_rest},
  )
  campaign.note(
      flipped,
      f"Scores {wrong_way:.1f}, below the base policy ({at_rest:.1f}) and the"
      f" root ({root:.1f}): the sign of the loss reaches the score.",
      {"overall": wrong_way, "base_overall": at_rest, "root_overall": root},
  )
