"""Is it the algorithm? What tuning, step size and cost leave of an effect.

A child may win because its constants suit the learning rate, because its steps
are longer, or because it samples more. So child and root get the same small
tuning budget; the root is run at the learning rate that moves the policy as far
as the child moves it; and both are read at equal cost.
"""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import math
from typing import NamedTuple

import numpy as np

from poise_jax.discovery.dissection import equal_cost, fair_tuning
from poise_jax.evaluation import statistics


@dataclasses.dataclass(frozen=True)
class Arm:
  """One of two that are compared.

  Attributes:
    name: of the algorithm.
    settings: to be tried, from `fair_tuning.design`, as many as of the other arm.
    tune: trains on seeds and problems of the search.
    confirm: trains, and scores on problems that no choice was made with.
    gradient_scale: length of its steps relative to GRPO's, before the
      optimizer; None if unknown.
  """

  name: str
  settings: tuple[fair_tuning.Setting, ...]
  tune: fair_tuning.TrainFn
  confirm: fair_tuning.TrainFn
  gradient_scale: float | None = None


def travel(run: equal_cost.Run) -> float | None:
  """How far a run moved the policy: its KL to the base policy, in nats.

  Returns:
    A mean over the last quarter of the run, above 0; None if it does not say.
  """
  values = run.curve.get("kl", ())
  if not values or run.diverged:
    return None
  mean = float(np.mean(values[-max(len(values) // 4, 1) :]))
  return mean if math.isfinite(mean) and mean > 0 else None


class StepSize(NamedTuple):
  """The root at the learning rate that moves the policy as far as the child.

  `explained` and `left` add up to the whole effect, seed by seed.

  Attributes:
    rate: factor on the learning rate.
    child_travel: how far the child moved it, a geometric mean over seeds.
    root_travel: how far the root did at its own learning rate.
    matched_travel: how far the root did at the matched one.
    explained: root at the matched rate minus root.
    left: child minus root at the matched rate.
  """

  rate: float
  child_travel: float
  root_travel: float | None
  matched_travel: float | None
  explained: statistics.Interval
  left: statistics.Interval


@dataclasses.dataclass(frozen=True)
class Confounds:
  """What is left of an effect.

  Attributes:
    untuned: child minus root, both as they are.
    tuned: child minus root, each at its best setting.
    child_setting: that setting.
    root_setting: that of the root.
    root_gain: what tuning gave the root on fresh seeds.
    step_size: None if the root does not move the policy as far at any learning
      rate of the design, or curves do not say how far.
    equal: results at equal cost, of the runs as they are, by the cost.
    gradient_scale: of child and root, relative to GRPO.
    trainings: made.
  """

  untuned: statistics.Interval
  tuned: statistics.Interval
  child_setting: fair_tuning.Setting
  root_setting: fair_tuning.Setting
  root_gain: statistics.Interval
  step_size: StepSize | None
  equal: Mapping[str, equal_cost.EqualCost]
  gradient_scale: tuple[float | None, float | None]
  trainings: int


def control(
    child: Arm,
    root: Arm,
    *,
    tuning_seeds: Sequence[int],
    fresh_seeds: Sequence[int],
) -> Confounds:
  """Tunes both alike, matches their step sizes, and compares on fresh seeds.

  Args:
    child: the confirmed candidate.
    root: what it is compared with.
    tuning_seeds: that settings are chosen by.
    fresh_seeds: that they are compared with, two at least for intervals.

  Raises:
    ValueError: if the arms have different numbers of settings or not the
      default first, or seeds are used twice.
  """
  _check(child, root, tuning_seeds, fresh_seeds)
  of_child = fair_tuning.tune(child.tune, child.settings, tuning_seeds)
  of_root = fair_tuning.tune(root.tune, root.settings, tuning_seeds)
  known: dict[tuple[str, fair_tuning.Setting], list[equal_cost.Run]] = {}

  def fresh(arm: Arm, setting: fair_tuning.Setting) -> list[equal_cost.Run]:
    key = (arm.name, setting)
    if key not in known:
      known[key] = [arm.confirm(setting, seed) for seed in fresh_seeds]
    return known[key]

  plain = [fresh(arm, fair_tuning.DEFAULT) for arm in (child, root)]
  best_child = fresh(child, of_child.best)
  best_root = fresh(root, of_root.best)
  step_size = None
  rate = matching_rate(of_child, of_root)
  if rate is not None:
    matched = fresh(root, fair_tuning.Setting(rate))
    step_size = StepSize(
        rate=rate,
        child_travel=_mean_travel(of_child.runs[fair_tuning.DEFAULT]),
        root_travel=_mean_travel(of_root.runs[fair_tuning.DEFAULT]),
        matched_travel=_mean_travel(matched),
        explained=_gap(matched, plain[1]),
        left=_gap(plain[0], matched),
    )
  equal = {
      name: found
      for name, cost in equal_cost.COSTS.items()
      if (found := equal_cost.compare(*plain, cost)) is not None
  }
  made = len(child.settings) + len(root.settings)
  return Confounds(
      untuned=_gap(*plain),
      tuned=_gap(best_child, best_root),
      child_setting=of_child.best,
      root_setting=of_root.best,
      root_gain=_gap(best_root, plain[1]),
      step_size=step_size,
      equal=equal,
      gradient_scale=(child.gradient_scale, root.gradient_scale),
      trainings=made * len(tuning_seeds) + len(known) * len(fresh_seeds),
  )


def _check(
    child: Arm, root: Arm, tuning_seeds: Sequence[int], fresh: Sequence[int]
) -> None:
  if len(child.settings) != len(root.settings):
    raise ValueError(
        "`settings` must be as many for both arms, got"
        f" {len(child.settings)} and {len(root.settings)}"
    )
  for arm in (child, root):
    if arm.settings[:1] != (fair_tuning.DEFAULT,):
      raise ValueError(
          f"`settings` of {arm.name} must begin with the default, got"
          f" {arm.settings[:1]}"
      )
  if child.name == root.name:
    raise ValueError(f"`child` and `root` must differ, got {child.name} twice")
  if both := sorted(set(tuning_seeds) & set(fresh)):
    raise ValueError(
        f"`fresh_seeds` must not be among `tuning_seeds`, got {both} in both"
    )


def matching_rate(
    child: fair_tuning.Tuned, root: fair_tuning.Tuned
) -> float | None:
  """Learning rate at which the root moves the policy as far as the child.

  log travel of the root is interpolated linearly in the log of the rate.

  Args:
    child: runs of the child, the default setting among them.
    root: runs of the root at several learning rates.

  Returns:
    The factor on the learning rate; None if it lies outside of those tried.
    With several, as where travel is not monotone, the one closest to 1.
  """
  goal = _mean_travel(child.runs[fair_tuning.DEFAULT])
  points = sorted(
      (math.log(setting.rate), math.log(found))
      for setting, runs in root.runs.items()
      if not setting.changes and (found := _mean_travel(runs))
  )
  if goal is None:
    return None
  crossings = []
  for (x, y), (next_x, next_y) in zip(points[:-1], points[1:], strict=True):
    if y != next_y and min(y, next_y) <= math.log(goal) <= max(y, next_y):
      share = (math.log(goal) - y) / (next_y - y)
      crossings.append(x + share * (next_x - x))
  return math.exp(min(crossings, key=abs)) if crossings else None


def _mean_travel(
    runs: Sequence[equal_cost.Run],
) -> float | None:
  """Geometric mean over seeds; None if one of them does not say."""
  found = [travel(run) for run in runs]
  if not found or None in found:
    return None
  return float(np.exp(np.mean(np.log(found))))


def _gap(
    new: Sequence[equal_cost.Run], old: Sequence[equal_cost.Run]
) -> statistics.Interval:
  """Interval of new minus old, seed by seed."""
  pairs = zip(new, old, strict=True)
  return statistics.mean_interval([a.score - b.score for a, b in pairs])


def sentences(found: Confounds) -> Iterator[str]:
  """What was found, for people."""
  yield f"As they are: {_text(found.untuned)}."
  words = "holds" if _above(found.tuned) else "is not shown to hold"
  yield (
      f"Both tuned: {_text(found.tuned)}, child at {_setting(found.child_setting)},"
      f" root at {_setting(found.root_setting)}; the effect {words} against a"
      " tuned root."
  )
  step = found.step_size
  if step is None:
    yield (
        "Step size: the root moves the policy as far as the child does at none"
        " of the learning rates tried, so nothing can be said."
    )
  else:
    yield (
        f"Step size: at {step.rate:.2f} times its learning rate the root moves"
        f" the policy as far as the child; that explains"
        f" {_text(step.explained)}, and leaves {_text(step.left)}."
    )
  for name, equal in found.equal.items():
    yield at_equal(name, equal)
  child, root = found.gradient_scale
  if child is not None and root is not None:
    yield (
        f"Gradients before the optimizer are {child:.2g} and {root:.2g} times"
        " as long as GRPO's; Adam undoes a constant factor."
    )


def at_equal(cost: str, found: equal_cost.EqualCost) -> str:
  """What was found at equal cost, for people."""
  return (
      f"At equal {cost} ({found.at:.3g}): right answers {found.child:.3f}"
      f" against {found.root:.3f}, {_text(found.level, 3)}."
  )


def _above(interval: statistics.Interval) -> bool:
  return interval.low is not None and bool(interval.low > 0)


def _setting(setting: fair_tuning.Setting) -> str:
  changes = "".join(f", {name} = {value:g}" for name, value in setting.changes)
  return f"{setting.rate:g} times the learning rate{changes}"


def _text(interval: statistics.Interval, digits: int = 2) -> str:
  mean, low, high = interval
  if low is None or high is None:
    return f"{mean:+.{digits}f} (too few seeds for an interval)"
  return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
