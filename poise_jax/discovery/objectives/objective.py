"""What a search is after: metrics with directions and weights, and limits.

    U = overall_root + Σ_m w_m d_m (x_m - root_m) / scale_m / Σ_m w_m

d_m is +1 or -1, and scale_m the change of metric m that counts as much as one
point of Overall (see `units`), so U is in points of Overall whatever it is made of; with
Overall as the only term it is Overall. Nothing here is read from prose: a
directive is compiled to this before a search begins.
"""

from collections.abc import Collection, Mapping
import dataclasses
import math
from typing import Any, Literal, NamedTuple

from poise_jax.discovery.objectives import units
from poise_jax.discovery.proposer import genome as genomes

NAMES = (
    "overall",
    "response_length",
    "train_seconds",
    "heldout_perplexity",
    "kl",
    "entropy",
    "valid_rate",
    "description_length",
    "tokens",
    "flops",
    "greedy_length",
    "truncated_rate",
)
# Scores on one problem set: the prefix, a slash and the name of the set.
FAMILIES = ("accuracy", "pass_at_k", "pass_at_1")

Direction = Literal["max", "min"]
Op = Literal["<=", ">="]
Metrics = Mapping[str, float]


def check_metric(name: str) -> None:
  """Refuses what is not the name of a metric.

  Raises:
    ValueError: listing the names that there are.
  """
  family, _, problem_set = name.partition("/")
  if name not in NAMES and not (family in FAMILIES and problem_set):
    raise ValueError(
        f"`metric` must be one of {', '.join(NAMES)}, or"
        f" {', '.join(f'{f}/SET' for f in FAMILIES)} with the name of a problem"
        f" set, got {name!r}"
    )


@dataclasses.dataclass(frozen=True)
class Term:
  """One metric to improve.

  Attributes:
    metric: its canonical name.
    direction: `max` if more is better, `min` if less is.
    weight: against the other terms, above 0.
  """

  metric: str
  direction: Direction
  weight: float = 1.0

  def __post_init__(self):
    """Refuses unknown metrics and directions, and weights that are not."""
    check_metric(self.metric)
    if self.direction not in ("max", "min"):
      raise ValueError(
          f"`direction` of {self.metric} must be 'max' or 'min', got"
          f" {self.direction!r}"
      )
    if not (math.isfinite(self.weight) and self.weight > 0):
      raise ValueError(
          f"`weight` of {self.metric} must be a number above 0, got"
          f" {self.weight}; leave the term out if it does not count"
      )

  @property
  def sign(self) -> int:
    """+1 if more is better, -1 if less is."""
    return 1 if self.direction == "max" else -1


@dataclasses.dataclass(frozen=True)
class Constraint:
  """A limit that a candidate has to keep.

  Attributes:
    metric: its canonical name.
    op: `<=` for at most, `>=` for at least.
    bound: the limit in the metric's own unit; or, if relative, as a multiple
      of the root's value: 0.7 with `<=` is at least 30 % less than the root,
      1.0 with `>=` no less than it, 0.98 leaves a margin of 2 %. How 1.0 is
      tested: see `slacks.margins`.
    relative: whether the bound is relative to the root.
  """

  metric: str
  op: Op
  bound: float
  relative: bool = False

  def __post_init__(self):
    """Refuses unknown metrics and operators, and bounds that are not."""
    check_metric(self.metric)
    if self.op not in ("<=", ">="):
      raise ValueError(
          f"`op` of {self.metric} must be '<=' or '>=', got {self.op!r}"
      )
    if not math.isfinite(self.bound):
      raise ValueError(
          f"`bound` of {self.metric} must be a number, got {self.bound}"
      )

  def limit(self, root_metrics: Metrics) -> float:
    """The bound in the metric's own unit.

    Relative bounds of a root value below 0 go the same way as above it:
    r + (bound - 1) |r|.
    """
    if not self.relative:
      return self.bound
    own = _value(root_metrics, self.metric, "root_metrics")
    return own + (self.bound - 1) * abs(own)

  def slack(self, metrics: Metrics, root_metrics: Metrics) -> float:
    """By how much it is kept, in the metric's own unit; below 0 if broken."""
    own = _value(metrics, self.metric, "metrics")
    slack = own - self.limit(root_metrics)
    slack = slack if self.op == ">=" else -slack
    # What is equal but for rounding is kept.
    return 0.0 if abs(slack) <= 1e-9 * max(abs(own), 1e-9) else slack

  def __str__(self) -> str:
    unit = " x root" if self.relative else ""
    return f"{self.metric} {self.op} {self.bound:g}{unit}"


@dataclasses.dataclass(frozen=True)
class Objective:
  """What to improve, what to keep, what to leave alone.

  Attributes:
    terms: at least one, each metric once.
    constraints: limits that a candidate has to keep.
    bans: mechanisms it must not use, as `mechanism_names` writes them: a slot
      such as `length`, or a choice such as `clip=dual`.
  """

  terms: tuple[Term, ...] = (Term("overall", "max"),)
  constraints: tuple[Constraint, ...] = ()
  bans: tuple[str, ...] = ()

  def __post_init__(self):
    """Refuses nothing to improve, contradictions and empty bans."""
    if not self.terms:
      raise ValueError(
          "`terms` must hold at least one metric to improve, got none; add"
          " Term('overall', 'max')"
      )
    named = [term.metric for term in self.terms]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
      raise ValueError(
          f"`terms` must name each metric once, got {twice} more often; join"
          " their weights"
      )
    for low in self.constraints:
      for high in self.constraints:
        alike = (low.metric, low.relative) == (high.metric, high.relative)
        opposed = (low.op, high.op) == (">=", "<=")
        if alike and opposed and low.bound > high.bound:
          raise ValueError(
              f"`constraints` must be possible together, got {low} and {high}"
          )
    if not all(ban.strip() for ban in self.bans):
      raise ValueError(
          f"`bans` must be names of mechanisms, got {self.bans}; leave out"
          " what is empty"
      )

  @property
  def metrics(self) -> tuple[str, ...]:
    """Every metric that is named, each once."""
    named = [part.metric for part in (*self.terms, *self.constraints)]
    return tuple(dict.fromkeys(named))


DEFAULT = Objective()


def _instead(missing: Collection[str]) -> str:
  if "train_seconds" not in missing:
    return ""
  return ". Seconds differ from run to run: limit `tokens` or `flops` instead"


def checked(objective: Objective, recorded: Collection[str]) -> Objective:
  """Returns an objective of which every metric is recorded.

  Raises:
    ValueError: naming those that are not, and all that are.
  """
  missing = [name for name in objective.metrics if name not in recorded]
  if missing:
    raise ValueError(
        f"`objective` must name recorded metrics, got {', '.join(missing)};"
        f" there are {', '.join(sorted(recorded)) or 'none'}{_instead(missing)}"
    )
  return objective


def utility(
    objective: Objective,
    metrics: Metrics,
    root_metrics: Metrics,
    scale_of: Metrics | None = None,
) -> float:
  """U in points of Overall, higher is better; see the module.

  Args:
    objective: only its terms count here.
    metrics: means over the seeds of a candidate.
    root_metrics: those of the root.
    scale_of: from `units.scales`; `units.default` for what it lacks.

  Raises:
    ValueError: if a metric of a term is missing or not finite.
  """
  total = sum(term.weight for term in objective.terms)
  gain = 0.0
  for term in objective.terms:
    own = _value(metrics, term.metric, "metrics")
    rise = own - _value(root_metrics, term.metric, "root_metrics")
    unit = _scale(term.metric, root_metrics, scale_of)
    gain += term.weight * term.sign * rise / unit
  return float(root_metrics.get("overall", 0.0) + gain / total)


class Violation(NamedTuple):
  """A constraint that is not kept, and by how many points of Overall."""

  constraint: Constraint
  points: float


def violations(
    objective: Objective,
    metrics: Metrics,
    root_metrics: Metrics,
    scale_of: Metrics | None = None,
) -> tuple[Violation, ...]:
  """The constraints that a candidate breaks; none if it is feasible.

  Means are taken as they are. By how much one is broken is graded, so that a
  search need not treat a miss by noise as a wall; whether a confirmed
  candidate is feasible is for a test with intervals to say: see the
  module `slacks`.

  Args:
    objective: only its constraints count here.
    metrics: as in `utility`.
    root_metrics: as in `utility`.
    scale_of: as in `utility`.
  """
  broken = []
  for constraint in objective.constraints:
    slack = constraint.slack(metrics, root_metrics)
    if slack < 0:
      unit = _scale(constraint.metric, root_metrics, scale_of)
      broken.append(Violation(constraint, float(-slack / unit)))
  return tuple(broken)


def columns(objective: Objective, metrics: Metrics) -> list[float]:
  """The terms as numbers of which more is better, for a Pareto front."""
  return [
      term.sign * _value(metrics, term.metric, "metrics")
      for term in objective.terms
  ]


def directions(objective: Objective) -> dict[str, float]:
  """Each term's share of all weights, below 0 where less is better."""
  total = sum(term.weight for term in objective.terms)
  return {t.metric: t.sign * t.weight / total for t in objective.terms}


def mechanism_names(choices: Mapping[str, str]) -> frozenset[str]:
  """Names of what a genome's choices use, as `bans` are written.

  Args:
    choices: slot -> choice.

  Returns:
    `slot=choice` for each slot, and `slot` where it is not the plain choice.
  """
  plain = genomes.Genome().choices
  used = {slot for slot, choice in choices.items() if choice != plain.get(slot)}
  return frozenset({f"{s}={c}" for s, c in choices.items()} | used)


def breaches(
    objective: Objective, mechanisms: Collection[str]
) -> tuple[str, ...]:
  """The bans that a candidate with these mechanisms breaks."""
  return tuple(ban for ban in objective.bans if ban in mechanisms)


def to_json(objective: Objective) -> dict[str, Any]:
  """An objective as plain dicts, lists, strings and numbers."""
  plain = dataclasses.asdict(objective)
  return {name: list(value) for name, value in plain.items()}


def from_json(value: Mapping[str, Any]) -> Objective:
  """The inverse of `to_json`, possibly through a JSON text.

  Raises:
    ValueError: if it is something else.
  """
  try:
    unknown = set(value) - {"terms", "constraints", "bans"}
    if unknown:
      raise TypeError(f"unknown keys {sorted(unknown)}")
    limits = [
        Constraint(**{**c, "bound": float(c["bound"])})
        for c in value.get("constraints", ())
    ]
    terms = [
        Term(**{**t, "weight": float(t.get("weight", 1.0))})
        for t in value["terms"]
    ]
    bans = tuple(str(ban) for ban in value.get("bans", ()))
    return Objective(tuple(terms), tuple(limits), bans)
  except (TypeError, KeyError, AttributeError) as error:
    raise ValueError(
        "`value` must be what `objective.to_json` writes, with `terms`,"
        f" `constraints` and `bans`, got {value!r} ({error})"
    ) from error


def _value(metrics: Metrics, name: str, argument: str) -> float:
  if name not in metrics:
    raise ValueError(
        f"`{argument}` must hold {name}, which the objective names, got"
        f" {', '.join(sorted(metrics)) or 'nothing'}; record it, or leave it"
        " out of the objective"
    )
  if not math.isfinite(metrics[name]):
    raise ValueError(
        f"`{argument}` must be finite, got {metrics[name]} for {name}"
    )
  return float(metrics[name])


def _scale(
    metric: str, root_metrics: Metrics, scale_of: Metrics | None
) -> float:
  if scale_of is not None and metric in scale_of:
    return scale_of[metric]
  own = _value(root_metrics, metric, "root_metrics")
  return units.default(metric, own)
