"""Tunes a winner and the root alike: `confounds` with the campaign's trials."""

from collections.abc import Mapping, Sequence
import math
from typing import Any

from poise_jax.archive import records
from poise_jax.discovery.dissection import (
    confounds,
    equal_cost,
    explanation,
    fair_tuning,
)
from poise_jax.discovery.evidence import pairing
from poise_jax.discovery.proposer import constants as knobs
from poise_jax.discovery.trials import trial
from poise_jax.discovery.trials import variation as variations

_TINY = 1e-3  # constants below it guard a division


def control(
    means: explanation.Means, winner: records.Candidate
) -> Mapping[str, Any]:
  """What tuning, step size and cost leave of the effect of a winner.

  Returns:
    What `confounds.control` found, JSON-like, with `sentences`. Equal seconds
    are not in it, as clocks differ from run to run; see `at_equal_seconds`.
  """
  plan, root = means.plan, means.root
  designs = {
      candidate.id: _design(candidate, root, plan.settings)
      for candidate in (winner, root)
  }
  # Side by side; what follows reads them back one by one.
  seeds = plan.chosen_by(plan.tuning_seeds)
  means.measured(
      [
          _wanted(means, candidate, setting, seed)
          for i in range(plan.settings)
          for seed in seeds
          for candidate in (winner, root)
          for setting in [designs[candidate.id][i]]
      ]
      + _as_they_are(means, winner)
  )
  found = confounds.control(
      *(_arm(means, c, designs[c.id]) for c in (winner, root)),
      tuning_seeds=seeds,
      fresh_seeds=plan.fresh(plan.fresh_seeds),
  )
  return explanation.as_json(found) | {
      "name": winner.name,
      "budget": plan.budget,
      "sentences": [
          f"Tuned beside the root {means.where}: {plan.settings} settings of"
          f" each, compared on {plan.fresh_seeds} fresh seeds.",
          *confounds.sentences(found),
      ],
  }


def at_equal_seconds(
    plan: explanation.Plan,
    base_sha256: str,
    winner: Sequence[records.Evaluation],
    root: Sequence[records.Evaluation],
) -> equal_cost.EqualCost | None:
  """Winner against root where both have trained for as long by the clock.

  Of the untuned runs of `control`, by the clock of the machine that made them;
  to be shown, and never stored. Scoring counts, as it does in both.

  Args:
    plan: that `control` followed.
    base_sha256: of the base policy of the search.
    winner: all its stored runs.
    root: likewise.

  Returns:
    None if curves do not say, or the runs are not there.
  """
  name = variations.Variation(plan.budget).name
  children, roots = (
      {
          run.seed: _timed(run)
          for run in runs
          if (run.budget, run.split) == (name, "confirm")
          and pairing.base_of(run) == base_sha256
      }
      for runs in (winner, root)
  )
  seeds = [
      seed
      for seed in plan.fresh(plan.fresh_seeds)
      if seed in children and seed in roots
  ]
  return equal_cost.compare(
      [children[seed] for seed in seeds],
      [roots[seed] for seed in seeds],
      equal_cost.seconds,
  )


def _timed(run: records.Evaluation) -> equal_cost.Run:
  """A stored run with its clock; curves are compared, so it has no score."""
  taken = (run.finished_at - run.started_at).total_seconds()
  return equal_cost.Run(math.nan, run.reason, run.curve, taken)


def _as_they_are(
    means: explanation.Means, winner: records.Candidate
) -> list[trial.Measurement]:
  """Winner and root in turn, untuned, on fresh seeds."""
  return [
      means.wanted(candidate, seed)
      for seed in means.plan.fresh(means.plan.fresh_seeds)
      for candidate in (winner, means.root)
  ]


def _wanted(
    means: explanation.Means,
    candidate: records.Candidate,
    setting: fair_tuning.Setting,
    seed: int,
) -> trial.Measurement:
  return means.wanted(
      candidate, seed, rate=setting.rate, constants=setting.changes
  )


def _design(
    candidate: records.Candidate, root: records.Candidate, settings: int
) -> tuple[fair_tuning.Setting, ...]:
  """Settings to try: of constants those first that the root has not."""
  values = candidate.hparams
  order = sorted(
      values,
      key=lambda name: (
          abs(values[name]) < _TINY,
          values[name] == root.hparams.get(name),
          name,
      ),
  )
  ranges = {
      name: (about.low, about.high) for name, about in knobs.CONSTANTS.items()
  }
  return fair_tuning.design(
      {name: values[name] for name in order}, ranges, settings=settings
  )


def _arm(
    means: explanation.Means,
    candidate: records.Candidate,
    settings: tuple[fair_tuning.Setting, ...],
) -> confounds.Arm:
  """A candidate to be tuned."""

  def run(setting: fair_tuning.Setting, seed: int) -> equal_cost.Run:
    return means.measured([_wanted(means, candidate, setting, seed)])[0]

  def confirm(setting: fair_tuning.Setting, seed: int) -> equal_cost.Run:
    seeds: Sequence[int] = means.plan.fresh(means.plan.fresh_seeds)
    want = [_wanted(means, candidate, setting, s) for s in seeds]
    return means.measured(want)[seeds.index(seed)]

  return confounds.Arm(
      name=candidate.id,
      settings=settings,
      tune=run,
      confirm=confirm,
      gradient_scale=candidate.intrinsic.get("gradient_scale"),
  )
