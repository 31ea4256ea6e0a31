"""How a candidate does against the root where conditions get worse.

A plan names conditions along axes: one thing changes at a time, the others stay
as they are. What is compared is the area under the curve of the score over each
axis, pair by pair.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import numpy as np

from poise_jax.evaluation import statistics
from poise_jax.training import config as config_lib


@dataclasses.dataclass(frozen=True)
class Condition:
  """Under what a policy is trained; scores are always clean.

  Attributes:
    false_positive: share of wrong answers that are rewarded.
    false_negative: share of right answers that are not.
    group_size: completions of a prompt.
    lag: rollouts that the sampling policy is behind.
    completion_length: most tokens of a completion.
    base: the policy to start from.
  """

  false_positive: float
  false_negative: float
  group_size: int
  lag: int
  completion_length: int
  base: str


class Axis(NamedTuple):
  """Conditions that differ in one thing.

  Attributes:
    field: of `Condition`.
    values: of it, at least two, in order.
    position: where a value lies on the axis; None where values have no order,
      such as base policies, which then count alike.
  """

  field: str
  values: tuple[Any, ...]
  position: Callable[[Any], float] | None = float


def conditions(
    nominal: Condition, along: Sequence[Axis]
) -> tuple[Condition, ...]:
  """All conditions of some axes, each once, the nominal first."""
  found = dict.fromkeys([nominal])
  for axis in along:
    found |= dict.fromkeys(_points(nominal, axis))
  return tuple(found)


def _points(nominal: Condition, axis: Axis) -> list[Condition]:
  return [
      dataclasses.replace(nominal, **{axis.field: value})
      for value in axis.values
  ]


def train_config(
    condition: Condition, usual: config_lib.TrainConfig
) -> config_lib.TrainConfig:
  """How to train under a condition, as far as `TrainConfig` can say it.

  A rollout keeps its number of completions where the minibatches allow it;
  else it has the nearest number of prompts that they do allow, one a minibatch
  at least. `lag` and the error rates are not of `TrainConfig`.
  """
  parts = usual.minibatches
  completions = usual.prompts * usual.group_size
  prompts = parts * max(round(completions / condition.group_size / parts), 1)
  return dataclasses.replace(
      usual,
      prompts=prompts,
      group_size=condition.group_size,
      completion_length=condition.completion_length,
  )


class Scores(NamedTuple):
  """Scores of child and root under one condition, a pair of numbers a seed.

  A run that broke down has the lowest score there is.
  """

  child: tuple[float, ...]
  root: tuple[float, ...]


class Along(NamedTuple):
  """Child against root along one axis.

  Attributes:
    axis: what changes.
    differences: child minus root at each value, with 95 % intervals that hold
      for each by itself.
    child: mean area under its curve.
    root: likewise.
    area: child minus root in the area, with an interval for all axes at once.
    loss: how much more the child loses than the root from the nominal value to
      the mean over the axis; below 0 it is the hardier one. Likewise.
  """

  axis: Axis
  differences: tuple[statistics.Interval, ...]
  child: float
  root: float
  area: statistics.Interval
  loss: statistics.Interval


def area(axis: Axis, scores: Sequence[float]) -> float:
  """Mean height of the score over an axis, by the trapezoidal rule.

  ∫ s dx / (x_last - x_first);  the plain mean where values have no order
  """
  if axis.position is None:
    return float(np.mean(scores))
  x = np.array([axis.position(value) for value in axis.values])
  return float(np.trapezoid(scores, x) / (x[-1] - x[0]))


def compare(
    nominal: Condition,
    along: Sequence[Axis],
    measured: Mapping[Condition, Scores],
    *,
    confidence: float = 0.95,
) -> tuple[Along, ...]:
  """Compares child and root along each axis.

  Args:
    nominal: the usual condition.
    along: the axes.
    measured: scores under all of `conditions`, with the same seeds in the same
      order everywhere.
    confidence: coverage over all axes together (Bonferroni).

  Raises:
    ValueError: if a condition is missing, numbers of seeds differ, or values
      of an axis are too few or do not rise.
  """
  counts = {len(side) for scores in measured.values() for side in scores}
  if len(counts) != 1 or 0 in counts:
    raise ValueError(
        "`measured` must have the same seeds under all conditions, got"
        f" {sorted(counts)} of them"
    )
  return tuple(
      _along(nominal, axis, measured, 1 - (1 - confidence) / len(along))
      for axis in along
  )


def _along(
    nominal: Condition,
    axis: Axis,
    measured: Mapping[Condition, Scores],
    confidence: float,
) -> Along:
  """One axis."""
  _check(axis)
  points = [nominal, *_points(nominal, axis)]
  if missing := [point for point in points if point not in measured]:
    raise ValueError(f"`measured` must have {missing[0]}; measure it first")
  usual, *on_axis = [measured[point] for point in points]
  # [values, seeds]
  child = np.array([scores.child for scores in on_axis])
  root = np.array([scores.root for scores in on_axis])
  areas = np.array(
      [[area(axis, seed) for seed in side.T.tolist()] for side in (child, root)]
  )
  gap = areas[0] - areas[1]
  at_rest = np.array(usual.child) - np.array(usual.root)
  interval = lambda x: statistics.mean_interval(
      x.tolist(), confidence=confidence
  )
  return Along(
      axis=axis,
      differences=tuple(
          statistics.mean_interval(row.tolist()) for row in child - root
      ),
      child=float(areas[0].mean()),
      root=float(areas[1].mean()),
      area=interval(gap),
      loss=interval(at_rest - gap),
  )


def _check(axis: Axis) -> None:
  x = [
      axis.position(v) if axis.position else i
      for i, v in enumerate(axis.values)
  ]
  if len(x) < 2 or any(b <= a for a, b in zip(x[:-1], x[1:], strict=True)):
    raise ValueError(
        f"`values` of {axis.field} must be at least two that rise, got"
        f" {axis.values}"
    )


def sentences(found: Sequence[Along]) -> Iterator[str]:
  """What was found, for people, an axis a sentence."""
  for along in found:
    low, high = along.area.low, along.area.high
    name = along.axis.field.replace("_", " ")
    span = f"{along.axis.values[0]} to {along.axis.values[-1]}"
    about = f"over {name} {span}: {along.child:.1f} against {along.root:.1f}"
    if low is None or high is None:
      yield f"One seed alone says nothing {about}."
      continue
    size = f"{along.area.mean:+.1f} [{low:+.1f}, {high:+.1f}]"
    if low > 0:
      yield f"Better {about}, {size}."
    elif high < 0:
      yield f"Worse {about}, {size}."
    else:
      yield f"No difference shown {about}, {size}."
