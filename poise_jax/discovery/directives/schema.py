"""A directive's reading as a form that a language model fills in.

For sentences beyond the grammar of `directives`. The model only proposes: the
form is checked by the rules of `objective`, and a clause that it cannot place
goes to `unmeasurable`, which is an error here and is never dropped.
"""

import json
from typing import Literal

import pydantic

from poise_jax.discovery.directives import bans as bans_lib
from poise_jax.discovery.directives import scales, words
from poise_jax.discovery.objectives import objective as objectives


class _Form(pydantic.BaseModel):
  """Strict: another field or another type is an error."""

  model_config = pydantic.ConfigDict(
      extra="forbid", frozen=True, allow_inf_nan=False
  )


class Term(_Form):
  """One metric to improve."""

  clause: str = pydantic.Field(description="words of the directive, verbatim")
  metric: str = pydantic.Field(description="canonical name")
  direction: Literal["max", "min"]
  weight: float = pydantic.Field(default=1.0, gt=0, le=100)


class Constraint(_Form):
  """One limit to keep."""

  clause: str = pydantic.Field(description="words of the directive, verbatim")
  metric: str = pydantic.Field(description="canonical name")
  op: Literal["<=", ">="]
  bound: float = pydantic.Field(
      description=(
          "in the metric's own unit, or a multiple of the root's value: 0.7"
          " with <= is at least 30 % less, 0.98 with >= is no loss but noise"
      )
  )
  relative: bool = pydantic.Field(description="whether it is such a multiple")


class Ban(_Form):
  """One mechanism not to use."""

  clause: str = pydantic.Field(description="words of the directive, verbatim")
  mechanism: str = pydantic.Field(description="a slot, or `slot=choice`")


class Budget(_Form):
  """What a campaign may use; null where nothing is said."""

  seconds: float | None = pydantic.Field(default=None, gt=0)
  candidates: int | None = pydantic.Field(default=None, gt=0)
  dollars: float | None = pydantic.Field(default=None, gt=0)


class Directive(_Form):
  """A whole directive, each of its clauses in one of the lists."""

  terms: list[Term] = pydantic.Field(default_factory=list, max_length=32)
  constraints: list[Constraint] = pydantic.Field(
      default_factory=list, max_length=32
  )
  bans: list[Ban] = pydantic.Field(default_factory=list, max_length=64)
  budget: Budget = pydantic.Field(default_factory=Budget)
  unmeasurable: list[str] = pydantic.Field(
      default_factory=list,
      max_length=32,
      description="clauses that are ambiguous or that no metric measures",
  )


def instructions() -> str:
  """What a model has to know to fill the form in."""
  return (
      "Put every clause of the directive in exactly one list. Quote it"
      " verbatim in `clause`. Do not guess: what is ambiguous or not measured"
      f" goes to `unmeasurable`. {scales.measurable()}. Overall is in points"
      " of 100, scores of a set and rates in parts of 1. Mechanisms that can"
      f" be banned: {', '.join(bans_lib.names())}."
  )


def from_json(reply: str, directive: str) -> objectives.Objective:
  """The objective of a filled form.

  Args:
    reply: JSON of a `Directive`.
    directive: the text that it is a reading of.

  Raises:
    DirectiveError: if it is no such form, breaks a rule, or quotes what the
      directive does not say.
  """
  try:
    form = Directive.model_validate_json(reply)
  except pydantic.ValidationError as error:
    found = "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'reply'}: {e['msg']}"
        for e in error.errors(include_url=False, include_input=False)[:5]
    )
    raise words.DirectiveError(
        f"`reply` must be a filled `Directive`, got {found}"
    ) from error
  return objective(form, directive)


def objective(form: Directive, directive: str) -> objectives.Objective:
  """The objective of a form, by the rules that hold for the grammar too.

  Args:
    form: filled in.
    directive: the text that it is a reading of.

  Raises:
    DirectiveError: as in `from_json`.
  """
  if form.unmeasurable:
    quoted = ", ".join(repr(words.shown(c)) for c in form.unmeasurable[:8])
    raise words.DirectiveError(
        f"cannot read {quoted}. Of use is {scales.measurable()}"
    )
  parts = (*form.terms, *form.constraints, *form.bans)
  if not parts and form.budget == Budget():
    raise words.DirectiveError("`form` must ask for something, got nothing")
  said = _folded(directive)
  for part in parts:
    if not _folded(part.clause) or _folded(part.clause) not in said:
      raise words.DirectiveError(
          f"`clause` must quote the directive, got {part.clause[:160]!r}"
      )
  known = bans_lib.names()
  unknown = [ban.mechanism for ban in form.bans if ban.mechanism not in known]
  if unknown:
    raise words.DirectiveError(
        f"`mechanism` must be a slot or `slot=choice`, got {unknown}; there are"
        f" {', '.join(known)}"
    )
  try:
    return objectives.from_json(
        {
            "terms": [t.model_dump(exclude={"clause"}) for t in form.terms]
            or objectives.to_json(objectives.DEFAULT)["terms"],
            "constraints": [
                c.model_dump(exclude={"clause"}) for c in form.constraints
            ],
            "bans": [ban.mechanism for ban in form.bans],
        }
    )
  except ValueError as error:
    raise words.DirectiveError(
        f"{error}. Of use is {scales.measurable()}"
    ) from error


def schema() -> str:
  """The form's JSON schema, the same text every time."""
  return json.dumps(Directive.model_json_schema(), sort_keys=True)


def _folded(text: str) -> str:
  """Without regard to case and spaces."""
  return " ".join(text.casefold().split())
