"""The analysis agent: what a candidate showed, in words, from our numbers.

Every number is computed by `reflection` from paired runs; the agent reads them
and says what they may mean. Nothing that it writes is parsed for numbers, and
the suggestion to keep or drop stays that of the intervals. It sees runs of the
search split alone.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import re
from typing import Annotated, Any, Literal

import pydantic

from poise_jax.archive import records
from poise_jax.discovery import reflection, sentences
from poise_jax.discovery import yardstick as yardsticks
from poise_jax.discovery.agents import context, guide
from poise_jax.discovery.evidence import pairing
from poise_jax.discovery.llm import asking

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?![\w.]*\d)")
# Up to here whole numbers count things: seeds, groups, sentences.
_SMALL = 10


class Signals(asking.Schema):
  """What may have happened, in terms of the three signals."""

  advantage: asking.Line
  kl: asking.Line
  entropy: asking.Line


class Checked(asking.Schema):
  """One prediction and what came of it."""

  metric: asking.Line
  comment: asking.Line


class Analysis(asking.Schema):
  """What the analysis agent replies.

  Attributes:
    diagnosis: mechanism to outcome.
    predictions: those of the proposal, against the verdicts.
    confidence: that the diagnosis holds.
    verdict: keep, drop, or keep where a condition holds.
    scope: that condition; empty unless the verdict is `scope`.
    next_directions: what to try, or to measure, next.
  """

  diagnosis: Signals
  predictions: Annotated[tuple[Checked, ...], pydantic.Field(max_length=8)]
  confidence: Literal["low", "medium", "high"]
  verdict: Literal["keep", "drop", "scope"]
  scope: Annotated[asking.Text, pydantic.StringConstraints(max_length=400)]
  next_directions: Annotated[
      tuple[asking.Line, ...], pydantic.Field(min_length=1, max_length=4)
  ]


def reflect(
    ask: asking.Ask,
    child: pairing.Evidence,
    parent: pairing.Evidence | None,
    root: pairing.Evidence,
    *,
    label: str,
    rationale: str = "",
    findings: Sequence[Mapping[str, str]] = (),
    prior_variance: float = 0.0,
    prior_dof: float = 0.0,
    prefer: str = "",
    yardstick: yardsticks.Yardstick = yardsticks.OVERALL,
) -> tuple[str, dict[str, Any]]:
  """Reflects on a candidate after training.

  Args:
    ask: answers.
    child: the candidate.
    parent: its first parent, None for the root.
    root: the root of the campaign.
    label: unlike that of other candidates.
    rationale: why the child was made.
    findings: of the gate on it.
    prior_variance: see `reflection.reflect`.
    prior_dof: likewise.
    prefer: likewise.
    yardstick: likewise.

  Returns:
    (text, data) as `reflection.reflect` gives them, with what the agent wrote
    after the text and under `analysis`: its reply, `supported` (whether its
    verdict is that of the intervals) and `unfounded` (numbers in it that we did
    not give).

  Raises:
    exchange.LlmError: if there is no usable answer.
  """
  text, data = reflection.reflect(
      visible(child),
      parent and visible(parent),
      visible(root),
      prior_variance=prior_variance,
      prior_dof=prior_dof,
      prefer=prefer,
      yardstick=yardstick,
  )
  given = _given(child, rationale, findings, text, data, prefer)
  prompt = asking.Prompt(
      f"analysis {label}", guide.TASK + _ROLE, given + _DEMAND
  )
  analysis = ask(prompt, Analysis)
  said = words(analysis)
  own = analysis.model_dump(mode="json") | {
      "supported": analysis.verdict == data["suggestion"],
      "unfounded": unfounded(said, given),
  }
  return f"{text} {said}", data | {"analysis": own}


def visible(evidence: pairing.Evidence) -> pairing.Evidence:
  """Evidence without the runs that agents may not see."""
  seen = [e for e in evidence.evaluations if e.split == context.SEARCH_SPLIT]
  return dataclasses.replace(evidence, evaluations=seen)


def unfounded(said: str, given: str) -> list[str]:
  """Numbers in one text that are not in another, small counts apart.

  A number is founded if some given one, rounded to as many digits, is the same
  but for its sign.
  """
  known = [abs(float(n)) for n in _NUMBER.findall(given)]
  missing = []
  for number in dict.fromkeys(_NUMBER.findall(said)):
    value = abs(float(number))
    digits = len(number.partition(".")[2])
    small = not digits and value <= _SMALL
    if not small and not any(round(k, digits) == value for k in known):
      missing.append(number)
  return missing


def words(analysis: Analysis) -> str:
  """The analysis as sentences, marked as a reading."""
  verdict = {
      "keep": "keep",
      "drop": "drop",
      "scope": f"keep where {analysis.scope or 'its condition holds'}",
  }[analysis.verdict]
  return " ".join(
      [
          f"A model's reading, confidence {analysis.confidence}:",
          f"advantage: {_sentence(analysis.diagnosis.advantage)}",
          f"KL: {_sentence(analysis.diagnosis.kl)}",
          f"entropy: {_sentence(analysis.diagnosis.entropy)}",
          *(
              f"{c.metric}: {_sentence(c.comment)}"
              for c in analysis.predictions
          ),
          f"It would {_sentence(verdict)}",
          f"Next: {_sentence('; '.join(analysis.next_directions))}",
      ]
  )


def _sentence(text: str) -> str:
  return text if text.endswith((".", "!", "?")) else text + "."


def _given(
    child: pairing.Evidence,
    rationale: str,
    findings: Sequence[Mapping[str, str]],
    text: str,
    data: Mapping[str, Any],
    prefer: str,
) -> str:
  """What the agent is shown."""
  runs = visible(child).evaluations
  meant = [run for run in runs if run.budget == (data["budget"] or prefer)]
  course = [
      f"{name} over training ({run.budget} budget, seed {run.seed}):"
      f" {' '.join(map(str, values))}"
      for run in (meant or runs)[:1]
      for name, values in context.digest(run.curve).items()
  ]
  gates = [
      f"[{f.get('level', '')} {f.get('rule', '')}] {f.get('message', '')}"
      for f in findings
  ]
  numbers = records.canonical_json(
      {k: v for k, v in data.items() if k != "diverged"}
  )
  sections = [
      ("what is wanted", data.get("objective", {}).get("wanted", "")),
      (f"why {child.name} was made", context.cut(rationale)),
      ("its runs, budget by budget", "\n".join(map(_outcome, runs))),
      ("what was measured, by rule", text),
      ("the numbers behind it", numbers),
      ("its course", "\n".join(course)),
      ("what the gate found", "\n".join(gates)),
  ]
  return "\n".join(
      guide.fenced(title, body) for title, body in sections if body
  )


def _outcome(run: records.Evaluation) -> str:
  """What came of one run."""
  if why := sentences.fault(run):
    came = f"broke down: {context.cut(why, 300)}"
  elif "overall" in run.metrics:
    came = f"Overall {run.metrics['overall']:.2f}"
  else:
    came = "trained; this budget scores nothing"
  return f"{run.budget} budget, seed {run.seed}: {came}"


_ROLE = """
You are the one who analyses. You explain a difference between a candidate and
its parent by its mechanism, and you know how often a story fits noise.
"""

_DEMAND = """\
Say what may have led from the mechanism to the outcome, in terms of advantage,
KL and entropy; where a signal did not move beyond its interval, say that it did
not. Compare each prediction with its verdict. Use only the numbers above, and
compute no new ones. With fewer than three common seeds, or an interval that
holds zero, confidence is low and the verdict is a condition, not a success.
Give the next one to four directions, most telling first; a measurement counts
as one.
"""
