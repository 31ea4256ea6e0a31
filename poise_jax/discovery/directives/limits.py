"""Clauses with a number: limits of metrics, and what a campaign may spend."""

from typing import NamedTuple

from poise_jax.discovery.directives import (
    changes,
    clauses,
    lexicon,
    possible,
    scales,
    targets,
    words,
)
from poise_jax.discovery.objectives import objective as objectives

_K = lexicon.Kind
# Below, `length at most 5 %` is as likely to be of a change as of a value.
_CLEAR = 0.5
# How words end that could be counted.
_COUNTED = (
    "answers", "responses", "solutions", "outputs", "completions", "errors",
    "mistakes", "problems", "truncations", "solved",
)  # fmt: skip


class Spending(NamedTuple):
  """At most so much of `seconds`, `candidates` or `dollars`."""

  unit: str
  amount: float


def of(
    clause: clauses.Clause, about: list[targets.Target]
) -> list[objectives.Constraint | Spending]:
  """The limits that a clause with a number sets.

  Args:
    clause: with one number or multiple.
    about: its metrics.

  Raises:
    DirectiveError: if it has several numbers, or does not say of what.
  """
  quantities: list[lexicon.Quantity] = clause.all(_K.NUMBER)
  multiples: list[float] = clause.all(_K.TIMES)
  if len(quantities) + len(multiples) != 1:
    raise words.DirectiveError(
        "it has several numbers; set one limit in a clause, as in `at least A"
        " and at most B`"
    )
  if multiples:
    if not about:
      raise words.DirectiveError("it names no metric that the number is of")
    return [changes.multiple(clause, target, multiples[0]) for target in about]
  quantity = quantities[0]
  if not about:
    found = _unnamed(clause, quantity)
    if isinstance(found, Spending):
      return [found]
    about = [found]
  return [_limit(clause, target, quantity) for target in about]


def of_root(
    clause: clauses.Clause, target: targets.Target
) -> objectives.Constraint:
  """`at least as accurate as the root`: a limit at the root's own value."""
  if not clause.has(_K.ROOT):
    raise words.DirectiveError(
        "it sets a limit without a number; say how much, or compare with the"
        " root"
    )
  return possible.checked(
      objectives.Constraint(target.metric, _op(clause, target), 1.0, True)
  )


def _op(clause: clauses.Clause, target: targets.Target) -> objectives.Op:
  """Which side of a limit is allowed to the metric, whatever its word."""
  said = {value[0] for value in clause.all(_K.COMPARE)}
  if clause.has(_K.WITHIN):
    said.add("<")
  if not said:
    way = target.move or (scales.better(target.metric) or 0)
    upward = way > 0
    if not way or (clause.has(_K.ROOT) and not target.move):
      raise words.DirectiveError(
          f"it does not say whether {target.metric} is to be at most or at"
          " least that"
      )
    # What may rise to a value is to stay below it.
    said = {">" if upward != clause.has(_K.MAY) else "<"}
  elif target.sign < 0 or (clause.all(_K.QUALITY) and target.move):
    # `at least as short as`: the limit is of the word, not of the metric.
    turned = target.move if clause.all(_K.QUALITY) else target.sign
    if target.complement or (turned < 0 and not _measures(clause)):
      said = {"<" if side == ">" else ">" for side in said}
  if len(said) > 1:
    raise words.DirectiveError("it sets a limit on both sides of one number")
  less = "<" in said
  if clause.has(_K.NOT):
    less = not less
  return "<=" if less else ">="


def _measures(clause: clauses.Clause) -> bool:
  """Whether the number is a value with a unit, as in `under 200 tokens`."""
  return any(
      q.unit is None or q.unit.dimension not in ("%", "x")
      for q in clause.all(_K.NUMBER)
  )


def _unnamed(
    clause: clauses.Clause, quantity: lexicon.Quantity
) -> targets.Target | Spending:
  """What a number is of when only its unit tells."""
  unit = quantity.unit.dimension if quantity.unit else None
  things = clause.all(_K.OBJECT)
  if unit == "tokens" and "answer" in things:
    return targets.Target("response_length")
  if unit == "seconds" and "training" in things:
    return targets.Target("train_seconds")
  if unit in ("bits", "flops"):
    metric = "description_length" if unit == "bits" else "flops"
    return targets.Target(metric)
  if unit in clauses.BUDGETS:
    return _spending(clause, quantity)
  meant = {
      "tokens": "of response_length (per answer) or of tokens (in total)",
      "nats": "of entropy or of kl",
      "operations": "of flops, or of description_length, which is in bits",
  }.get(unit or "", "of which metric")
  raise words.DirectiveError(f"it does not say what the number is {meant}")


def _spending(clause: clauses.Clause, quantity: lexicon.Quantity) -> Spending:
  """A part of the budget of a campaign."""
  assert quantity.unit is not None
  unit = quantity.unit.dimension
  if any(value[0] == ">" for value in clause.all(_K.COMPARE)) != clause.has(
      _K.NOT
  ):
    raise words.DirectiveError(
        f"a budget is an upper limit; say at most how many {unit}"
    )
  whole = float(quantity.number).is_integer()
  if quantity.number <= 0 or (unit == "candidates" and not whole):
    raise words.DirectiveError(
        f"a budget of {unit} must be above 0, and candidates whole, got"
        f" {quantity.number:g}"
    )
  return Spending(unit, quantity.number)


def _limit(
    clause: clauses.Clause, target: targets.Target, quantity: lexicon.Quantity
) -> objectives.Constraint:
  """A limit of one metric."""
  unit = quantity.unit.dimension if quantity.unit else None
  part = quantity.number / 100
  if unit == "x":
    return changes.multiple(clause, target, quantity.number)
  if unit == "%" and changes.is_change(clause, target):
    return changes.of(clause, target, part)
  if clause.has(_K.BY) or (clause.has(_K.HARM) and unit != "%"):
    raise words.DirectiveError(
        f"a change of {target.metric} against the root must be given in % of"
        " the root's value, or as the value to reach"
    )
  if clause.has(_K.WITHIN) and unit == "%":
    return changes.near(target, part)
  if target.rise:
    return _risen(clause, target, quantity)
  return _level(clause, target, quantity)


def _level(
    clause: clauses.Clause, target: targets.Target, quantity: lexicon.Quantity
) -> objectives.Constraint:
  """A limit of the value that a metric has."""
  _check_measures(clause, target, quantity)
  unit = quantity.unit.dimension if quantity.unit else None
  part_kept = clause.has(_K.HOLD) and _is_of(clause) and unit == "%"
  of_root = clause.has(_K.ROOT) or part_kept
  if target.complement:
    if of_root:
      changes.check_measured(target)
    quantity = scales.complement(quantity)
  bound, relative = scales.level(target.metric, quantity, of_root)
  bound = round(bound, 9)
  if part_kept and not clause.has(_K.COMPARE) and bound <= 1:
    limit = objectives.Constraint(target.metric, ">=", bound, relative)
    return possible.checked(limit)
  said = clause.has(_K.ROOT, _K.TO) or part_kept
  if relative and bound < _CLEAR and not said:
    raise words.DirectiveError(
        f"it leaves open whether {target.metric} is to change by that or to"
        " be that part of the root's value; say `by at most`, or `of the"
        " root's`"
    )
  op = _op(clause, target)
  return possible.checked(
      objectives.Constraint(target.metric, op, bound, relative)
  )


def _check_measures(
    clause: clauses.Clause, target: targets.Target, quantity: lexicon.Quantity
) -> None:
  """Refuses a value of what has none: `stability above 0.5`.

  Raises:
    DirectiveError: naming what has one.
  """
  unit = quantity.unit.dimension if quantity.unit else None
  if scales.is_share(target.metric):
    if unit is None and quantity.number > 1 and _counts(clause):
      raise words.DirectiveError(
          f"{target.metric} is a share and no count; say it in %"
      )
    return
  own = unit is not None and unit == scales.dimension(target.metric)
  described = clause.all(_K.QUALITY) and not clause.has(_K.METRIC)
  if described:
    sized = any(q.name in ("length", "size") for q in clause.all(_K.QUALITY))
    fits = own or (sized and unit is None)
  elif target.sign < 0:
    fits = False
  else:
    fits = own or not target.fault or (unit == "%" and clause.has(_K.ROOT))
  if not fits:
    raise words.DirectiveError(
        f"its word has no value of its own; say it of {target.metric}, in"
        f" {scales.dimension(target.metric) or 'numbers without a unit'}, and"
        " whether at most or at least"
    )


def _counts(clause: clauses.Clause) -> bool:
  """Whether its metric is named by what could be counted: `wrong answers`."""
  return any(
      word.text.lower().endswith(_COUNTED)
      for word in clause.words
      if word.kind is _K.METRIC
  )


def _risen(
    clause: clauses.Clause, target: targets.Target, quantity: lexicon.Quantity
) -> objectives.Constraint:
  """`forgetting at most 5%`: by so much a metric may rise above the root's."""
  part = quantity.unit is not None and quantity.unit.dimension == "%"
  if not part or clause.has(_K.ROOT) or _op(clause, target) == ">=":
    raise words.DirectiveError(changes.RISE)
  return changes.near(target, quantity.number / 100)


def _is_of(clause: clauses.Clause) -> bool:
  """Whether it is a part of a metric: `95 % of the accuracy`.

  `95 % of the answers valid` is of the answers.
  """
  for i, word in enumerate(clause.words[:-1]):
    if word.kind is _K.NUMBER and clause.words[i + 1].text.lower() == "of":
      of = [w for w in clause.words[i + 2 :] if w.kind is not _K.FILLER]
      return bool(of) and of[0].kind in (_K.METRIC, _K.SET, _K.ROOT)
  return False
