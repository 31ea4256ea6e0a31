"""A directive's reading as a form that a language model fills in.

For sentences beyond the grammar of `reading`. The model only proposes: every
clause has to quote the directive, the quotes together have to hold all of its
words but links, metrics and mechanisms have to be ones that there are, and
bounds have to be possible. A clause that the model cannot place goes to
`unmeasurable`, which is an error here and is never dropped.
"""

from collections.abc import Collection, Iterator, Sequence
import itertools
import re
from typing import Literal, NamedTuple

import pydantic

from poise_jax.discovery.directives import bans as bans_lib
from poise_jax.discovery.directives import (
    lexicon,
    limits,
    meanings,
    parts,
    possible,
    reading,
    scales,
    words,
)
from poise_jax.discovery.objectives import objective as objectives

_LARGEST_MULTIPLE = 100.0

_WORD = re.compile(r"[^\W_]+")
_LINKING = (
    *(lexicon.Kind.FILLER, lexicon.Kind.BREAK, lexicon.Kind.IF),
    *(lexicon.Kind.AND, lexicon.Kind.STOP),
)
# What asks for nothing: `and`, `as long as`; and what is left of `I'd`.
_LINKS = frozenset(
    phrase for phrase, lexeme in words.TABLE.items() if lexeme.kind in _LINKING
) | frozenset((ending,) for ending in ("d", "ll", "m", "re", "s", "ve"))
_LONGEST_LINK = max(map(len, _LINKS))


class _Form(pydantic.BaseModel):
  """Strict: another field or another type is an error."""

  model_config = pydantic.ConfigDict(
      extra="forbid", frozen=True, allow_inf_nan=False
  )


class _Clause(_Form):
  """What a part of the directive asks for."""

  clause: str = pydantic.Field(
      max_length=words.LONGEST, description="words of the directive, verbatim"
  )


class Term(_Clause):
  """One metric to improve."""

  metric: str = pydantic.Field(description="one of those listed")
  direction: Literal["max", "min"]
  weight: float = pydantic.Field(
      default=1.0,
      gt=0,
      le=100,
      description="1 unless the directive says what counts more",
  )


class Constraint(_Clause):
  """One limit to keep."""

  metric: str = pydantic.Field(description="one of those listed")
  op: Literal["<=", ">="]
  bound: float = pydantic.Field(
      description=(
          "in the metric's own unit, or a multiple of the root's value: 0.7"
          " with <= is at least 30 % less, 0.98 with >= is no loss but noise"
      )
  )
  relative: bool = pydantic.Field(description="whether it is such a multiple")


class Ban(_Clause):
  """One mechanism not to use."""

  mechanism: str = pydantic.Field(description="a slot, or `slot=choice`")


class Spending(_Clause):
  """What the whole search may use at most."""

  unit: Literal["seconds", "candidates", "dollars"]
  amount: float = pydantic.Field(gt=0)


class Directive(_Form):
  """A whole directive, each of its clauses in one of the lists."""

  terms: list[Term] = pydantic.Field(default_factory=list, max_length=32)
  constraints: list[Constraint] = pydantic.Field(
      default_factory=list, max_length=32
  )
  bans: list[Ban] = pydantic.Field(default_factory=list, max_length=64)
  budget: list[Spending] = pydantic.Field(default_factory=list, max_length=8)
  unmeasurable: list[str] = pydantic.Field(
      default_factory=list,
      max_length=32,
      description=(
          "clauses, verbatim, that are ambiguous or that no metric measures"
      ),
  )

  @property
  def parts(self) -> Sequence[Term | Constraint | Ban | Spending]:
    """All that it asks for."""
    return (*self.terms, *self.constraints, *self.bans, *self.budget)


def instructions(metrics: Collection[str]) -> str:
  """What a model has to know to fill the form in.

  Args:
    metrics: that the search records.
  """
  listed = "\n".join(
      f"- {name}: {meanings.about(name)}" for name in sorted(metrics)
  )
  return f"""\
Somebody says in plain language what a search for training algorithms of a
language model is after. Fill the form in with what it says, and nothing else.
- Each clause goes into a list, its words quoted in `clause` as they stand there.
  Every word has to be in a quote, but for links such as `and`; quote reasons
  together with what they are reasons for.
- What is to become better is a term. What must not get worse, or is given with
  a number, is a constraint: without a number, one relative to the root, which is
  what the search starts from, with {scales.MARGIN:.0%} for noise.
- Bounds are of the metric itself: an error rate under 20 % is `overall` >= 80.
- What the whole search may use is its budget.
- Do not guess. What is ambiguous, or not measured by what is listed here, goes
  to `unmeasurable`; then somebody is asked to say it otherwise.
Metrics:
{listed}
Mechanisms that can be banned: {', '.join(bans_lib.names())}.
"""


def check(form: Directive, directive: str, metrics: Collection[str]) -> None:
  """Refuses a form that is no reading of the directive.

  Args:
    form: filled in.
    directive: the text that it is a reading of.
    metrics: that the search records.

  Raises:
    DirectiveError: naming what is wrong and what there is, for the model to
      mend. That something cannot be measured is no such fault.
  """
  _check_quotes(form, directive)
  for part in (*form.terms, *form.constraints):
    if part.metric not in metrics:
      raise words.DirectiveError(
          f"`metric` must be one of {', '.join(sorted(metrics))}, got"
          f" {words.shown(part.metric)!r}"
      )
  for term in form.terms:
    if scales.better(term.metric) == (-1 if term.direction == "max" else 1):
      raise words.DirectiveError(
          f"`direction` of {term.metric} must be that of improvement, got"
          f" {term.direction!r}; what it may cost is a constraint"
      )
  for limit in form.constraints:
    _check_bound(limit)
  known = bans_lib.names()
  for ban in form.bans:
    if ban.mechanism not in known:
      raise words.DirectiveError(
          "`mechanism` must be one of those that can be banned, got"
          f" {words.shown(ban.mechanism)!r}"
      )
  for one in form.budget:
    if one.unit == "candidates" and not one.amount.is_integer():
      raise words.DirectiveError(
          f"`amount` of candidates must be whole, got {one.amount:g}"
      )
  _objective(form)


def _check_quotes(form: Directive, directive: str) -> None:
  """Refuses what the directive does not say, and to leave out what it says."""
  left = _left(form, directive)
  if form.unmeasurable:
    return
  if not form.parts:
    raise words.DirectiveError("each clause must be in a list, got none")
  if left:
    raise words.DirectiveError(
        "`clause` of one part or another must quote every word that is no"
        f" link, got none with {words.shown(' '.join(left))!r}"
    )


def _check_bound(limit: Constraint) -> None:
  """Refuses a bound that nothing can reach, or that everything keeps."""
  if limit.relative:
    least, most = 0.0, _LARGEST_MULTIPLE
  elif limit.metric == "overall":
    least, most = 0.0, 100.0
  elif scales.is_share(limit.metric):
    least, most = 0.0, 1.0
  else:
    least, most = 0.0, float("inf")
  inside = least <= limit.bound <= most and (limit.bound or not limit.relative)
  if not inside:
    raise words.DirectiveError(
        f"`bound` of {limit.metric} must lie between {least:g} and {most:g}"
        f"{' times the root' if limit.relative else ''}, got {limit.bound:g}"
    )
  possible.check(_part(limit))


def understood(
    form: Directive, directive: str, metrics: Collection[str]
) -> reading.Reading:
  """The reading that a form stands for.

  Args:
    form: that passed `check`.
    directive: the text that it is a reading of.
    metrics: that the search records.

  Raises:
    DirectiveError: if a clause cannot be measured; lists what can be.
  """
  if form.unmeasurable:
    quoted = ", ".join(
        repr(_quoted(directive, clause)) for clause in form.unmeasurable
    )
    raise words.DirectiveError(
        f"cannot read {quoted}: it is ambiguous, or nothing measures it. Of use"
        f" is what can be measured: {', '.join(sorted(metrics))}; a budget in"
        " candidates or dollars; and parts of an algorithm can be banned"
    )
  return reading.Reading(
      text=directive,
      objective=_objective(form),
      budget=_budget(form.budget),
      sources=tuple(
          reading.Source(_quoted(directive, part.clause), _part(part))
          for part in form.parts
      ),
  )


def _part(part: Term | Constraint | Ban | Spending) -> parts.Part:
  if isinstance(part, Term):
    return objectives.Term(part.metric, part.direction, part.weight)
  if isinstance(part, Constraint):
    return objectives.Constraint(
        part.metric, part.op, part.bound, part.relative
    )
  if isinstance(part, Ban):
    return parts.Ban(part.mechanism)
  return limits.Spending(part.unit, part.amount)


def _objective(form: Directive) -> objectives.Objective:
  """What to improve, to keep and to leave alone.

  Raises:
    DirectiveError: if that contradicts itself.
  """
  try:
    return objectives.Objective(
        tuple(map(_part, form.terms)) or objectives.DEFAULT.terms,
        tuple(dict.fromkeys(map(_part, form.constraints))),
        tuple(dict.fromkeys(ban.mechanism for ban in form.bans)),
    )
  except ValueError as error:
    raise words.DirectiveError(str(error)) from error


def _budget(spendings: Sequence[Spending]) -> reading.Budget:
  """The tightest of each."""
  least: dict[str, float] = {}
  for one in spendings:
    least[one.unit] = min(least.get(one.unit, one.amount), one.amount)
  candidates = least.get("candidates")
  return reading.Budget(
      least.get("seconds"),
      None if candidates is None else int(candidates),
      least.get("dollars"),
  )


class _Word(NamedTuple):
  """A word without regard to case, and where it stands."""

  text: str
  start: int
  end: int


def _words(text: str) -> list[_Word]:
  return [
      _Word(match.group().casefold(), match.start(), match.end())
      for match in _WORD.finditer(text)
  ]


def _places(said: Sequence[_Word], quote: str) -> Iterator[range]:
  """Where the words of a quote stand, signs between them aside."""
  wanted = [word.text for word in _words(quote)]
  for i in range(len(said) - len(wanted) + 1) if wanted else ():
    if [word.text for word in said[i : i + len(wanted)]] == wanted:
      yield range(i, i + len(wanted))


def _quoted(directive: str, quote: str) -> str:
  """A quote as the directive has it.

  Raises:
    DirectiveError: if it does not.
  """
  said = _words(directive)
  for place in _places(said, quote):
    return words.shown(directive[said[place[0]].start : said[place[-1]].end])
  raise words.DirectiveError(
      f"`clause` must quote the directive, got {words.shown(quote)!r}"
  )


def _left(form: Directive, directive: str) -> list[str]:
  """Words that are in no quote and are no links.

  Raises:
    DirectiveError: if a quote is none.
  """
  said = _words(directive)
  covered: set[int] = set()
  for quote in (*(part.clause for part in form.parts), *form.unmeasurable):
    _quoted(directive, quote)
    covered.update(itertools.chain(*_places(said, quote)))
  left = []
  i = 0
  while i < len(said):
    link = 0 if i in covered else _link_at(said, i)
    if i not in covered and not link:
      left.append(said[i].text)
    i += max(link, 1)
  return left


def _link_at(said: Sequence[_Word], i: int) -> int:
  """How many words the link at a place has, 0 without one."""
  ahead = tuple(word.text for word in said[i : i + _LONGEST_LINK])
  sizes = range(len(ahead), 0, -1)
  return next((n for n in sizes if ahead[:n] in _LINKS), 0)
