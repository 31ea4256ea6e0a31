"""Clauses with a number: limits of metrics, and what a campaign may spend."""

from typing import NamedTuple

from poise_jax.discovery.directives import (
    clauses,
    lexicon,
    scales,
    targets,
    words,
)
from poise_jax.discovery.objectives import objective as objectives

_K = lexicon.Kind


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
    return [_multiple(clause, target, multiples[0]) for target in about]
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
  return objectives.Constraint(target.metric, _op(clause, target), 1.0, True)


def _op(clause: clauses.Clause, target: targets.Target) -> objectives.Op:
  """Which side of a limit is allowed."""
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
    said = {">" if upward else "<"}
  elif target.sign < 0 or (clause.all(_K.QUALITY) and target.move):
    # `at least as short as`: the limit is of the word, not of the metric.
    turned = target.move if clause.all(_K.QUALITY) else target.sign
    if turned < 0 and not _measures(clause):
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
  if unit in ("bits", "operations"):
    metric = "description_length" if unit == "bits" else "flops"
    return targets.Target(metric)
  if unit in clauses.BUDGETS:
    return _spending(clause, quantity)
  meant = {
      "tokens": "of response_length (per answer) or of tokens (in total)",
      "nats": "of entropy or of kl",
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
  if unit == "%" and _is_change(clause, target):
    return _changed(clause, target, quantity.number / 100)
  if unit == "x" and clause.all(_K.QUALITY):
    return _multiple(clause, target, quantity.number)
  if clause.has(_K.BY) or (clause.has(_K.HARM) and unit != "%"):
    raise words.DirectiveError(
        f"a change of {target.metric} against the root must be given in % of"
        " the root's value, or as the value to reach"
    )
  if clause.has(_K.WITHIN) and unit == "%":
    return _near(target, quantity.number / 100)
  part_kept = clause.has(_K.HOLD) and _is_of(clause) and unit == "%"
  bound, relative = scales.level(
      target.metric, quantity, clause.has(_K.ROOT) or part_kept
  )
  if part_kept and not clause.has(_K.COMPARE) and bound <= 1:
    return objectives.Constraint(target.metric, ">=", bound, relative)
  return _checked(target.metric, _op(clause, target), round(bound, 9), relative)


def _checked(
    metric: str, op: objectives.Op, bound: float, relative: bool
) -> objectives.Constraint:
  """A limit that is not on the side that nobody needs a limit on."""
  if scales.better(metric) == 1 and op == "<=":
    raise words.DirectiveError(
        f"it sets an upper limit on {metric}, of which more is better; say"
        " `at least`, or leave it out"
    )
  return objectives.Constraint(metric, op, bound, relative)


def _is_of(clause: clauses.Clause) -> bool:
  """Whether it is a part of something: `95 % of the accuracy`."""
  for before, after in zip(clause.words, clause.words[1:], strict=False):
    if before.kind is _K.NUMBER and after.text.lower() == "of":
      return True
  return False


def _is_change(clause: clauses.Clause, target: targets.Target) -> bool:
  """Whether a percentage is how much a metric moves, not what it becomes."""
  if clause.has(_K.BY) or clause.has(_K.HARM):
    return True
  if not target.move or clause.has(_K.TO):
    return False
  strict = any(value in ("<", ">") for value in clause.all(_K.COMPARE))
  kinds = [word.kind for word in clause.words]
  after = clause.words[kinds.index(_K.NUMBER) :]
  compared = any(
      word.value in ("more", "less")
      or (word.kind is _K.QUALITY and word.value.more)
      for word in after
  )
  return compared or not strict


def _changed(
    clause: clauses.Clause, target: targets.Target, part: float
) -> objectives.Constraint:
  """A limit on how far a metric moves: `30 % shorter`, `at most 2 % worse`."""
  if not target.move:
    raise words.DirectiveError(
        f"it does not say whether {target.metric} is to rise or fall"
    )
  said = {value[0] for value in clause.all(_K.COMPARE)}
  if clause.has(_K.NOT):
    said = {"<"} if ">" in said or not said else {">"}
  if clause.has(_K.MAY) or (clause.has(_K.HARM) and not said):
    said = said or {"<"}
  wanted = scales.better(target.metric) in (None, target.move)
  if said == {"<"} and wanted and not _permitted(clause, target):
    raise words.DirectiveError(
        f"`at most` of a change of {target.metric} for the better is"
        " unclear; say `at least`, or which value to stay above"
    )
  least = said != {"<"}
  bound = round(1 + target.move * part, 9)
  if bound < 0:
    raise words.DirectiveError(
        f"{target.metric} cannot fall by more than 100 %"
    )
  op = ">=" if (target.move > 0) == least else "<="
  return _checked(target.metric, op, bound, True)


def _permitted(clause: clauses.Clause, target: targets.Target) -> bool:
  """Whether a change is granted and not asked for."""
  granted = clause.has(_K.MAY) or clause.has(_K.NOT)
  return granted or scales.worse(target.metric) == target.move


def _near(target: targets.Target, part: float) -> objectives.Constraint:
  """Within a percentage of the root, on the side that is worse."""
  way = scales.worse(target.metric)
  return objectives.Constraint(
      target.metric, "<=" if way > 0 else ">=", round(1 + way * part, 9), True
  )


def _multiple(
    clause: clauses.Clause, target: targets.Target, factor: float
) -> objectives.Constraint:
  """`half the length`, `twice as fast`, `at most twice the tokens`."""
  turned = target.move < 0 if clause.all(_K.QUALITY) else target.sign < 0
  said = {value[0] for value in clause.all(_K.COMPARE)}
  if not factor > 0:
    raise words.DirectiveError(f"a multiple must be above 0, got {factor:g}")
  bound = 1 / factor if turned else factor
  if said:
    less = ("<" in said) != turned
    less = less != clause.has(_K.NOT)
  else:
    less = (bound < 1) != clause.has(_K.NOT)
  op = "<=" if less else ">="
  return _checked(target.metric, op, round(bound, 4), True)
