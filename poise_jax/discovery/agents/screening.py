"""Which of several ideas is built: twins out, then four questions.

Texts that say the same are found by rule. The rest is judged for logical
consistency, feasibility, novelty and expected gain (POISE section 3.2,
https://arxiv.org/abs/2603.23951; scales and weights are ours). Behaviour is not
judged here: what trains alike is found by its gradients, after it is built.
"""

from collections.abc import Mapping, Sequence
import re
from typing import Annotated, Any, NamedTuple

import pydantic

from poise_jax.discovery.agents import context as context_lib
from poise_jax.discovery.agents import guide, research
from poise_jax.discovery.llm import asking, exchange

# Share of common word triples from which two texts say the same.
_SAME = 0.95
_WORD = re.compile(r"[^\W_]+|[-+*/^=<>]")
# Below this an idea is not built, whatever else speaks for it.
_SOUND = 3
WEIGHTS: Mapping[str, float] = {
    "consistency": 0.3,
    "feasibility": 0.2,
    "novelty": 0.2,
    "expected_gain": 0.3,
}

_Mark = Annotated[int, pydantic.Field(ge=1, le=5)]


class Marks(asking.Schema):
  """The judgement on one idea, 1 to 5 each.

  Attributes:
    idea: its number.
    consistency: equations, edge cases and predictions follow from each other.
    feasibility: can be written under the rules, with finite gradients.
    novelty: acts unlike what was tried.
    expected_gain: over the parent, by the evidence.
    reason: the weightiest objection.
  """

  idea: Annotated[int, pydantic.Field(ge=0, le=99)]
  consistency: _Mark
  feasibility: _Mark
  novelty: _Mark
  expected_gain: _Mark
  reason: asking.Line

  @property
  def score(self) -> float:
    """Weighted mean of the marks."""
    return sum(w * getattr(self, name) for name, w in WEIGHTS.items())

  @property
  def sound(self) -> bool:
    """Whether it makes sense and can be built."""
    return min(self.consistency, self.feasibility) >= _SOUND


class Screen(asking.Schema):
  """What the screening agent replies."""

  marks: Annotated[tuple[Marks, ...], pydantic.Field(max_length=12)]


class Ranked(NamedTuple):
  """The outcome of a screening.

  Attributes:
    order: positions of ideas that may be built, the best first.
    data: marks and reasons, JSON-like.
  """

  order: tuple[int, ...]
  data: Mapping[str, Any]


def similarity(one: str, other: str) -> float:
  """How much of two texts is the same, in [0, 1]: common triples of words."""
  first, second = _triples(one), _triples(other)
  union = first | second
  return len(first & second) / len(union) if union else 1.0


def _triples(text: str) -> set[tuple[str, ...]]:
  words = _WORD.findall(text.lower())
  return {tuple(words[i : i + 3]) for i in range(max(len(words) - 2, 1))}


def twins(
    ideas: Sequence[research.Idea], known: Sequence[str] = ()
) -> dict[int, str]:
  """Ideas whose equations say the same as earlier ones.

  Args:
    ideas: in order; of two that are alike the first stays.
    known: texts of equations that were tried.

  Returns:
    Position -> what it repeats.
  """
  found: dict[int, str] = {}
  for i, idea in enumerate(ideas):
    if any(similarity(idea.equations, text) >= _SAME for text in known):
      found[i] = "an idea that was tried"
      continue
    for j in range(i):
      if j in found:
        continue
      if similarity(idea.equations, ideas[j].equations) >= _SAME:
        found[i] = f"idea {j}"
        break
  return found


def screen(
    ask: asking.Ask,
    context: context_lib.Context,
    ideas: Sequence[research.Idea],
    *,
    known: Sequence[str] = (),
) -> Ranked:
  """Ranks ideas.

  Args:
    ask: answers.
    context: that they were made from.
    ideas: at least one.
    known: equations of earlier ideas.

  Returns:
    Those worth building; `order` is empty if all repeat what was tried, or none
    makes sense. Of equal scores the earlier one is first.

  Raises:
    exchange.LlmError: if there is no usable answer.
  """
  repeated = twins(ideas, known)
  data: dict[str, Any] = {
      "twins": {str(i): what for i, what in repeated.items()},
      "marks": {},
  }
  fresh = [i for i in range(len(ideas)) if i not in repeated]
  if not fresh:
    return Ranked((), data)
  prompt = asking.Prompt(
      f"screening {context.label}",
      guide.TASK + _ROLE,
      context_lib.render(context) + _listed(ideas, fresh) + _DEMAND,
  )
  marks = {m.idea: m for m in ask(prompt, Screen).marks if m.idea in fresh}
  missing = [i for i in fresh if i not in marks]
  if missing and len(missing) == len(fresh):
    raise exchange.AnswerError(
        f"the screening of {context.label!r} has marks for none of the ideas"
        f" {fresh}",
        ("no marks",),
    )
  data["unmarked"] = missing
  data["marks"] = {
      str(i): m.model_dump(exclude={"idea"}) | {"score": round(m.score, 3)}
      for i, m in sorted(marks.items())
  }
  sound = [i for i in sorted(marks) if marks[i].sound]
  return Ranked(tuple(sorted(sound, key=lambda i: -marks[i].score)), data)


_ROLE = """
You are the one who screens. You look for reasons not to build an idea: an
equation that does not do what its words say, an edge case that divides by zero,
a known algorithm under another name, a gain that the evidence speaks against.
"""

_DEMAND = """\
Judge each idea by its number, 1 (bad) to 5 (good):
- consistency: do equations, edge cases and predictions follow from each other?
- feasibility: can it be written with the fields of a batch, finite everywhere?
- novelty: does it act unlike the parent, the tried and the known ones? Work out
  the advantages in a group of eight with one success before you answer.
- expected_gain: over the parent, by what was measured.
Use the whole scale; ideas that differ should get different marks. Give the
weightiest objection as the reason.
"""


def _listed(ideas: Sequence[research.Idea], chosen: Sequence[int]) -> str:
  """The ideas as text."""
  return "".join(
      guide.fenced(f"idea {i}: {ideas[i].name}", idea_text(ideas[i]))
      for i in chosen
  )


def idea_text(idea: research.Idea) -> str:
  """An idea in words, for agents that judge or build it."""
  edges = idea.edge_cases.model_dump()
  return "\n".join(
      [
          f"bottleneck: {idea.bottleneck}",
          f"hypothesis: {idea.hypothesis}",
          f"equations:\n{idea.equations}",
          *(f"where {k.replace('_', ' ')}: {v}" for k, v in edges.items()),
          *(
              f"constant {c.name} = {c.value:g}"
              + ("" if c.neutral is None else f", neutral at {c.neutral:g}")
              + f": {c.meaning}"
              for c in idea.constants
          ),
          *(
              f"predicts {p.metric} {p.direction}: {p.because}"
              for p in idea.predictions
          ),
          f"refuted if: {idea.falsifier}",
      ]
  )
