"""Two candidates on common seeds: what each measured, and the difference.

A difference is only ever taken between runs of equal budget, split, base policy
and seed, which share prompts and sampling keys.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import numpy as np

from poise_jax.archive import records
from poise_jax.evaluation import statistics


@dataclasses.dataclass(frozen=True)
class Evidence:
  """A candidate and everything measured of it.

  Attributes:
    id: candidate id.
    name: candidate name.
    mechanisms: the structured description stored with it, None if none.
    evaluations: of any budget, split, base and outcome.
  """

  id: str
  name: str
  mechanisms: Mapping[str, Any] | None
  evaluations: Sequence[records.Evaluation]


class Pairs(NamedTuple):
  """Runs of two candidates that may be compared, in order of their seeds.

  Attributes:
    budget: of all of them.
    split: of all of them.
    base: hash of the base policy of all of them.
    seeds: one a pair.
    ours: runs of the first candidate.
    theirs: runs of the second, seed by seed.
  """

  budget: str
  split: str
  base: str
  seeds: tuple[int, ...]
  ours: tuple[records.Evaluation, ...]
  theirs: tuple[records.Evaluation, ...]


def scored(
    evaluations: Iterable[records.Evaluation],
) -> list[records.Evaluation]:
  """The evaluations that ended with a score."""
  return [e for e in evaluations if e.outcome == "scored"]


def base_of(evaluation: records.Evaluation) -> str:
  """Hash of the base policy that a run started from; empty if not recorded."""
  return str(evaluation.key.get("base", ""))


def common_runs(
    ours: Evidence, theirs: Evidence, *, prefer: str = ""
) -> Pairs | None:
  """Pairs the scored runs of two candidates.

  Budgets measure different things, and so do base policies, so only one budget,
  split and base is used: of the budget `prefer`, if it has a common seed, else
  of any; among these that with the most common seeds, in a tie the first by
  name.

  Args:
    ours: the candidate in question.
    theirs: what it is compared with.
    prefer: name of a budget.

  Returns:
    The pairs, None if there is no common seed.
  """
  mine, other = (
      {((e.budget, e.split, base_of(e)), e.seed): e for e in scored(own)}
      for own in (ours.evaluations, theirs.evaluations)
  )
  seeds_of: dict[tuple[str, str, str], list[int]] = {}
  for setting, seed in sorted(mine.keys() & other.keys()):
    seeds_of.setdefault(setting, []).append(seed)
  if not seeds_of:
    return None
  best = max(sorted(seeds_of), key=lambda s: (s[0] == prefer, len(seeds_of[s])))
  seeds = tuple(seeds_of[best])
  return Pairs(
      *best,
      seeds,
      tuple(mine[best, seed] for seed in seeds),
      tuple(other[best, seed] for seed in seeds),
  )


def signal(evaluation: records.Evaluation, name: str) -> float | None:
  """One number of a run by the name of what it tells.

  Final metrics go first; what they lack is the mean over the last quarter of
  the training curve. Names that start with `early_` are means over the first
  half of a curve.

  Args:
    evaluation: a run.
    name: a metric, `clip_fraction`, `early_reward` or `early_length`.

  Returns:
    The value, None where the run does not have it.
  """
  if name in evaluation.metrics:
    return float(evaluation.metrics[name])
  if name == "clip_fraction":
    return _clip_fraction(evaluation.curve)
  if name in _EARLY:
    values = evaluation.curve.get(_EARLY[name], ())
    return _mean(values[: (len(values) + 1) // 2])
  return _tail(evaluation.curve, _CURVES.get(name, name))


_EARLY = {"early_reward": "reward", "early_length": "completions/mean_length"}
_CURVES = {"response_length": "completions/mean_length"}


def _clip_fraction(curve: Mapping[str, Sequence[float]]) -> float | None:
  """Share of tokens whose gradient the clip removed, late in training."""
  whole = _tail(curve, "clip_ratio/region_mean")
  if whole is not None:
    return whole
  sides = [_tail(curve, f"clip_ratio/{side}_mean") for side in ("low", "high")]
  known = [side for side in sides if side is not None]
  return sum(known) if known else None


def _tail(curve: Mapping[str, Sequence[float]], name: str) -> float | None:
  """Mean of the last quarter, at least one value."""
  values = curve.get(name, ())
  return _mean(values[-max(len(values) // 4, 1) :])


def _mean(values: Sequence[float]) -> float | None:
  """Mean, None if there is nothing or it is not finite."""
  mean = float(np.mean(values)) if len(values) else float("nan")
  return mean if np.isfinite(mean) else None


def differences(pairs: Pairs, name: str) -> list[float]:
  """Ours minus theirs in one signal, for the seeds on which both have it."""
  gaps = []
  for mine, other in zip(pairs.ours, pairs.theirs, strict=True):
    a, b = signal(mine, name), signal(other, name)
    if a is not None and b is not None:
      gaps.append(a - b)
  return gaps


def mean_signals(pairs: Pairs, name: str) -> tuple[float, float] | None:
  """(theirs, ours) of one signal, averaged over the seeds that have both."""
  both = [
      (signal(other, name), signal(mine, name))
      for mine, other in zip(pairs.ours, pairs.theirs, strict=True)
  ]
  known = [(b, a) for b, a in both if a is not None and b is not None]
  if not known:
    return None
  before, after = np.mean(known, axis=0)
  return float(before), float(after)


def interval(
    values: Sequence[float], *, prior_variance: float, prior_dof: float
) -> statistics.Interval | None:
  """Interval for a mean difference, None without values."""
  if not values:
    return None
  return statistics.mean_interval(
      values, prior_variance=prior_variance, prior_dof=prior_dof
  )
