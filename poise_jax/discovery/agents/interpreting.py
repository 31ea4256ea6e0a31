"""A directive that the grammar cannot read, read by a model.

The model fills in a form; what is wrong with it is said to the model, which
may mend it as often as any other reply. What it holds for unmeasurable stays
an error.
"""

from collections.abc import Collection

import pydantic

from poise_jax.discovery import directives
from poise_jax.discovery.agents import guide
from poise_jax.discovery.directives import schema as schemas
from poise_jax.discovery.llm import asking

LABEL = "directive"


def interpret(
    ask: asking.Ask,
    directive: str,
    complaint: str,
    metrics: Collection[str],
) -> directives.Reading:
  """Asks for a reading.

  Args:
    ask: answers.
    directive: the text.
    complaint: why the grammar cannot read it.
    metrics: that the search records.

  Raises:
    directives.DirectiveError: if a clause of it cannot be measured.
    exchange.LlmError: if there is no usable answer.
  """
  prompt = asking.Prompt(
      LABEL,
      schemas.instructions(metrics),
      guide.fenced("what is asked for", directive)
      + guide.fenced("why a program could not read it", complaint),
  )
  form = ask(prompt, _form(directive, metrics))
  return schemas.understood(form, directive, metrics)


def _form(directive: str, metrics: Collection[str]) -> type[asking.Schema]:
  """The form, which refuses what is no reading of this directive."""

  class Form(schemas.Directive, asking.Schema):
    """A whole directive, each of its clauses in one of the lists."""

    @pydantic.model_validator(mode="after")
    def _holds(self) -> "Form":
      schemas.check(self, directive, metrics)
      return self

  return Form
