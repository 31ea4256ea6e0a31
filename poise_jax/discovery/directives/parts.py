"""What a clause asks for: terms, limits, bans, a budget.

Readings that a person would choose, where words leave it open:

- to keep a metric, or not to harm it, is a limit at the root's value with a
  margin of 2 % for noise; `strictly` and `at all` take the margin away;
- to keep what costs low (`keep it simple`) is something to improve; to keep
  what is good high is a limit;
- a change by a percentage is a limit; without one, something to improve;
- `at most 2 hours` is the budget of the campaign unless training is named.
"""

from typing import NamedTuple

from poise_jax.discovery.directives import (
    clauses,
    lexicon,
    limits,
    possible,
    scales,
    scope,
    targets,
    words,
)
from poise_jax.discovery.objectives import objective as objectives

_K = lexicon.Kind


class Ban(NamedTuple):
  """A mechanism not to use."""

  mechanism: str


class Free(NamedTuple):
  """A metric that may go where it likes."""

  metric: str


class Importance(NamedTuple):
  """How much the first metrics count against the others.

  The others are the terms of the other clauses if none is named. `ways` is
  what each would be improved to, None where that has to be said elsewhere.
  """

  metrics: tuple[str, ...]
  others: tuple[str, ...]
  factor: float
  ways: tuple[int | None, ...]


Part = (
    objectives.Term
    | objectives.Constraint
    | Ban
    | Free
    | Importance
    | limits.Spending
)


def of(clause: clauses.Clause) -> list[Part]:
  """Everything that a clause asks for.

  Raises:
    DirectiveError: if nothing, or nothing that can be measured.
  """
  scope.check(clause)
  made = _asked(clause)
  limit = (objectives.Constraint, limits.Spending)
  if clause.has(_K.IF) and not all(isinstance(part, limit) for part in made):
    raise words.DirectiveError(
        "a condition can't be expressed unless it is a limit to keep, as in `if"
        " accuracy does not fall`"
    )
  return made


def _asked(clause: clauses.Clause) -> list[Part]:
  """What the words of a clause come to."""
  if clause.has(_K.MECHANISM):
    return list(_bans(clause))
  if len(clause.all(_K.NOT)) > 1:
    raise words.DirectiveError(
        "it negates twice; say what is wanted without a double negation"
    )
  if clause.has(_K.IMPORTANT) or _ranks(clause):
    return [_importance(clause)]
  about = targets.of(clause)
  if clause.has(_K.FREE):
    return _free(about)
  made: list[Part] = []
  if clause.has(_K.NUMBER, _K.TIMES):
    made += limits.of(clause, about)
  elif clause.has(_K.USE) and not about:
    raise words.DirectiveError("it names nothing that can be used or banned")
  else:
    for target in about:
      made += _unnumbered(clause, target)
  if not made:
    raise words.DirectiveError(_missing(clause))
  _check_all_said(clause, made)
  return made


def _check_all_said(clause: clauses.Clause, made: list[Part]) -> None:
  """Refuses words that would be dropped.

  Raises:
    DirectiveError: naming them.
  """
  unused: list[lexicon.Kind] = []
  if not any(isinstance(part, objectives.Term) for part in made):
    # Of a limit, `above all` says nothing new; `if possible` does.
    if any(factor < 1 for factor in clause.all(_K.WEIGHT)):
      unused.append(_K.WEIGHT)
  if clause.has(_K.NUMBER, _K.TIMES):
    unused += [_K.COLLAPSE, _K.EXPLODE, _K.TOO, _K.WEIGH]
  else:
    unused += [_K.BY, _K.WEIGH]
  left = [word.text for word in clause.words if word.kind in unused]
  if left:
    raise words.DirectiveError(
        f"{' and '.join(map(repr, left))} would be dropped; a limit holds or"
        " does not, so say how much, or leave it out"
    )


def _missing(clause: clauses.Clause) -> str:
  """Why a clause without a metric says too little."""
  if clause.has(_K.IMPROVE):
    return "`better` needs a metric: say in what"
  return "it names no metric"


def _bans(clause: clauses.Clause) -> list[Ban]:
  """Mechanisms can only be banned: what is used is for the search to find."""
  banned = clause.has(_K.NOT) or clause.has(_K.FREE)
  others = (_K.METRIC, _K.QUALITY, _K.NUMBER, _K.CHANGE, _K.IMPROVE, _K.HOLD)
  if not banned or clause.has(*others) or len(clause.all(_K.NOT)) > 1:
    raise words.DirectiveError(
        "parts of an algorithm can only be banned, as in `no length"
        " penalties`"
    )
  mechanisms = [m for group in clause.all(_K.MECHANISM) for m in group]
  return [Ban(name) for name in dict.fromkeys(mechanisms)]


def _free(about: list[targets.Target]) -> list[Part]:
  if not about:
    raise words.DirectiveError("it names no metric that does not count")
  return [Free(target.metric) for target in about]


def _ranks(clause: clauses.Clause) -> bool:
  """Whether `over` stands between two metrics: `accuracy over length`."""
  compared = clause.has(_K.COMPARE) and clause.says("over")
  beyond = clause.says("beyond") or clause.says("above")
  joined = (compared or beyond) and len(clause.all(_K.METRIC)) > 1
  return joined and not clause.has(_K.NUMBER, _K.ROOT, _K.CHANGE)


def _importance(clause: clauses.Clause) -> Importance:
  """`A is twice as important as B`; the sign of each by what is better."""
  at = next(
      i
      for i, w in enumerate(clause.words)
      if w.kind in (_K.IMPORTANT, _K.COMPARE)
  )
  factor = clause.words[at].value
  sides = []
  for side in (clause.words[:at], clause.words[at + 1 :]):
    part = clauses.Clause(side, clause.link, clause.text)
    sides.append(targets.of(part))
  first, second = sides
  operand = clause.words[at].text.lower().endswith((" as", " of", " than"))
  if not first and len(second) == 2 and clause.has(_K.THAN):
    first, second = second[:1], second[1:]
  if not first and not operand and not clause.has(_K.COMPARE):
    first, second = second, first
  if not first:
    raise words.DirectiveError("it does not name the metric that counts more")
  ways = tuple(_wanted(target) for target in (*first, *second))
  return Importance(
      tuple(target.metric for target in first),
      tuple(target.metric for target in second),
      float(factor) if isinstance(factor, float) else 2.0,
      ways,
  )


def _wanted(target: targets.Target) -> int | None:
  """Which way a metric is improved that is only named."""
  if target.move:
    return target.move
  if target.fault:
    return -target.sign
  if target.sign < 0:
    return target.sign
  return scales.better(target.metric)


def _unnumbered(clause: clauses.Clause, target: targets.Target) -> list[Part]:
  """What is asked of one metric without a number."""
  if clause.has(_K.COLLAPSE, _K.EXPLODE):
    return [_extreme(clause, target)]
  if clause.has(_K.COMPARE) or (clause.has(_K.ROOT) and clause.has(_K.WITHIN)):
    return [limits.of_root(clause, target)]
  if clause.has(_K.STEADY):
    return list(_steady(clause, target))
  if clause.has(_K.HOLD):
    return list(_kept(clause, target))
  if clause.has(_K.HARM):
    return [_unharmed(clause, target)]
  if clause.has(_K.TOO):
    return [_term(target._replace(move=-target.move), clause)]
  if clause.has(_K.NOT):
    return [_prevented(clause, target)]
  return [_wished(clause, target)]


def _unharmed(clause: clauses.Clause, target: targets.Target) -> Part:
  """What is not to get worse."""
  # `minimal loss of accuracy`: the change is of the loss.
  little = any(value in (-1, "low", "less") for value in clause.all(_K.CHANGE))
  if not clause.has(_K.NOT) and not little:
    raise words.DirectiveError(
        f"it gives {target.metric} up without a limit; say by how much it may"
        " get worse, as in `lose at most 2 % of it`"
    )
  return scales.held(target.metric, target.move, clause.has(_K.STRICT))


def _wished(clause: clauses.Clause, target: targets.Target) -> Part:
  """What is to become better, or may become worse."""
  if clause.has(_K.ROOT) and target.move and not target.compares:
    # `as accurate as the root`; `more accurate than it` is any improvement.
    op = ">=" if target.move > 0 else "<="
    return possible.checked(objectives.Constraint(target.metric, op, 1.0, True))
  if clause.has(_K.MAY):
    if not target.move or clause.has(_K.WEIGHT):
      raise words.DirectiveError(
          f"it does not say by how much {target.metric} may change"
      )
    if target.move == scales.worse(target.metric):
      return Free(target.metric)
  return _term(target, clause)


def _prevented(clause: clauses.Clause, target: targets.Target) -> Part:
  """What is not to happen to a metric."""
  good = scales.better(target.metric)
  if target.move and target.move == good and target.compares:
    raise words.DirectiveError(
        f"it says not to improve {target.metric}; leave it out, or say what to"
        " do instead"
    )
  aims = ("maxim", "minim", "optimi")
  if any(word.text.lower().startswith(aims) for word in clause.words):
    raise words.DirectiveError("it says what is no aim; say what is one")
  if target.fault and not target.move:
    return _term(target, clause)
  if not target.move:
    raise words.DirectiveError(
        f"it does not say what {target.metric} is not to do: rise or fall?"
    )
  if not target.compares:
    return _term(target._replace(move=-target.move), clause)
  return scales.held(target.metric, target.move, clause.has(_K.STRICT))


def _term(target: targets.Target, clause: clauses.Clause) -> objectives.Term:
  """Something to improve, as far as it counts."""
  way = target.move or _wanted(target)
  if not way and target.metric == "response_length" and clause.has(_K.WEIGHT):
    # `accuracy first, length second`: what counts there is to be short.
    way = -1
  if not way:
    raise words.DirectiveError(
        f"neither more nor less of {target.metric} is better as such: say"
        " whether to raise or lower it"
    )
  if way < 0 and scales.better(target.metric) == 1:
    raise words.DirectiveError(
        f"it asks for less of {target.metric}, of which more is better; say"
        " what it may cost instead, as in `lose at most 2 % of it`"
    )
  weight = 1.0
  for factor in clause.all(_K.WEIGHT):
    weight *= factor
  return objectives.Term(target.metric, "max" if way > 0 else "min", weight)


def _extreme(clause: clauses.Clause, target: targets.Target) -> Part:
  """`don't let entropy collapse`, `keep KL from exploding`."""
  if not (clause.has(_K.NOT) or clause.has(_K.HOLD)):
    raise words.DirectiveError(
        f"it asks for {target.metric} to collapse or explode; say to avoid it"
    )
  if clause.has(_K.COLLAPSE):
    op, bound = ">=", scales.COLLAPSE
  else:
    op, bound = "<=", scales.EXPLOSION
  return objectives.Constraint(target.metric, op, bound, True)


def _steady(
    clause: clauses.Clause, target: targets.Target
) -> list[objectives.Constraint]:
  """The same as the root: both ways where neither is worse as such."""
  strict, worse = clause.has(_K.STRICT), scales.worse(target.metric)
  if target.metric == "entropy":
    return [scales.held(target.metric, way, strict) for way in (-1, 1)]
  return [scales.held(target.metric, worse, strict)]


def _kept(clause: clauses.Clause, target: targets.Target) -> list[Part]:
  """`keep accuracy`, `keep KL low`, `keep entropy from falling`."""
  strict, worse = clause.has(_K.STRICT), scales.worse(target.metric)
  changed = clause.all(_K.CHANGE)
  verb = any(value in (1, -1) for value in changed)
  if clause.has(_K.NOT) and not target.move:
    raise words.DirectiveError(
        f"it says not to keep {target.metric}; say whether to raise or lower it"
    )
  if clause.has(_K.NOT) or (verb and clause.says("from")):
    return [scales.held(target.metric, target.move, strict)]
  if clause.has(_K.HARM):
    return [scales.held(target.metric, target.move, strict)]
  if not target.move:
    way = target.sign if target.fault else worse
    return [scales.held(target.metric, way, strict)]
  good = scales.is_share(target.metric) or target.metric in ("entropy", "kl")
  plain = not target.compares and not clause.has(_K.TOO)
  stays = target.metric != "kl" or any(
      q.name == "stability" for q in clause.all(_K.QUALITY)
  )
  if good and plain and target.move == -worse and stays:
    return [scales.held(target.metric, worse, strict)]
  if clause.has(_K.TOO):
    target = target._replace(move=-target.move)
  return [_term(target, clause)]
