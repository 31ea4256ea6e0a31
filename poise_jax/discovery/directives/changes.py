"""Limits on how far a metric moves: `30 % shorter`, `at most 2 x longer`."""

from poise_jax.discovery.directives import (
    clauses,
    lexicon,
    possible,
    scales,
    targets,
    words,
)
from poise_jax.discovery.objectives import objective as objectives

_K = lexicon.Kind
RISE = (
    "forgetting is a rise of heldout_perplexity; say by how much of the root's"
    " it may rise, as in `perplexity may rise by at most 5%`"
)


def is_change(
    clause: clauses.Clause, target: targets.Target, part: bool = True
) -> bool:
  """Whether a number is how much a metric moves, not what it becomes.

  Args:
    clause: with one number.
    target: what it is of.
    part: whether it is a percentage, and no multiple.

  Raises:
    DirectiveError: if it could be either.
  """
  if clause.has(_K.BY) or clause.has(_K.HARM):
    return True
  if not target.move or not target.compares or clause.has(_K.TO):
    return False
  said = [word for word in clause.words if word.kind is _K.COMPARE]
  # `more than` may be of a change, `above` is of a value.
  strict = any(
      word.value in ("<", ">") and not word.text.lower().endswith("than")
      for word in said
  )
  kinds = [word.kind for word in clause.words]
  number = _K.NUMBER if _K.NUMBER in kinds else _K.TIMES
  after = clause.words[kinds.index(number) :]
  compared = any(
      word.value in ("more", "less")
      or (word.kind is _K.QUALITY and word.value.more)
      for word in after
  )
  wished = target.move == scales.better(target.metric)
  share = part and scales.is_share(target.metric)
  if share and said and wished and not (strict or compared):
    raise words.DirectiveError(
        f"it leaves open whether {target.metric} is to change by that or to"
        " reach it; say `by at least` or `to at least`"
    )
  return compared or not strict


def of(
    clause: clauses.Clause, target: targets.Target, part: float
) -> objectives.Constraint:
  """A limit on a change by a part of the root's value.

  Args:
    clause: that says which way, and perhaps `at most` or `at least`.
    target: what moves.
    part: of the root's value, above 0.

  Raises:
    DirectiveError: if it is not clear, or no part of what is measured.
  """
  check_measured(target)
  if not target.move:
    raise words.DirectiveError(
        f"it does not say whether {target.metric} is to rise or fall"
    )
  bound = round(1 + target.move * part, 9)
  if bound < 0:
    raise words.DirectiveError(
        f"{target.metric} cannot fall by more than 100 %"
    )
  return _moved(clause, target, bound)


def _moved(
    clause: clauses.Clause, target: targets.Target, bound: float
) -> objectives.Constraint:
  """A limit on a move that ends at a multiple of the root's value."""
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
  op = ">=" if (target.move > 0) == least else "<="
  return possible.checked(objectives.Constraint(target.metric, op, bound, True))


def _permitted(clause: clauses.Clause, target: targets.Target) -> bool:
  """Whether a change is granted and not asked for."""
  granted = clause.has(_K.MAY) or clause.has(_K.NOT)
  return granted or scales.worse(target.metric) == target.move


def near(target: targets.Target, part: float) -> objectives.Constraint:
  """Within a percentage of the root, on the side that is worse."""
  if not target.rise:
    check_measured(target)
  way = scales.worse(target.metric)
  op = "<=" if way > 0 else ">="
  return possible.checked(
      objectives.Constraint(target.metric, op, round(1 + way * part, 9), True)
  )


def multiple(
    clause: clauses.Clause, target: targets.Target, factor: float
) -> objectives.Constraint:
  """`half the length`, `twice as fast`, `at most twice the tokens`.

  A move by a multiple goes the way it is said: to reduce 2 x is to halve.

  Args:
    clause: with one multiple.
    target: what it is of.
    factor: above 0.

  Raises:
    DirectiveError: if it contradicts the way that the metric is to move.
  """
  check_measured(target)
  if not factor > 0:
    raise words.DirectiveError(f"a multiple must be above 0, got {factor:g}")
  described = bool(clause.all(_K.QUALITY))
  turned = target.move < 0 if described else target.sign < 0
  bound = 1 / factor if turned else factor
  if not described and is_change(clause, target, part=False):
    bound = round(_agreeing(target, bound, factor), 4)
    return _moved(clause, target, bound)
  if described and not _is_likened(clause):
    # `shorten by half` and `to half`: both are half of it.
    agrees = (bound - 1) * target.move > 0
    bound = bound if agrees else _agreeing(target, factor, factor)
    turned = turned and not clause.has(_K.TO)
  said = {value[0] for value in clause.all(_K.COMPARE)}
  if said:
    less = ("<" in said) != turned
    less = less != clause.has(_K.NOT)
  else:
    less = (bound < 1) != clause.has(_K.NOT)
  op = "<=" if less else ">="
  return possible.checked(
      objectives.Constraint(target.metric, op, round(bound, 4), True)
  )


def _is_likened(clause: clauses.Clause) -> bool:
  """Whether it compares and does not move: `half as long`, `2 x as fast`."""
  return clause.has(_K.THAN) or any(
      word.text.lower().endswith(" as")
      for word in clause.words
      if word.kind is _K.TIMES
  )


def _agreeing(target: targets.Target, bound: float, factor: float) -> float:
  """The multiple on the side that the metric moves to."""
  if (bound - 1) * target.move > 0:
    return bound
  if factor > 1 and target.move:
    return 1 / bound
  raise words.DirectiveError(
      f"{factor:g} times {target.metric} is not where it is to move; say what"
      " part of the root's value it is to have"
  )


def check_measured(target: targets.Target) -> None:
  """Refuses changes of what is only the rest of a metric, or its rise.

  Raises:
    DirectiveError: with what to say instead.
  """
  if target.complement:
    raise words.DirectiveError(
        f"it is what is left of {target.metric}, and a part of that is no"
        " multiple of what is recorded; say the value to reach, as in `error"
        " rate under 20%`"
    )
  if target.rise:
    raise words.DirectiveError(RISE)
