"""What an agent sees of a campaign: plain data, and its words.

Only what the search may see goes in: results of the search split. What is
sealed until the end is refused, so that no proposal can be fitted to it.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

import numpy as np

from poise_jax.discovery.agents import guide, literature

# What agents may see the results of.
SEARCH_SPLIT = "search"
_CURVE_POINTS = 6
_LONGEST_TEXT = 1500
_SHOWN_CURVES = (
    "reward",
    "entropy",
    "kl",
    "completions/mean_length",
    "advantages/mean_abs",
    "clip_ratio/region_mean",
    "grad_norm",
    "frac_groups_all_fail",
)


class Gap(NamedTuple):
  """A paired difference on common seeds.

  Attributes:
    mean: of the difference.
    low: of its interval, None if there is none.
    high: likewise.
    seeds: that both have.
  """

  mean: float
  low: float | None
  high: float | None
  seeds: int

  def words(self) -> str:
    """For a table."""
    if self.low is None or self.high is None:
      return f"{self.mean:+.2f} ({self.seeds} seeds, no interval)"
    return (
        f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"
        f" ({self.seeds} seeds)"
    )


@dataclasses.dataclass(frozen=True)
class Parent:
  """The candidate to build on.

  Attributes:
    id: candidate id.
    name: candidate name.
    source: its text.
    rationale: why it was made.
    metrics: name -> mean over seeds of the search split.
    versus_parent: metric -> difference to its own parent.
    versus_root: metric -> difference to the root.
    curve: training curve: name -> one value a step.
    reflection: what was learned from it.
    splits: of the runs behind these numbers; none if it was not measured.
  """

  id: str
  name: str
  source: str
  rationale: str = ""
  metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
  versus_parent: Mapping[str, Gap] = dataclasses.field(default_factory=dict)
  versus_root: Mapping[str, Gap] = dataclasses.field(default_factory=dict)
  curve: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)
  reflection: str = ""
  splits: frozenset[str] = frozenset()


class Ancestor(NamedTuple):
  """One step from the root to the parent."""

  name: str
  hypothesis: str
  outcome: str


class Reference(NamedTuple):
  """Another candidate, beside the parent; see `references` for the tiers."""

  name: str
  tier: str
  summary: str
  outcome: str
  source: str = ""


class Effect(NamedTuple):
  """What the campaign has seen of one mechanism, in points of Overall."""

  mechanism: str
  mean: float
  sd: float
  children: int


class Forbidden(NamedTuple):
  """What is not to be done again; `key` is a hash of its gradients."""

  key: str
  name: str
  what: str
  why: str


@dataclasses.dataclass(frozen=True)
class Context:
  """Everything that a proposal is made from.

  Attributes:
    label: unlike that of other proposals of the campaign, such as `012`.
    index: position of the new candidate, the last part of its name.
    parent: to build on.
    lineage: from the root to the parent, both included.
    references: other candidates.
    effects: of mechanisms so far.
    forbidden: what was tried or is known.
    notes: from the literature.
    directive: what is wanted, in the words of the objective; empty for Overall.
    limits: what all candidates have in common, such as the length limit.
  """

  label: str
  index: int
  parent: Parent
  lineage: Sequence[Ancestor] = ()
  references: Sequence[Reference] = ()
  effects: Sequence[Effect] = ()
  forbidden: Sequence[Forbidden] = ()
  notes: Sequence[literature.Note] = literature.NOTES
  directive: str = ""
  limits: str = ""

  def __post_init__(self):
    """Refuses results that the search may not see."""
    if others := sorted(self.parent.splits - {SEARCH_SPLIT}):
      raise ValueError(
          f"`parent.splits` must be {SEARCH_SPLIT!r} alone, got"
          f" {', '.join(others)}: agents may not see other results"
      )


def digest(
    curve: Mapping[str, Sequence[float]], points: int = _CURVE_POINTS
) -> dict[str, list[float]]:
  """Shortens curves to a few means over equal parts, rounded.

  Args:
    curve: name -> one value a step; values that are not finite are left out.
    points: parts of a curve; shorter ones are given as they are.
  """
  shortened = {}
  for name in _SHOWN_CURVES:
    values = np.asarray(curve.get(name, ()), float)
    values = values[np.isfinite(values)]
    if values.size:
      parts = np.array_split(values, min(points, values.size))
      shortened[name] = [float(f"{part.mean():.3g}") for part in parts]
  return shortened


def render(context: Context) -> str:
  """The context as text, the most important first."""
  parent = context.parent
  sections = [
      ("what is wanted", context.directive or "a higher Overall score"),
      ("what is the same for all", context.limits),
      (f"parent: {parent.name}", _about(parent)),
      (f"source of {parent.name}", parent.source),
      ("from the root to the parent", _lineage(context.lineage)),
      ("other candidates", _references(context.references)),
      ("effects of mechanisms so far", _effects(context.effects)),
      ("do not repeat", _forbidden(context.forbidden)),
      ("from the literature", literature.listed(context.notes)),
  ]
  return "\n".join(
      guide.fenced(title, text) for title, text in sections if text
  )


def _about(parent: Parent) -> str:
  """Rationale, numbers and reflection of the parent."""
  lines = [cut(parent.rationale)]
  if parent.metrics:
    lines.append("Means over its seeds: " + _numbers(parent.metrics))
  for words, gaps in (
      ("its own parent", parent.versus_parent),
      ("the root", parent.versus_root),
  ):
    lines += [
        f"{name} against {words}: {gap.words()}" for name, gap in gaps.items()
    ]
  for name, values in digest(parent.curve).items():
    lines.append(f"{name} over training: {' '.join(map(str, values))}")
  lines.append(cut(parent.reflection))
  return "\n".join(line for line in lines if line)


def _lineage(lineage: Sequence[Ancestor]) -> str:
  return "\n".join(
      f"- {a.name}: {cut(a.hypothesis, 300)} -> {cut(a.outcome, 200)}"
      for a in lineage
  )


def _references(references: Sequence[Reference]) -> str:
  lines = []
  for own in references:
    lines.append(
        f"- {own.name} ({own.tier}): {cut(own.summary, 400)} ->"
        f" {cut(own.outcome, 200)}"
    )
    if own.source:
      lines.append(own.source.strip())
  return "\n".join(lines)


def _effects(effects: Sequence[Effect]) -> str:
  return "\n".join(
      f"- {e.mechanism}: {e.mean:+.2f} ± {e.sd:.2f} points ({e.children}"
      " children)"
      for e in effects
  )


def _forbidden(forbidden: Sequence[Forbidden]) -> str:
  return "\n".join(
      f"- [{f.key[:12]}] {f.name}: {cut(f.what, 300)} ({cut(f.why, 200)})"
      for f in forbidden
  )


def _numbers(metrics: Mapping[str, Any]) -> str:
  return ", ".join(f"{k} {float(v):.4g}" for k, v in sorted(metrics.items()))


def cut(text: str, longest: int = _LONGEST_TEXT) -> str:
  """Cuts a text on one line, and says so."""
  text = " ".join(text.split())
  return text if len(text) <= longest else text[: longest - 4] + " ..."
