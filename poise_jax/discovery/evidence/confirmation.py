"""Whether a finalist is better than the root, by seeds the search never saw.

The finalists and their order are fixed by the search; then each is trained
with fresh seeds on the `confirm` budget and scored on the CONFIRM split, seed
by seed, beside the root. The paired differences make a confidence sequence
(`evaluation.confidence_sequences`, exact for Gaussian differences of unknown
variance), so the test may stop at any seed:

    confirmed       the lower end lies above 0, and every constraint is kept
    contradicted    the upper end lies below 0
    not_confirmed   a constraint is broken, no more hope, or no more seeds

A constraint's slack is by how much a run keeps it, in the metric's own unit,
and has a confidence sequence of its own. It is kept if the lower end is at
least minus its margin (0 for most), broken if the upper end lies below 0. No
gain makes up for it: confirmed is only who passes every test, each at the
whole level. Who is not better, or breaks a limit, has to deceive at least the
one test that is about it, so the error is at most the level however many
tests there are (an intersection-union test, "Bioequivalence trials,
intersection-union tests and equivalence confidence sets", Berger and Hsu 1996,
https://doi.org/10.1214/ss/1032280304). A slack that is the same for each seed,
such as that of an exact metric, has ends that are equal to it: 0 is kept.

The effect that is reported comes from these seeds alone. It is the interval
that is honest: a test that stops when it is convinced stops on a high, and the
mean at that point is too large on average.

A claim names its base policy and its budget. Whether it also holds on another
base is a second claim, with an error rate of its own, and asked of confirmed
candidates only. The sealed split is for `sealed_due`: confirmed ones, once.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import enum
import types
from typing import NamedTuple

import numpy as np

from poise_jax.discovery.evidence import spending
from poise_jax.evaluation import confidence_sequences


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How a finalist is confirmed.

  Attributes:
    budget: name of the budget.
    base: the base policy, as the claim will name it.
    split: name of the split scored.
    first_seed: fresh seeds are `first_seed`, `first_seed` + 1, ...
    least_seeds: nothing is decided before. Rare collapses of a candidate hide
      from few seeds, and there the test errs too often.
    max_seeds: most seeds.
    at_once: seeds between two looks after the first; they can run side by side.
    scale: effects expected, in standard deviations of a paired difference.
    worthwhile: points; the test ends when a larger effect is ruled out. 0
      ends it only if the candidate is worse than the root.
    give_up: level of the upper end that this is judged by. It cannot cause a
      false claim.
  """

  budget: str
  base: str
  split: str = "confirm"
  first_seed: int = 1000
  least_seeds: int = 8
  max_seeds: int = 24
  at_once: int = 2
  scale: float = 1.0
  worthwhile: float = 0.0
  give_up: float = 0.1

  def __post_init__(self):
    if not 2 <= self.least_seeds <= self.max_seeds:
      raise ValueError(
          "`least_seeds` must lie in [2, max_seeds], got"
          f" {self.least_seeds} with {self.max_seeds}"
      )
    if self.at_once < 1:
      raise ValueError(f"`at_once` must be at least 1, got {self.at_once}")
    if self.split == "sealed":
      raise ValueError("`split` must not be sealed: that is scored at the end")


class Verdict(enum.StrEnum):
  """What a confirmation says so far."""

  PENDING = "pending"
  CONFIRMED = "confirmed"
  NOT_CONFIRMED = "not confirmed"
  CONTRADICTED = "contradicted"


class Slack(NamedTuple):
  """By how much a constraint is kept, in its metric's own unit.

  Attributes:
    mean: over the seeds, None without any; below 0 is a miss.
    low: lower end, as that of a `Finding`.
    high: upper end.
    margin: miss that the test tolerates, fixed before the first seed.
  """

  mean: float | None
  low: float | None
  high: float | None
  margin: float = 0.0

  @property
  def kept(self) -> bool:
    """Whether it is shown to be kept, but for the margin."""
    return self.low is not None and self.low >= -self.margin

  @property
  def broken(self) -> bool:
    """Whether it is shown to be missed."""
    return self.high is not None and self.high < 0

  def __str__(self) -> str:
    margin = f", margin {self.margin:.3g}" if self.margin else ""
    if self.mean is None or self.low is None or self.high is None:
      return f"no interval{margin}"
    ends = f"[{self.low:+.3g}, {self.high:+.3g}]"
    return f"{self.mean:+.3g} to spare {ends}{margin}"


class Finding(NamedTuple):
  """The outcome of a confirmation.

  Attributes:
    verdict: see `Verdict`.
    reason: a sentence.
    mean: of the differences, None without any.
    low: lower end at `level`, valid at all seeds at once; None if there is
      none yet.
    high: upper end at the same level.
    level: error probability of each end.
    seeds: differences seen.
    budget: the claim holds for this budget.
    base: the claim holds for this base policy.
    split: scored.
    constraints: name -> by how much it is kept.
  """

  verdict: Verdict
  reason: str
  mean: float | None
  low: float | None
  high: float | None
  level: float
  seeds: int
  budget: str
  base: str
  split: str
  constraints: Mapping[str, Slack] = types.MappingProxyType({})

  @property
  def claim(self) -> str:
    """What may be said, with everything it depends on."""
    if self.mean is None or self.low is None or self.high is None:
      effect = "no interval"
    else:
      effect = f"{self.mean:+.2f} points [{self.low:+.2f}, {self.high:+.2f}]"
    return (
        f"{self.verdict} on base {self.base} with budget {self.budget}, split"
        f" {self.split}: {effect} over the root, {self.seeds} fresh seeds, each"
        f" end wrong with probability at most {self.level:.3g}"
        + "".join(f"; {k}: {slack}" for k, slack in self.constraints.items())
    )


def judge(
    protocol: Protocol,
    differences: Sequence[float],
    *,
    level: float,
    slacks: Mapping[str, Sequence[float]] = types.MappingProxyType({}),
    margins: Mapping[str, float] = types.MappingProxyType({}),
    breakdown: str = "",
    root_breakdown: str = "",
) -> Finding:
  """The verdict on the seeds so far.

  Args:
    protocol: fixed before the first seed.
    differences: candidate minus root by seed, from `first_seed` on, without
      gaps.
    level: of this confirmation, from `spending`.
    slacks: by constraint and seed, of the same seeds.
    margins: by constraint, 0 for those without; fixed before the first seed.
    breakdown: kind of break-down of a run of the candidate, empty if none. A
      loss that breaks down is not better, whatever its other seeds show.
    root_breakdown: of a run of the root. By how much a candidate is better that
      does not break down no difference of scores tells, so nothing is claimed.

  Returns:
    The finding; pending if `next_seed` is to be run.

  Raises:
    ValueError: if a difference or slack is not finite, or slacks are of
      other seeds.
  """
  values = _finite("differences", differences)
  constraints = {
      name: _slack(protocol, own, len(values), level, margins.get(name, 0.0))
      for name, own in slacks.items()
  }
  broken = [name for name, slack in constraints.items() if slack.broken]
  doubtful = [name for name, slack in constraints.items() if not slack.kept]
  count = len(values)
  low, high = _ends(protocol, values, level)
  _, hope = _ends(protocol, values, protocol.give_up)
  if breakdown:
    verdict, reason = Verdict.NOT_CONFIRMED, f"a run broke down: {breakdown}"
  elif root_breakdown:
    verdict = Verdict.NOT_CONFIRMED
    reason = f"a run of the root broke down: {root_breakdown}"
  elif low > 0 and not broken and not doubtful:
    verdict, reason = Verdict.CONFIRMED, "the lower end lies above 0"
  elif high < 0:
    verdict, reason = Verdict.CONTRADICTED, "the upper end lies below 0"
  elif broken:
    verdict, reason = Verdict.NOT_CONFIRMED, f"breaks {', '.join(broken)}"
  elif low <= 0 and hope < protocol.worthwhile:
    verdict = Verdict.NOT_CONFIRMED
    reason = f"an effect of {protocol.worthwhile:g} is ruled out"
  elif count >= protocol.max_seeds:
    verdict, reason = Verdict.NOT_CONFIRMED, "all seeds are used"
    if low > 0:
      reason += f", without showing that it keeps {', '.join(doubtful)}"
  else:
    verdict, reason = Verdict.PENDING, "more seeds are needed"
  return Finding(
      verdict=verdict,
      reason=reason,
      mean=float(values.mean()) if count else None,
      low=low if np.isfinite(low) else None,
      high=high if np.isfinite(high) else None,
      level=level,
      seeds=count,
      budget=protocol.budget,
      base=protocol.base,
      split=protocol.split,
      constraints=constraints,
  )


def _finite(name: str, values: Sequence[float]) -> np.ndarray:
  found = np.asarray(values, float)
  if not np.isfinite(found).all():
    raise ValueError(f"`{name}` must be finite, got {values}")
  return found


def _slack(
    protocol: Protocol,
    slacks: Sequence[float],
    count: int,
    level: float,
    margin: float,
) -> Slack:
  values = _finite("slacks", slacks)
  if len(values) != count:
    raise ValueError(
        "`slacks` must be of the seeds of the differences, got"
        f" {len(values)} of them with {count}"
    )
  low, high = _ends(protocol, values, level)
  return Slack(
      mean=float(values.mean()) if count else None,
      low=low if np.isfinite(low) else None,
      high=high if np.isfinite(high) else None,
      margin=margin,
  )


def _ends(
    protocol: Protocol, values: np.ndarray, level: float
) -> tuple[float, float]:
  """Both ends after the last of the seeds that count, infinite without."""
  values = values[: protocol.max_seeds]
  if not len(values):
    return -np.inf, np.inf
  ends = confidence_sequences.one_sided(
      values, level=level, scale=protocol.scale, first=protocol.least_seeds
  )
  return float(ends.low[-1]), float(ends.high[-1])


def next_seeds(protocol: Protocol, finding: Finding) -> tuple[int, ...]:
  """Seeds to run next with candidate and root; empty if it is decided.

  All that it takes before anything is decided, then `at_once`.
  """
  if finding.verdict is not Verdict.PENDING:
    return ()
  first = finding.seeds < protocol.least_seeds
  more = finding.seeds + protocol.at_once
  upto = protocol.least_seeds if first else min(more, protocol.max_seeds)
  return tuple(protocol.first_seed + i for i in range(finding.seeds, upto))


class Measured(NamedTuple):
  """What runs of a candidate beside the root show.

  Attributes:
    differences: candidate minus root by seed, none where one broke down.
    slacks: of each constraint by seed, likewise.
    breakdown: kind of break-down of the candidate, empty if none.
    root_breakdown: likewise of the root.
  """

  differences: Sequence[float]
  slacks: Mapping[str, Sequence[float]] = types.MappingProxyType({})
  breakdown: str = ""
  root_breakdown: str = ""


# Runs a candidate and the root with the seeds given.
Run = Callable[[str, tuple[int, ...]], Measured]


def confirm(
    protocol: Protocol,
    finalists: Sequence[str],
    *,
    alpha: float,
    shares: Sequence[float],
    run: Run,
    margins: Mapping[str, float] = types.MappingProxyType({}),
    enough: int = 1,
) -> dict[str, Finding]:
  """Confirms the finalists one after the other, each to its verdict.

  Args:
    protocol: of all of them.
    finalists: ids, in the order that the search left.
    alpha: error probability of the campaign.
    shares: of alpha, planned before; see `spending`.
    run: measures.
    margins: of constraints, see `judge`.
    enough: confirmations after which nobody else is tested.

  Returns:
    The findings, in the same order, of those that were tested.
  """
  findings: dict[str, Finding] = {}
  for name in finalists[: len(shares)]:
    confirmed = [f.verdict is Verdict.CONFIRMED for f in findings.values()]
    if sum(confirmed) >= enough:
      break
    level = spending.ledger(alpha, shares, confirmed)[-1].level
    differences: list[float] = []
    slacks: dict[str, list[float]] = {}
    finding = judge(protocol, differences, level=level)
    while seeds := next_seeds(protocol, finding):
      more = run(name, seeds)
      differences += more.differences
      for constraint, own in more.slacks.items():
        slacks.setdefault(constraint, []).extend(own)
      finding = judge(
          protocol,
          differences,
          level=level,
          slacks=slacks,
          margins=margins,
          breakdown=more.breakdown,
          root_breakdown=more.root_breakdown,
      )
    findings[name] = finding
  return findings


def sealed_due(findings: dict[str, Finding]) -> tuple[str, ...]:
  """Who is scored on the sealed split, once, after all confirmations.

  Raises:
    ValueError: if a confirmation is still pending.
  """
  pending = [k for k, f in findings.items() if f.verdict is Verdict.PENDING]
  if pending:
    raise ValueError(
        f"`findings` must all be decided, pending: {', '.join(pending)}"
    )
  return tuple(k for k, f in findings.items() if f.verdict is Verdict.CONFIRMED)
