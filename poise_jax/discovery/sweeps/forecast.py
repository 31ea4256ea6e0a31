"""What a sweep will take and what it could find, before it begins."""

from collections.abc import Mapping, Sequence
import math
from typing import NamedTuple

import numpy as np

from poise_jax.archive import store
from poise_jax.discovery.sweeps import sweep as sweep_lib
from poise_jax.discovery.sweeps import table
from poise_jax.discovery.trials import budgets
from poise_jax.evaluation import statistics, suite
from poise_jax.tasks import arithmetic

# Measured on one core of an AMD EPYC with the shipped policy, jax 0.10.2.
_TRAINED_S = 8.1e-4  # a completion sampled, or gone through in one epoch
_SCORED_S = 3.7e-4  # a completion of the suite
_COMPILED_S = 25.0  # all programs of one budget
# Paired differences in Overall over seeds, of losses that work.
_USUAL_SD = 3.0


class Forecast(NamedTuple):
  """What is to be expected.

  Attributes:
    cells: in all.
    missing: those that must be run.
    seconds: of one core for those.
    measured: whether that rests on cells of the archive; else on a rule.
    sd: of paired differences between seeds, assumed or seen.
    seen: whether it was seen in the archive.
    detectable: smallest difference from the baseline that would be found with
      a chance of 80 %, corrected for the number of tests; None with one seed
      or one configuration.
  """

  cells: int
  missing: int
  seconds: float
  measured: bool
  sd: float
  seen: bool
  detectable: float | None


def forecast(
    cells: Sequence[sweep_lib.Cell], archive: store.Archive | None
) -> Forecast:
  """Says what a sweep will take; runs nothing.

  Args:
    cells: from `sweep.plan`.
    archive: that it will be kept in; None if there is none yet.
  """
  ids = {cell.id: cell for cell in cells}
  found = {key: archive.evaluation(key) if archive else None for key in ids}
  missing = [cell for key, cell in ids.items() if found[key] is None]
  known: dict[budgets.Budget, list[float]] = {}
  for key, run in found.items():
    if run is not None:
      elapsed = (run.finished_at - run.started_at).total_seconds()
      known.setdefault(ids[key].config.budget, []).append(elapsed)
  per_cell = lambda budget: (
      float(np.median(known[budget])) if budget in known else rule(budget)
  )
  new = {cell.config.budget for cell in missing}
  seconds = math.fsum(per_cell(cell.config.budget) for cell in missing)
  names = dict.fromkeys(cell.config.name for cell in cells)
  seeds = len(cells) // len(names)
  sd = _seen_sd(
      [
          (cell.config.name, cell.seed, found[cell.id].metrics["overall"])
          for cell in cells
          if (run := found[cell.id]) is not None and run.outcome == "scored"
      ]
  )
  return Forecast(
      cells=len(cells),
      missing=len(missing),
      seconds=seconds + _COMPILED_S * len(new),
      measured=bool(new) and new <= known.keys(),
      sd=sd or _USUAL_SD,
      seen=sd is not None,
      detectable=_detectable(sd or _USUAL_SD, seeds, len(names) - 1),
  )


def rule(budget: budgets.Budget) -> float:
  """Seconds of one core that a cell takes, by a rule of thumb."""
  train, scored = budget.train, budget.evaluate
  trained = train.steps * train.prompts * train.group_size * (1 + train.epochs)
  sampled = [s.metric == "pass_at_k" for s in arithmetic.SUITE]
  asked = suite.SAMPLES * scored.sampled_problems * sum(sampled)
  asked += scored.greedy_problems * (len(sampled) - sum(sampled))
  return _TRAINED_S * trained + _SCORED_S * asked


def _seen_sd(scores: Sequence[tuple[str, int, float]]) -> float | None:
  """Spread of paired differences from the first configuration."""
  by_name: dict[str, dict[int, float]] = {}
  for name, seed, score in scores:
    by_name.setdefault(name, {})[seed] = score
  first, *others = by_name.values() or [{}]
  gaps = [[v[s] - first[s] for s in v if s in first] for v in others]
  variance, dof = statistics.pooled_variance(gaps)
  return math.sqrt(variance) if dof >= 4 and variance > 0 else None


def _detectable(sd: float, seeds: int, tests: int) -> float | None:
  if seeds < 2 or tests < 1:
    return None
  dof = table.prior_dof(tests, seeds) + seeds - 1
  return table.detectable(sd / math.sqrt(seeds), dof, tests)


def sentences(
    found: Forecast, *, workers: int, axes: Mapping[str, int]
) -> list[str]:
  """Says it in words.

  Args:
    found: the forecast.
    workers: cells run at once.
    axes: name -> how many values, for the first sentence.
  """
  product = " x ".join(f"{count} {name}" for name, count in axes.items())
  minutes = found.seconds / workers / 60
  basis = "as measured here" if found.measured else "a rule of thumb"
  told = [
      f"{found.cells} cells ({product}), {found.missing} of them still to be"
      f" run: about {minutes:.0f} minutes with {workers} at once ({basis})."
  ]
  if found.detectable is None:
    told.append("Too little to test anything: add seeds or configurations.")
  else:
    basis = "as seen so far" if found.seen else "assumed"
    told.append(
        "Smallest difference in Overall that would be found, four times in"
        f" five, corrected for the number of tests: {found.detectable:.1f}"
        " points (standard deviation of paired differences"
        f" {found.sd:.1f}, {basis})."
    )
  return told
