"""What a reflection judges by: Overall, or what the objective asks for.

    keep       the interval of the gain lies above 0, no limit seems missed
    drop       it lies below 0, or a limit is surely missed
    undecided  else

The gain is that of the objective's terms over the parent, in points. Limits are
taken beside the root, seed by seed, each with its margin (see
`objectives.slacks`). That a limit is kept takes more seeds to show than a
search has: a good mean is enough to keep a candidate, and what is open is said.
"""

from collections.abc import Mapping
import dataclasses
from typing import Literal, NamedTuple

from poise_jax.archive import records
from poise_jax.discovery.evidence import pairing
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths
from poise_jax.evaluation import statistics

Suggestion = Literal["keep", "drop", "undecided"]

CLAIM_SEEDS = 3  # fewer common seeds than this support no claim


class Prior(NamedTuple):
  """Variance of a paired difference in Overall, known from elsewhere."""

  variance: float
  dof: float


_NONE = Prior(0.0, 0.0)


class Limit(NamedTuple):
  """How a constraint was kept beside the root.

  Attributes:
    slack: by how much, in the metric's own unit; below 0 if missed.
    margin: by how much it may be missed.
    seeds: that both have.
  """

  slack: statistics.Interval
  margin: float
  seeds: int

  @property
  def short(self) -> bool:
    """Whether it is missed on average."""
    return self.slack.mean < -self.margin

  @property
  def standing(self) -> Literal["kept", "open", "missed"]:
    """What its interval says; open with too few seeds."""
    _, low, high = self.slack
    if self.seeds < CLAIM_SEEDS or low is None or high is None:
      return "open"
    if high < -self.margin:
      return "missed"
    return "kept" if low >= -self.margin else "open"


class Comparison(NamedTuple):
  """A paired difference and what it rests on.

  Attributes:
    name: of the other.
    gap: in Overall.
    gain: in what counts; the same where that is Overall.
    pairs: of runs.
  """

  name: str
  gap: statistics.Interval
  gain: statistics.Interval
  pairs: pairing.Pairs


@dataclasses.dataclass(frozen=True)
class Yardstick:
  """By what runs are compared.

  Attributes:
    worth: what a run is worth.
    candidates: by id, those whose runs are compared; for Overall none is
      needed.
  """

  worth: worths.Worth
  candidates: Mapping[str, records.Candidate]

  @property
  def plain(self) -> bool:
    """Whether Overall is all that counts."""
    return self.worth.objective == objectives.DEFAULT

  def compare(
      self,
      child: pairing.Evidence,
      other: pairing.Evidence,
      prior: Prior,
      prefer: str = "",
  ) -> Comparison | None:
    """Compares two candidates, None without a common seed that was scored.

    Args:
      child: the candidate in question.
      other: what it is compared with.
      prior: of the gain, in points, as in the race.
      prefer: see `pairing.common_runs`.
    """
    if child.id == other.id:
      return None
    pairs = pairing.common_runs(child, other, prefer=prefer)
    scored = _measured(pairs)
    gap = _interval([_overall(a) - _overall(b) for a, b in scored], prior)
    gain = _interval([self._gain(a) - self._gain(b) for a, b in scored], prior)
    if pairs is None or gap is None or gain is None:
      return None
    return Comparison(other.name, gap, gain, pairs)

  def _gain(self, run: records.Evaluation) -> float:
    if self.plain:
      return _overall(run)
    return self.worth.gain(self._of(run), run)

  def limits(
      self,
      child: pairing.Evidence,
      root: pairing.Evidence,
      prior: Prior,
      prefer: str = "",
  ) -> dict[str, Limit] | None:
    """How each constraint is kept beside the root.

    Args:
      child: the candidate in question.
      root: which keeps all that there is to keep.
      prior: for limits of Overall; of other metrics the own spread counts.
      prefer: see `pairing.common_runs`.

    Returns:
      The constraint as text -> limit; None if that cannot be told, as there is
      no common seed that was scored.
    """
    constraints = self.worth.objective.constraints
    if not constraints or child.id == root.id:
      return {}
    slacks = [
        self.worth.slacks(self._of(ours), ours, self._of(theirs), theirs)
        for ours, theirs in _measured(
            pairing.common_runs(child, root, prefer=prefer)
        )
    ]
    margins, found = self.worth.margins, {}
    for constraint in constraints:
      own = [slack[str(constraint)] for slack in slacks]
      known = prior if constraint.metric == "overall" else _NONE
      if (slack := _interval(own, known)) is not None:
        margin = margins[str(constraint)]
        found[str(constraint)] = Limit(slack, margin, len(own))
    return found or None

  def _of(self, run: records.Evaluation) -> records.Candidate:
    return self.candidates[run.candidate_id]


# Where nothing else is wanted.
OVERALL = Yardstick(worths.Worth(objectives.DEFAULT, {"overall": 0.0}, {}), {})


def decide(
    gap: statistics.Interval | None,
    seeds: int,
    limits: Mapping[str, Limit] | None,
) -> Suggestion:
  """Keep, drop or undecided; see the module.

  Args:
    gap: the gain, None if it is not known.
    seeds: behind it.
    limits: from `Yardstick.limits`.
  """
  kept = None if limits is None else [own.standing for own in limits.values()]
  if kept and "missed" in kept:
    return "drop"
  if gap is None or gap.low is None or gap.high is None or seeds < CLAIM_SEEDS:
    return "undecided"
  if gap.high < 0:
    return "drop"
  fits = limits is not None and not any(own.short for own in limits.values())
  return "keep" if gap.low > 0 and fits else "undecided"


def wanted(objective: objectives.Objective) -> str:
  """An objective in words; empty for Overall alone."""
  if objective == objectives.DEFAULT:
    return ""
  words = {"max": "raise", "min": "lower"}
  return "; ".join(
      [
          *(
              f"{words[t.direction]} {t.metric} (weight {t.weight:g})"
              for t in objective.terms
          ),
          *(f"keep {constraint}" for constraint in objective.constraints),
          *(f"without {ban}" for ban in objective.bans),
      ]
  )


def _measured(
    pairs: pairing.Pairs | None,
) -> list[tuple[records.Evaluation, records.Evaluation]]:
  """The pairs of runs that were scored: some budgets only train."""
  if pairs is None:
    return []
  return [
      (ours, theirs)
      for ours, theirs in zip(pairs.ours, pairs.theirs, strict=True)
      if "overall" in ours.metrics and "overall" in theirs.metrics
  ]


def _overall(run: records.Evaluation) -> float:
  return float(run.metrics["overall"])


def _interval(values: list[float], prior: Prior) -> statistics.Interval | None:
  return pairing.interval(
      values, prior_variance=prior.variance, prior_dof=prior.dof
  )
