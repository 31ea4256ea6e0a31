"""The engineering agent: plan, generate, verify, and mend a few times.

A source counts as the idea it claims to be if the gate lets it through and its
gradients are those of an oracle, a second implementation by somebody who has
not seen it. If they differ, a second oracle is asked for: the source must agree
with one of the two. Of all sources the best one stays, however late one failed.
What fails to the end is kept as evidence, with everything that was tried.
"""

from collections.abc import Sequence
import dataclasses
from typing import Annotated, Any, Literal, NamedTuple

import pydantic

from poise_jax.archive import records
from poise_jax.candidates import findings, verification
from poise_jax.discovery.agents import guide, oracle, research, screening
from poise_jax.discovery.llm import asking

# `unchecked` if no oracle could be had.
Standing = Literal["agrees", "differs", "unchecked"]
_REPAIRED = ("contract", "declared")
_ORACLES = 2


class Step(asking.Schema):
  """One part of the equations and how it is computed."""

  equation: asking.Line
  computation: asking.Line


class Plan(asking.Schema):
  """What the engineer means to write.

  Attributes:
    steps: in order of computation.
    guards: divisions, roots and logarithms, and what keeps them finite.
    gradients: where they are stopped.
  """

  steps: Annotated[
      tuple[Step, ...], pydantic.Field(min_length=1, max_length=20)
  ]
  guards: Annotated[tuple[asking.Line, ...], pydantic.Field(max_length=12)]
  gradients: asking.Line


class Round(NamedTuple):
  """One source and what came of it.

  Attributes:
    source_sha256: hash of the source.
    faults: what was wrong with it.
    standing: against the oracle; None if it did not come that far.
    agreement: as stored, None likewise or if unchecked.
  """

  source_sha256: str
  faults: tuple[str, ...]
  standing: Standing | None
  agreement: dict[str, Any] | None


@dataclasses.dataclass(frozen=True)
class Build:
  """What came of an idea.

  Attributes:
    ok: whether it may stand for the idea.
    source: the best one: that held and agrees with an oracle, or else held,
      and of equals the last.
    verdict: of the gate on it.
    rounds: all that was tried; none of them held unless `ok`.
    data: plan, rounds, which of them the source is from, why nothing more was
      mended, and oracles, JSON-like, for the archive.
  """

  ok: bool
  source: str
  verdict: verification.Verdict
  rounds: tuple[Round, ...]
  data: dict[str, Any]

  @property
  def findings(self) -> tuple[findings.Finding, ...]:
    """What to add to the findings of the gate: why it may not stand."""
    if self.ok or not self.verdict.ok:
      return ()
    return (
        findings.contract(
            "oracle",
            "two implementations of the equations do not agree:"
            f" {'; '.join(self.rounds[self.data['chosen']].faults)}",
            "state the equations so that two people implement the same",
        ),
    )


def build(
    ask: asking.Ask,
    idea: research.Idea,
    parent_source: str,
    check: oracle.Check,
    *,
    label: str,
    repairs: int = 3,
) -> Build:
  """Implements an idea.

  Args:
    ask: answers.
    idea: to implement.
    parent_source: of the candidate that it changes.
    check: the gate, with the jail, the parent and the sizes of the search.
    label: unlike that of other candidates.
    repairs: sources after the first, at most.

  Returns:
    The best source, and whether it holds. If there is no usable answer any
    more, the best of those there are.

  Raises:
    exchange.LlmError: if there was no usable answer before the first source.
    exchange.MissError: if a replay lacks an exchange, whenever that is.
    jail.JailError: if the machine cannot verify.
  """
  if repairs < 0:
    raise ValueError(f"`repairs` must be at least 0, got {repairs}")
  task = guide.fenced("source of the parent", parent_source)
  task += guide.fenced(f"idea: {idea.name}", screening.idea_text(idea))
  system = guide.TASK + _ROLE + guide.contract()
  plan = ask(asking.Prompt(f"plan {label}", system, task + _PLAN_DEMAND), Plan)
  planned = task + guide.fenced("your plan", _plan_text(plan))
  tried: list[_Tried] = []
  oracles: list[oracle.Oracle] = []
  demand, stopped = _CODE_DEMAND, ""
  while True:
    prompt = asking.Prompt(
        f"code {label} {len(tried)}", system, planned + demand
    )
    try:
      source = ask(prompt, oracle.Code).source
    except oracle.UNAVAILABLE as error:
      if not tried:
        raise
      stopped = str(error)
      break
    verdict = oracle.checked(check, source)
    this = _judged(ask, idea, check, source, verdict, oracles, label)
    tried.append(_Tried(source, verdict, this))
    if not this.faults or len(tried) > repairs:
      break
    demand = _mend(source, this.faults)
  chosen = max(range(len(tried)), key=lambda i: (tried[i].rank, i))
  best = tried[chosen]
  rounds = tuple(one.round for one in tried)
  data = {
      "ok": best.rank > 0,
      "standing": best.round.standing,
      "plan": plan.model_dump(mode="json"),
      "rounds": [r._asdict() | {"faults": list(r.faults)} for r in rounds],
      "chosen": chosen,
      "stopped": stopped,
      "oracles": [
          {"source": own.source, "faults": list(own.faults)} for own in oracles
      ],
  }
  return Build(best.rank > 0, best.source, best.verdict, rounds, data)


class _Tried(NamedTuple):
  """One source, the gate's verdict and what it is worth."""

  source: str
  verdict: verification.Verdict
  round: Round

  @property
  def rank(self) -> int:
    """2 if it holds and agrees with an oracle, 1 if it holds, 0 if not."""
    if not self.verdict.ok or self.round.standing == "differs":
      return 0
    return 2 if self.round.standing == "agrees" else 1


def _judged(
    ask: asking.Ask,
    idea: research.Idea,
    check: oracle.Check,
    source: str,
    verdict: verification.Verdict,
    oracles: list[oracle.Oracle],
    label: str,
) -> Round:
  """What one source is worth; may add to `oracles`."""
  digest = records.sha256(source)
  found = oracle.faults(verdict, _REPAIRED)
  if not verdict.ok:
    return Round(digest, found, None, None)
  if verdict.fingerprint is None:
    return Round(digest, found, "unchecked", None)
  closest: oracle.Agreement | None = None
  for i in range(_ORACLES):
    if i == len(oracles):
      oracles.append(oracle.write(ask, idea, check, label=f"{label} {i}"))
    if oracles[i].fingerprint is None:
      continue
    agreement = oracle.compare(verdict.fingerprint, oracles[i].fingerprint)
    if agreement.agrees:
      return Round(digest, found, "agrees", agreement.to_json())
    if closest is None or _gap(agreement) < _gap(closest):
      closest = agreement
  if closest is None:
    return Round(digest, found, "unchecked", None)
  differs = (*found, _difference(closest, oracles))
  return Round(digest, differs, "differs", closest.to_json())


def _gap(agreement: oracle.Agreement) -> float:
  return max(agreement.worst.values(), default=float("inf"))


def _difference(
    closest: oracle.Agreement, oracles: Sequence[oracle.Oracle]
) -> str:
  """Says how it differs from the oracles, and whether they agree."""
  packed = [o.fingerprint for o in oracles if o.fingerprint is not None]
  if len(packed) < 2:
    others = "Either of the two may be wrong."
  elif oracle.compare(*packed[:2]).agrees:
    others = "Two others wrote it independently and agree with each other."
  else:
    others = "Two others do not agree either: the equations may be unclear."
  return (
      "[oracle] the code and a second implementation of the equations give"
      f" different gradients: {closest.words}. {others}"
  )


def _plan_text(plan: Plan) -> str:
  """A plan in words."""
  return "\n".join(
      [
          *(f"{s.equation}: {s.computation}" for s in plan.steps),
          *(f"guard: {g}" for g in plan.guards),
          f"gradients: {plan.gradients}",
      ]
  )


def _mend(source: str, faults: Sequence[str]) -> str:
  """Asks for another source."""
  return (
      guide.fenced("your last module", source)
      + guide.fenced("what is wrong with it", "\n".join(faults))
      + _MEND_DEMAND
  )


_ROLE = """
You are the one who implements. You write exactly the equations of an idea, as a
change of its parent's source: what the idea does not mention stays as it is.

"""

_PLAN_DEMAND = """\
Before any code, say which line of the equations becomes which computation, what
keeps every division, root and logarithm finite, and where gradients stop.
"""

_CODE_DEMAND = """\
Now write the whole module. All constants go into HPARAMS under the names that
are given; where a constant has a neutral value, put it into NEUTRAL if the loss
then is that of the parent. A docstring says in a few lines what is new.
"""

_MEND_DEMAND = """\
Go through the equations line by line and say in the notes which line the code
got wrong; then give the whole module again, mended. Change nothing that was not
wrong. Somebody else implements the same equations: agree with the equations,
not with a guess about the other.
"""
