"""The research agent: from what a campaign has seen to a few ideas.

Several ideas in one reply, as they can be told to differ; which one is built is
decided by `screening`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic

from poise_jax.discovery.agents import context as context_lib
from poise_jax.discovery.agents import guide
from poise_jax.discovery.llm import asking

# What a prediction may be about: what `reflection` can check.
Metric = Literal[
    "overall",
    "entropy",
    "kl",
    "response_length",
    "valid_rate",
    "advantages/mean_abs",
    "clip_fraction",
]
Short = Annotated[asking.Line, pydantic.StringConstraints(max_length=400)]


class Constant(asking.Schema):
  """A number of the algorithm.

  Attributes:
    name: as in HPARAMS.
    value: to begin with.
    neutral: at which what it controls vanishes, None if there is none.
    meaning: in words.
  """

  name: Annotated[
      str, pydantic.StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")
  ]
  value: float
  neutral: float | None
  meaning: Short


class EdgeCases(asking.Schema):
  """What it does where statistics degenerate."""

  all_fail: Short
  all_pass: Short
  all_invalid: Short
  one_valid: Short


class Prediction(asking.Schema):
  """One metric against the parent, and by which of the three signals."""

  metric: Metric
  direction: Literal["higher", "lower"]
  because: Short


class Idea(asking.Schema):
  """A candidate before anybody writes its code.

  Attributes:
    name: two or three words, in lower case, joined by `_`.
    bottleneck: what holds the parent back, with the number that shows it.
    hypothesis: why the change should help.
    equations: the whole loss, so that it can be written from this alone.
    edge_cases: where statistics degenerate.
    constants: all numbers in the equations.
    predictions: what should be seen if the hypothesis holds.
    falsifier: what would refute it.
    tags: what it acts on.
  """

  name: Annotated[
      str, pydantic.StringConstraints(pattern=r"^[a-z][a-z0-9_]{1,39}$")
  ]
  bottleneck: asking.Line
  hypothesis: asking.Line
  equations: Annotated[asking.Text, pydantic.StringConstraints(min_length=20)]
  edge_cases: EdgeCases
  constants: Annotated[tuple[Constant, ...], pydantic.Field(max_length=12)]
  predictions: Annotated[
      tuple[Prediction, ...], pydantic.Field(min_length=1, max_length=7)
  ]
  falsifier: asking.Line
  tags: Annotated[
      tuple[
          Annotated[asking.Line, pydantic.StringConstraints(max_length=40)], ...
      ],
      pydantic.Field(min_length=1, max_length=6),
  ]

  @property
  def signs(self) -> dict[str, int]:
    """Metric -> +1 or -1, as `reflection` checks it."""
    return {
        p.metric: 1 if p.direction == "higher" else -1 for p in self.predictions
    }

  def to_json(self) -> Mapping[str, Any]:
    """Renders the idea as it is stored."""
    return self.model_dump(mode="json")


class Ideas(asking.Schema):
  """What the research agent replies."""

  directions: Annotated[
      tuple[asking.Line, ...], pydantic.Field(min_length=1, max_length=6)
  ]
  ideas: Annotated[
      tuple[Idea, ...], pydantic.Field(min_length=1, max_length=12)
  ]


def ideate(
    ask: asking.Ask, context: context_lib.Context, *, count: int = 4
) -> tuple[Idea, ...]:
  """Asks for new ideas.

  Args:
    ask: answers.
    context: what the campaign has seen.
    count: of ideas that are asked for.

  Returns:
    At least one idea, at most `count`.

  Raises:
    exchange.LlmError: if there is no usable answer.
  """
  if count < 1:
    raise ValueError(f"`count` must be at least 1, got {count}")
  prompt = asking.Prompt(
      f"research {context.label}",
      guide.TASK + _ROLE,
      context_lib.render(context) + _demand(context.parent.name, count),
  )
  return ask(prompt, Ideas).ideas[:count]


_ROLE = """
You are the one who proposes. You read what was measured, say what holds the
parent back, and propose changes of its loss that somebody else will implement
from your equations alone.
"""


def _demand(parent: str, count: int) -> str:
  return f"""\
First name the directions that the evidence leaves open, one line each. Then give
{count} ideas that each change {parent} and differ from each other in mechanism,
not in constants. For each:
- bottleneck: which number above shows that something is missing;
- hypothesis: by which of three signals, advantage, KL, entropy, the change acts;
- equations: the complete loss to minimise, every symbol defined, in plain text,
  with the axes that each mean or spread is over and where gradients are stopped;
- edge cases: what the equations give where all fail, all pass, nothing can be
  read, or one answer can be;
- constants: name, value, and the value at which the mechanism vanishes, if any;
- predictions: only what you would bet on, each with its reason;
- falsifier: a result over at least three common seeds that would refute it.
Do not propose what is listed as tried, not under another name either, nor what
is algebraically equal to it.
"""
