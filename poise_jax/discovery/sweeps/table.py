"""What a sweep found: means, differences from a baseline, and what holds.

Differences are paired by seed where configurations share seeds. Their tests
are corrected for their number, so that the chance of any false finding in the
table is at most 5 %, whatever the tests have to do with each other.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from poise_jax.archive import records
from poise_jax.discovery.sweeps import cell as cell_lib
from poise_jax.discovery.sweeps import sweep as sweep_lib
from poise_jax.evaluation import multiplicity, statistics

_LEVEL, _CHANCE = 0.05, 0.8
_PRIOR_DOF = 4.0  # as in leaderboard: variances differ between algorithms
Verdict = Literal["baseline", "better", "worse", "open", "identical", "none"]


class Difference(NamedTuple):
  """A configuration minus the baseline, in points of Overall.

  Attributes:
    interval: of the mean, at 95 %, not corrected.
    p_value: two-sided, not corrected.
    error: standard error, moderated.
    dof: its degrees of freedom.
  """

  interval: statistics.Interval
  p_value: float
  error: float
  dof: float


@dataclasses.dataclass(frozen=True)
class Row:
  """One configuration.

  Attributes:
    config: which.
    planned: seeds asked for.
    scores: Overall by seed, of those that ended with one.
    reasons: seed -> why it has none, of those that did not.
    overall: mean over seeds; None unless all seeds that ran have a score, for
      a mean over the luckier ones would flatter it.
    difference: from the baseline; None for the baseline itself, and where
      either has no mean or too few seeds.
    adjusted: its p-value, corrected for the number of tests.
    detectable: smallest difference from the baseline that would have been
      found with a chance of 80 % as one of so many tests.
    verdict: better or worse if `adjusted` is below 5 %; open if not; identical
      if every metric is the baseline's, bit for bit; none if there is nothing
      to judge.
    metrics: mean over seeds of each metric.
    seconds: mean of a cell, by the clock.
  """

  config: cell_lib.Config
  planned: int
  scores: Mapping[int, float]
  reasons: Mapping[int, str]
  overall: statistics.Interval | None
  difference: Difference | None
  adjusted: float | None
  detectable: float | None
  verdict: Verdict
  metrics: Mapping[str, float]
  seconds: float | None


@dataclasses.dataclass(frozen=True)
class Table:
  """A sweep, judged.

  Attributes:
    rows: best mean first, those without one last.
    baseline: name of the configuration that others are compared with.
    tests: how many differences were tested.
    paired: whether they were taken seed by seed.
  """

  rows: tuple[Row, ...]
  baseline: str
  tests: int
  paired: bool


def make(done: Sequence[sweep_lib.Done], baseline: str) -> Table:
  """Judges a sweep.

  Args:
    done: from `sweep.sweep`; cells of one configuration share its name.
    baseline: name of the configuration that others are compared with.

  Raises:
    ValueError: if no cell is of `baseline`.
  """
  groups: dict[str, list[sweep_lib.Done]] = {}
  for cell in done:
    groups.setdefault(cell.cell.config.name, []).append(cell)
  if baseline not in groups:
    raise ValueError(
        f"`baseline` must be a configuration of the sweep, got {baseline!r};"
        f" there are: {', '.join(groups)}"
    )
  scores = {name: _scores(group) for name, group in groups.items()}
  whole = {name for name, group in groups.items() if _whole(group)}
  same = {
      name
      for name, group in groups.items()
      if name != baseline and _identical(group, groups[baseline])
  }
  tested = [n for n in groups if n in whole - same and n != baseline]
  tested = tested if baseline in whole else []
  paired = all(scores[name].keys() & scores[baseline].keys() for name in tested)
  usual = [name for name in tested if not _is_canary(groups[name])]
  found = _differences(scores, baseline, tested, usual, paired)
  adjusted = multiplicity.holm({n: d.p_value for n, d in found.items()})
  rows = [
      _row(
          group,
          _mean(scores, name, groups) if name in whole else None,
          found.get(name),
          adjusted.get(name),
          len(found),
          _verdict(name, baseline, same, found, adjusted),
      )
      for name, group in groups.items()
  ]
  rows.sort(key=lambda r: -r.overall.mean if r.overall else math.inf)
  return Table(tuple(rows), baseline, len(found), paired)


def prior_dof(tests: int, seeds: int) -> float:
  """Degrees of freedom that other configurations lend to the test of one."""
  return min(float((tests - 1) * (seeds - 1)), _PRIOR_DOF)


def _scores(group: Sequence[sweep_lib.Done]) -> dict[int, float]:
  return {
      done.cell.seed: done.evaluation.metrics["overall"]
      for done in group
      if _scored(done)
  }


def _scored(done: sweep_lib.Done) -> bool:
  return done.evaluation is not None and done.evaluation.outcome == "scored"


def _whole(group: Sequence[sweep_lib.Done]) -> bool:
  """Whether something is scored and nothing diverged.

  Cells that failed are missing at random, unlike those that diverged.
  """
  diverged = [d for d in group if d.evaluation is not None and not _scored(d)]
  return not diverged and any(map(_scored, group))


def _identical(
    ours: Sequence[sweep_lib.Done], theirs: Sequence[sweep_lib.Done]
) -> bool:
  """Whether all runs gave the same policy, as far as metrics can tell."""
  runs = lambda group: {d.cell.seed: d.evaluation for d in group if _scored(d)}
  a, b = runs(ours), runs(theirs)
  return a.keys() == b.keys() != set() and all(
      a[seed].metrics == b[seed].metrics for seed in a
  )


def _is_canary(group: Sequence[sweep_lib.Done]) -> bool:
  return sweep_lib.role(group[0].cell.config) == "canary"


def _mean(
    scores: Mapping[str, Mapping[int, float]],
    name: str,
    groups: Mapping[str, Sequence[sweep_lib.Done]],
) -> statistics.Interval:
  """Interval of a mean, its variance moderated by that of the others."""
  others = [
      list(values.values())
      for other, values in scores.items()
      if other != name and not _is_canary(groups[other])
  ]
  variance, dof = statistics.pooled_variance(others)
  return statistics.mean_interval(
      list(scores[name].values()),
      prior_variance=variance,
      prior_dof=min(float(dof), _PRIOR_DOF),
  )


def _differences(
    scores: Mapping[str, Mapping[int, float]],
    baseline: str,
    tested: Sequence[str],
    usual: Sequence[str],
    paired: bool,
) -> dict[str, Difference]:
  """Differences from the baseline that have an error.

  Only those of `usual` lend their variance to others.
  """
  theirs = scores[baseline]
  if not paired:
    found = {n: _welch(scores[n], theirs) for n in tested}
    return {n: d for n, d in found.items() if d is not None}
  gaps = {
      n: [scores[n][s] - theirs[s] for s in scores[n] if s in theirs]
      for n in tested
  }
  found = {}
  for name, values in gaps.items():
    others = [gaps[other] for other in usual if other != name]
    variance, dof = statistics.pooled_variance(others)
    difference = moderated(values, variance, min(float(dof), _PRIOR_DOF))
    if difference is not None:
      found[name] = difference
  return found


def moderated(
    values: Sequence[float], prior_variance: float, prior_dof: float
) -> Difference | None:
  """Tests whether the mean of differences is 0.

    t = mean / (s̃ / √n),  d0 + n - 1 degrees of freedom, see
    `statistics.mean_interval` for s̃.

  Args:
    values: one a seed.
    prior_variance: of the differences of other configurations.
    prior_dof: d0, the weight of the prior.

  Returns:
    None where there is no degree of freedom, or nothing varies.
  """
  interval = statistics.mean_interval(
      values, prior_variance=prior_variance, prior_dof=prior_dof
  )
  dof = prior_dof + len(values) - 1
  if interval.high is None or interval.high == interval.mean:
    return None
  error = (interval.high - interval.mean) / stats.t.ppf(1 - _LEVEL / 2, dof)
  p_value = 2 * stats.t.sf(abs(interval.mean) / error, dof)
  return Difference(interval, float(p_value), float(error), dof)


def _welch(
    ours: Mapping[int, float], theirs: Mapping[int, float]
) -> Difference | None:
  """The difference of two means whose seeds have nothing in common."""
  a, b = list(ours.values()), list(theirs.values())
  if min(len(a), len(b)) < 2 or (np.ptp(a) == 0 and np.ptp(b) == 0):
    return None
  test = stats.ttest_ind(a, b, equal_var=False)
  ends = test.confidence_interval(1 - _LEVEL)
  mean = float(np.mean(a) - np.mean(b))
  interval = statistics.Interval(mean, float(ends.low), float(ends.high))
  error = (interval.high - mean) / stats.t.ppf(1 - _LEVEL / 2, test.df)
  return Difference(interval, float(test.pvalue), float(error), float(test.df))


def detectable(error: float, dof: float, tests: int) -> float:
  """Smallest difference that one of so many tests would find, at 80 %.

  (t_{1 - 0.05 / 2m} + t_{0.8}) error, by Holm's first and hardest step.

  Args:
    error: standard error of the difference.
    dof: its degrees of freedom.
    tests: m.
  """
  quantiles = stats.t.ppf([1 - _LEVEL / (2 * tests), _CHANCE], dof)
  return float(quantiles.sum() * error)


def _verdict(
    name: str,
    baseline: str,
    same: set[str],
    found: Mapping[str, Difference],
    adjusted: Mapping[str, float],
) -> Verdict:
  if name == baseline:
    return "baseline"
  if name in same:
    return "identical"
  if name not in found:
    return "none"
  if adjusted[name] >= _LEVEL:
    return "open"
  return "better" if found[name].interval.mean > 0 else "worse"


def _row(
    group: Sequence[sweep_lib.Done],
    overall: statistics.Interval | None,
    difference: Difference | None,
    adjusted: float | None,
    tests: int,
    verdict: Verdict,
) -> Row:
  runs = [d.evaluation for d in group if d.evaluation is not None]
  scored = [run.metrics for run in runs if run.outcome == "scored"]
  names = set.intersection(*map(set, scored)) if scored else ()
  return Row(
      config=group[0].cell.config,
      planned=len(group),
      scores=_scores(group),
      reasons={d.cell.seed: d.reason for d in group if d.reason},
      overall=overall,
      difference=difference,
      adjusted=adjusted,
      detectable=difference
      and detectable(difference.error, difference.dof, tests),
      verdict=verdict,
      metrics={
          n: float(np.mean([m[n] for m in scored])) for n in sorted(names)
      },
      seconds=float(np.mean([_seconds(run) for run in runs])) if runs else None,
  )


def _seconds(run: records.Evaluation) -> float:
  return (run.finished_at - run.started_at).total_seconds()
