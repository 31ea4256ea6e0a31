"""Directives in plain language, read into the objective of a search.

    shorter answers without losing accuracy; keep it simple

is: response_length down, description_length down, overall at least 0.98 of the
root's. By a grammar, so that the same words always mean the same. Every word
has to be known, and every clause to mean something that is measured: nothing
is dropped. See `parts` for what is read where words leave it open.
"""

from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from poise_jax.discovery.directives import (
    clauses,
    lexicon,
    limits,
    meanings,
    parts,
    scales,
    sharing,
    words,
)
from poise_jax.discovery.objectives import objective as objectives

DirectiveError = words.DirectiveError


@dataclasses.dataclass(frozen=True)
class Budget:
  """What a campaign may use; None is no limit.

  Attributes:
    seconds: of wall-clock time.
    candidates: number of them.
    dollars: for a language model.
  """

  seconds: float | None = None
  candidates: int | None = None
  dollars: float | None = None


class Source(NamedTuple):
  """Which words became what.

  Attributes:
    clause: as it was written.
    part: what it asks for.
  """

  clause: str
  part: parts.Part


@dataclasses.dataclass(frozen=True)
class Reading:
  """A directive and what it was understood to say.

  Attributes:
    text: the directive.
    objective: what to improve, to keep and to leave alone.
    budget: what a campaign may use; no part of an objective.
    sources: clause by clause.
    mended: what was misspelt, and how it was read.
  """

  text: str
  objective: objectives.Objective
  budget: Budget
  sources: tuple[Source, ...]
  mended: tuple[tuple[str, str], ...] = ()


def read(text: str) -> objectives.Objective:
  """The objective that a directive asks for.

  Args:
    text: one or more sentences in English, at most 4,000 characters.

  Returns:
    Its terms, constraints and bans; with nothing to improve, Overall is. A
    budget is not part of it: see `parse`.

  Raises:
    DirectiveError: if a clause is ambiguous, contradicts another or cannot be
      measured; names it, and lists what can be.
  """
  return parse(text).objective


def parse(text: str) -> Reading:
  """The same as `read`, with the budget and with what each clause became.

  Args:
    text: as in `read`.

  Raises:
    DirectiveError: as in `read`.
  """
  if not isinstance(text, str):
    raise DirectiveError(f"`text` must be text, got {type(text).__name__}")
  try:
    cut = words.read(text)
  except DirectiveError as error:
    raise DirectiveError(f"{error}. Of use is {scales.measurable()}") from error
  sources: list[Source] = []
  before = None
  for clause in sharing.completed(clauses.split(cut)):
    try:
      _check_choice(clause)
      found = _parts(clause, before)
      _check_exemption(clause, before, sources)
    except ValueError as error:
      raise DirectiveError(
          f"cannot read {clause.text!r}: {error}. Of use is"
          f" {scales.measurable()}"
      ) from error
    sources += [Source(clause.text, part) for part in found]
    before = clause
  if not sources:
    raise DirectiveError(
        f"{words.shown(text)!r} asks for nothing. Of use is"
        f" {scales.measurable()}"
    )
  return Reading(
      text,
      _objective(sources),
      _budget(sources),
      tuple(sources),
      tuple(cut.mended.items()),
  )


def _check_choice(clause: clauses.Clause) -> None:
  """Refuses `A or B`, unless it is neither of them that is asked for."""
  granted = (
      lexicon.Kind.NOT,
      lexicon.Kind.MAY,
      lexicon.Kind.FREE,
      lexicon.Kind.HARM,
      lexicon.Kind.HOLD,
  )
  if clause.link is lexicon.Kind.OR and not clause.has(*granted):
    raise DirectiveError(
        "`or` leaves open which of two is asked for; say one, or `and`"
    )


def _check_exemption(
    clause: clauses.Clause,
    before: clauses.Clause | None,
    sources: Sequence[Source],
) -> None:
  """Refuses `unless` where it is no limit on what is to be improved.

  `shorter answers unless accuracy falls` keeps accuracy; `no penalties unless
  accuracy falls` allows them if it does.
  """
  if not clause.says("unless"):
    return
  follows = before is not None and clause.link is not lexicon.Kind.STOP
  if not follows or not isinstance(sources[-1].part, objectives.Term):
    raise DirectiveError(
        "`unless` can only limit what is to be improved before it, as in"
        " `shorter answers unless accuracy falls`; say what is to hold"
    )


def _parts(
    clause: clauses.Clause, before: clauses.Clause | None
) -> list[parts.Part]:
  """What a clause asks for, under the negation before it if need be.

  `no longer answers and slower training`: nobody asks for what is worse.
  """
  found = parts.of(clause)
  denied = (
      before is not None
      and before.has(lexicon.Kind.NOT)
      and clause.link is lexicon.Kind.AND
      and not clause.has(lexicon.Kind.NOT)
  )
  if denied and any(_is_worse(part) for part in found):
    assert before is not None
    negations = [w for w in before.words if w.kind is lexicon.Kind.NOT]
    return parts.of(clause.plus(negations))
  return found


def _is_worse(part: parts.Part) -> bool:
  """Whether it is a term that makes a metric worse."""
  if not isinstance(part, objectives.Term):
    return False
  return scales.worse(part.metric) == (1 if part.direction == "max" else -1)


def explain(reading: Reading | objectives.Objective) -> list[str]:
  """A reading as a table of words and what they became, or an objective.

  Args:
    reading: from `parse`; or an objective, whose words are not known.

  Returns:
    Lines of text, without their ends.
  """
  if isinstance(reading, objectives.Objective):
    return [
        *(_term(term) for term in reading.terms),
        *(f"keep {_limit(c)}" for c in reading.constraints),
        *(f"do not use {ban}" for ban in reading.bans),
    ]
  rows = [(source.clause, _said(source.part)) for source in reading.sources]
  named = {s.part.metric for s in reading.sources
           if isinstance(s.part, objectives.Term)}  # fmt: skip
  ranked = any(isinstance(s.part, parts.Importance) for s in reading.sources)
  for term in reading.objective.terms:
    if term.metric not in named or ranked:
      rows.append(("(together)" if ranked else "(not said)", _term(term)))
  width = min(max(len(clause) for clause, _ in rows), 60)
  lines = [f"{clause[:60]:<{width}}  {said}" for clause, said in rows]
  return lines + [f"read {wrong!r} as {right!r}" for wrong, right in
                  reading.mended]  # fmt: skip


def _said(part: parts.Part) -> str:
  """One part in words."""
  if isinstance(part, objectives.Term):
    return _term(part)
  if isinstance(part, objectives.Constraint):
    return f"keep {_limit(part)}"
  if isinstance(part, parts.Ban):
    return f"do not use {part.mechanism}"
  if isinstance(part, limits.Spending):
    return f"spend at most {part.amount:g} {part.unit}"
  if isinstance(part, parts.Free):
    return f"leave {part.metric} free"
  against = ", ".join(part.others) or "the rest"
  return f"weigh {', '.join(part.metrics)} {part.factor:g} x {against}"


def _term(term: objectives.Term) -> str:
  verb = "maximise" if term.direction == "max" else "minimise"
  note = meanings.note(term.metric)
  return f"{verb} {term.metric}, weight {term.weight:g}{note}"


def _limit(limit: objectives.Constraint) -> str:
  of = " of the root's" if limit.relative else ""
  note = meanings.note(limit.metric)
  return f"{limit.metric} {limit.op} {limit.bound:g}{of}{note}"


def _quoted(sources: Sequence[Source], metric: str) -> str:
  """The clauses that speak of a metric."""
  found = [
      source.clause
      for source in sources
      if getattr(source.part, "metric", None) == metric
  ]
  return " and ".join(repr(clause) for clause in dict.fromkeys(found))


def _objective(sources: Sequence[Source]) -> objectives.Objective:
  """Joins the parts.

  Raises:
    DirectiveError: if they contradict each other.
  """
  terms = _weighed(sources, _terms(sources))
  limited = [
      s.part for s in sources if isinstance(s.part, objectives.Constraint)
  ]
  bans = [s.part.mechanism for s in sources if isinstance(s.part, parts.Ban)]
  for source in sources:
    if isinstance(source.part, parts.Free):
      metric = source.part.metric
      if metric in terms or metric in [c.metric for c in limited]:
        raise DirectiveError(
            f"{_quoted(sources, metric)} contradict each other about {metric};"
            " leave one out"
        )
  wanted = tuple(terms.values()) or objectives.DEFAULT.terms
  if len(wanted) == 1:
    wanted = (dataclasses.replace(wanted[0], weight=1.0),)
  try:
    return objectives.Objective(
        wanted, tuple(dict.fromkeys(limited)), tuple(dict.fromkeys(bans))
    )
  except ValueError as error:
    clashing = [m for m in {c.metric for c in limited}
                if [c.metric for c in limited].count(m) > 1]  # fmt: skip
    quoted = "; ".join(_quoted(sources, metric) for metric in sorted(clashing))
    raise DirectiveError(
        f"clauses contradict each other: {quoted} ({error})"
    ) from error


def _terms(sources: Sequence[Source]) -> dict[str, objectives.Term]:
  """What is to be improved, each metric once."""
  terms: dict[str, objectives.Term] = {}
  for source in sources:
    part = source.part
    if not isinstance(part, objectives.Term):
      continue
    other = terms.get(part.metric, part)
    if other.direction != part.direction:
      raise DirectiveError(
          f"{_quoted(sources, part.metric)} contradict each other: more and"
          f" less of {part.metric}; leave one out"
      )
    # Said twice, it counts as what departs from the usual weight.
    if part.metric not in terms or part.weight != 1:
      terms[part.metric] = part
  return terms


def _weighed(
    sources: Sequence[Source], terms: dict[str, objectives.Term]
) -> dict[str, objectives.Term]:
  """Applies what was said of importance, adding terms that only it names."""
  for source in sources:
    part = source.part
    if not isinstance(part, parts.Importance):
      continue
    named = (*part.metrics, *part.others)
    limited = {s.part.metric for s in sources
               if isinstance(s.part, objectives.Constraint)}  # fmt: skip
    for metric, way in zip(named, part.ways, strict=True):
      if metric in terms or (metric in limited and not part.others):
        continue
      way = way or (-1 if metric == "response_length" else None)
      if way is None:
        raise DirectiveError(
            f"cannot read {source.clause!r}: say whether to raise or lower"
            f" {metric}. Of use is {scales.measurable()}"
        )
      direction = "max" if way > 0 else "min"
      terms[metric] = objectives.Term(metric, direction)
  # `A twice B, B twice C`: from the last, so that A is four times C.
  for source in reversed(sources):
    part = source.part
    if not isinstance(part, parts.Importance):
      continue
    known = [terms[m].weight for m in part.others if m in terms]
    weight = part.factor * max(known, default=1.0)
    for metric in part.metrics:
      if metric in terms:
        terms[metric] = dataclasses.replace(terms[metric], weight=weight)
  return terms


def _budget(sources: Sequence[Source]) -> Budget:
  """The tightest of each."""
  found: dict[str, float] = {}
  for source in sources:
    if isinstance(source.part, limits.Spending):
      unit, amount = source.part
      found[unit] = min(found.get(unit, amount), amount)
  candidates = found.get("candidates")
  return Budget(
      found.get("seconds"),
      None if candidates is None else int(candidates),
      found.get("dollars"),
  )
