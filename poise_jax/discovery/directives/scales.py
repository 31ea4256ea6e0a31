"""Of every metric: which way is better, its unit, and what is a safe margin."""

from collections.abc import Mapping

from poise_jax.discovery.directives import lexicon, words
from poise_jax.discovery.directives import sets as sets_lib
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import slacks

# Means of a few seeds differ by chance: a limit at the root's own value would
# refuse half of the candidates that are as good.
MARGIN = slacks.MARGIN
# Entropy that collapses loses most of itself; KL that explodes multiplies.
COLLAPSE, EXPLOSION = 0.5, 2.0

# +1 if more is better, -1 if less; where it depends, no entry.
BETTER: Mapping[str, int] = {
    "overall": 1,
    "valid_rate": 1,
    "truncated_rate": -1,
    "train_seconds": -1,
    "heldout_perplexity": -1,
    "description_length": -1,
    "tokens": -1,
    "flops": -1,
}
# Which way is worse, where neither is better as such.
_WORSE = {"response_length": 1, "greedy_length": 1, "kl": 1, "entropy": -1}
# The same for every seed, so that no margin is needed.
_EXACT = ("description_length",)
_DIMENSIONS = {
    "response_length": "tokens",
    "greedy_length": "tokens",
    "tokens": "tokens",
    "train_seconds": "seconds",
    "kl": "nats",
    "entropy": "nats",
    "description_length": "bits",
    "flops": "flops",
}
_SHARES = ("valid_rate", "truncated_rate")
_NATS_PER_BIT = 0.6931471805599453


def measurable() -> str:
  """What a directive may name, in one line."""
  sets = ", ".join(sets_lib.NAMES)
  families = ", ".join(f"{f}/SET" for f in objectives.FAMILIES)
  return (
      f"what can be measured: {', '.join(objectives.NAMES)}, {families}"
      f" (SET one of {sets}); a budget in hours, candidates or dollars; and"
      " parts of an algorithm can be banned"
  )


def better(metric: str) -> int | None:
  """+1 if more of a metric is better, -1 if less, None if it depends."""
  return 1 if "/" in metric else BETTER.get(metric)


def worse(metric: str) -> int:
  """+1 if more of a metric does harm, -1 if less."""
  good = better(metric)
  return _WORSE[metric] if good is None else -good


def held(metric: str, sign: int, strict: bool) -> objectives.Constraint:
  """A limit against moving one way from the root, with a margin for noise.

  Args:
    metric: its canonical name.
    sign: +1 against a rise, -1 against a fall.
    strict: without a margin.
  """
  margin = 0.0 if strict or metric in _EXACT else MARGIN
  op = "<=" if sign > 0 else ">="
  return objectives.Constraint(metric, op, round(1 + sign * margin, 9), True)


def is_share(metric: str) -> bool:
  """Whether a percentage is a value of the metric, not a part of one."""
  return metric == "overall" or metric in _SHARES or "/" in metric


def dimension(metric: str) -> str | None:
  """What a metric is measured in, None if it has no unit."""
  return _DIMENSIONS.get(metric)


def level(
    metric: str, quantity: lexicon.Quantity, of_root: bool
) -> tuple[float, bool]:
  """A value of a metric in its own unit, and whether it is one of the root's.

  Overall is in points of 100, other shares in parts of 1; a share may be given
  either way. A percentage of anything else is one of the root's value.

  Args:
    metric: its canonical name.
    quantity: what was said.
    of_root: if that is a multiple of the root's value.

  Raises:
    DirectiveError: if the unit is not that of the metric.
  """
  number, unit = quantity.number, quantity.unit and quantity.unit.dimension
  if unit == "x" or (of_root and unit is None):
    return number, True
  if unit == "%" and (of_root or not is_share(metric)):
    return number / 100, True
  if of_root:
    raise words.DirectiveError(
        "a limit relative to the root must be a percentage or a multiple of its"
        f" value, got {number:g} {unit or ''}; say `at least 98% of the root`"
    )
  if is_share(metric):
    return _share(metric, quantity), False
  own = dimension(metric)
  if (own, unit) == ("flops", "operations"):
    return number, False
  if (own, unit) == ("nats", "bits"):
    return number * _NATS_PER_BIT, False
  if unit is not None and unit != own:
    raise words.DirectiveError(
        f"{metric} is measured in {own or 'numbers without a unit'}, got"
        f" {unit}"
    )
  return number, False


def complement(quantity: lexicon.Quantity) -> lexicon.Quantity:
  """What is left of the whole: 20 % errors leave 80 % accuracy.

  Raises:
    DirectiveError: if it is no share.
  """
  points = _points("a share of answers", quantity)
  return lexicon.Quantity(round(100 - points, 9), lexicon.Unit("%"))


def _share(metric: str, quantity: lexicon.Quantity) -> float:
  """A share in points or in parts of 1, whichever the metric has."""
  points = _points(metric, quantity)
  return points if metric == "overall" else points / 100


def _points(name: str, quantity: lexicon.Quantity) -> float:
  """A share in points of 100."""
  number, unit = quantity.number, quantity.unit and quantity.unit.dimension
  if unit not in (None, "%", "points"):
    raise words.DirectiveError(f"{name} is measured in %, got {unit}")
  points = number * 100 if unit is None and 0 <= number <= 1 else number
  if not 0 <= points <= 100:
    raise words.DirectiveError(
        f"{name} lies between 0 and 100 %, got {number:g}"
    )
  return points
