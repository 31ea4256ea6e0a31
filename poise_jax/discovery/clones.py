"""Clones of the root: how far apart two measurements of one thing are.

`exact_clone` is the root written differently. With the seed of the root it
must score as the root does, bit for bit, or the measurement depends on more
than its key. `near_clone` is the root times 1.000001: no optimiser can tell
them apart, but rounding can, and once one sampled token differs so does the
rest of the run. Its paired differences show the noise that remains where the
effect is none, with all that common random numbers can do.
"""

from collections.abc import Sequence

import numpy as np

from poise_jax.archive import records
from poise_jax.discovery import admission, canaries
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery.evidence import pairing

EXACT, NEAR = NAMES = ("exact_clone", "near_clone")
_FACTOR = "1.000001"


def draft(name: str, root: str) -> admission.Draft:
  """The clone `name` of the source `root`, to be verified like any other."""
  product = f"value * {_FACTOR}" if name == NEAR else "value"
  source = root.replace("def loss(", "def root_loss(", 1) + (
      "\n\ndef loss(hparams, state, batch):\n"
      "  value, state, metrics = root_loss(hparams, state, batch)\n"
      f"  return {product}, state, metrics\n"
  )
  return admission.Draft(
      name=name,
      role="clone",
      generation=0,
      parents=(),
      source=source,
      mechanisms={},
      rationale=f"The root again: its loss is `{product}`.",
  )


def differences(
    campaign: campaign_lib.Campaign,
    clone: records.Candidate,
    root: records.Candidate,
) -> list[float]:
  """Clone minus root in Overall, seed by seed, at the budget of the search."""
  pairs = pairing.common_runs(
      campaign.evidence(clone),
      campaign.evidence(root),
      prefer=campaign.home.budget,
  )
  return pairing.differences(pairs, "overall") if pairs else []


def check(
    campaign: campaign_lib.Campaign, planted: Sequence[records.Candidate]
) -> None:
  """Compares the clones with the root, and notes what that says.

  Args:
    campaign: in which they were measured.
    planted: root and clones, among others.

  Raises:
    canaries.CanaryError: if the exact clone differs from the root in any
      metric.
  """
  by_name = {candidate.name: candidate for candidate in planted}
  root = planted[0]
  exact, near = by_name[EXACT], by_name[NEAR]
  if {exact.id, near.id} <= campaign.noted():
    return
  campaign.progress.stage("clones", "check")
  pairs = pairing.common_runs(campaign.evidence(exact), campaign.evidence(root))
  for ours, theirs in zip(pairs.ours, pairs.theirs, strict=True):
    names = sorted(
        n for n in theirs.metrics if ours.metrics[n] != theirs.metrics[n]
    )
    if names:
      raise canaries.CanaryError(
          f"exact_clone must score as {root.name} does, but differs in"
          f" {', '.join(names)} with seed {ours.seed}: a trial depends on more"
          " than its key, no comparison can be trusted"
      )
  campaign.note(
      exact,
      f"Scores as {root.name} with the same seed, bit for bit: a trial is a"
      " function of its key.",
      {"seeds": list(pairs.seeds)},
  )
  gaps = differences(campaign, near, root)
  spread = float(np.std(gaps, ddof=1)) if len(gaps) > 1 else None
  told = "" if spread is None else f", standard deviation {spread:.2f}"
  campaign.note(
      near,
      f"Differs from {root.name} by rounding alone: paired differences in"
      f" Overall {', '.join(f'{gap:+.2f}' for gap in gaps)}{told}. Nothing"
      " smaller can be told from noise with as many seeds.",
      {"differences": gaps, "sd": spread},
  )
