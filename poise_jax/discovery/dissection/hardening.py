"""Trains a winner and the root where it is harder: `robustness` in a campaign."""

from collections.abc import Mapping
import math
from typing import Any

from poise_jax.archive import records
from poise_jax.discovery.dissection import explanation
from poise_jax.discovery.trials import budgets, robustness, trial


def harden(
    means: explanation.Means, winner: records.Candidate
) -> Mapping[str, Any]:
  """How a winner does against the root along each axis of hard conditions.

  Scores are always those of clean problems at the usual length and group.

  Returns:
    What `robustness.compare` found, JSON-like: `axes`, with `field`, `values`
    and the intervals of `robustness.Along`; and `sentences`.
  """
  plan = means.plan
  nominal = _nominal(means)
  along = axes(plan, nominal)
  conditions = robustness.conditions(nominal, along)
  pair = (winner, means.root)
  seeds = plan.fresh(plan.hard_seeds)
  wanted = [
      _wanted(means, candidate, condition, nominal, seed)
      for condition in conditions
      for seed in seeds
      for candidate in pair
  ]
  scores = iter([run.score for run in means.measured(wanted)])
  measured = {}
  for condition in conditions:
    sides = zip(*[(next(scores), next(scores)) for _ in seeds], strict=True)
    measured[condition] = robustness.Scores(*sides)
  found = robustness.compare(nominal, along, measured)
  return {
      "name": winner.name,
      "budget": plan.budget,
      "axes": [_as_json(item) for item in found],
      "scores": [
          {"condition": explanation.as_json(c)} | explanation.as_json(s)
          for c, s in measured.items()
      ],
      "sentences": [
          f"Trained where it is harder, else {means.where}:"
          f" {plan.hard_seeds} seeds of each condition.",
          *robustness.sentences(found),
      ],
  }


def axes(
    plan: explanation.Plan, nominal: robustness.Condition
) -> tuple[robustness.Axis, ...]:
  """The axes of a plan; the nominal value lies on each."""
  longest = nominal.completion_length
  lengths = [math.ceil(longest * share) for share in plan.lengths]
  found = [
      robustness.Axis("false_positive", plan.false_positive),
      robustness.Axis("false_negative", plan.false_negative),
      robustness.Axis("group_size", plan.group_sizes, math.log2),
      robustness.Axis("lag", plan.lags),
      robustness.Axis("completion_length", tuple(lengths)),
      robustness.Axis("base", plan.bases, None),
  ]
  return tuple(
      axis._replace(values=values)
      for axis in found
      if len(values := _with_nominal(axis, nominal)) > 1
  )


def _with_nominal(
    axis: robustness.Axis, nominal: robustness.Condition
) -> tuple[Any, ...]:
  values = dict.fromkeys([getattr(nominal, axis.field), *axis.values])
  return tuple(sorted(values) if axis.position else values)


def _nominal(means: explanation.Means) -> robustness.Condition:
  train = budgets.named(means.plan.budget).train
  return robustness.Condition(
      false_positive=0.0,
      false_negative=0.0,
      group_size=train.group_size,
      lag=0,
      completion_length=train.completion_length,
      base=means.campaign.home.base,
  )


def _wanted(
    means: explanation.Means,
    candidate: records.Candidate,
    condition: robustness.Condition,
    nominal: robustness.Condition,
    seed: int,
) -> trial.Measurement:
  """A trial with what is not nominal."""
  values = vars(condition)
  usual = vars(nominal)
  changes = {k: v for k, v in values.items() if k != "base" and v != usual[k]}
  return means.wanted(candidate, seed, condition.base, **changes)


def _as_json(along: robustness.Along) -> dict[str, Any]:
  rest = along._asdict()
  axis = rest.pop("axis")
  told = {"field": axis.field, "values": list(axis.values)}
  return told | explanation.as_json(rest)
