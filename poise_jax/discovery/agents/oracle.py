"""The same equations written a second time, to compare with.

An oracle is a loss written from the equations alone, by somebody who has seen
neither the code nor its plan. It is trusted no more than the code: it goes
through the same gate, and only the gradients that the gate took of both are
compared here. Where the two differ, either may be wrong, so there is room for a
third opinion (`engineering`).
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Annotated, Any, NamedTuple

import pydantic

from poise_jax.candidates import fingerprint as fingerprints
from poise_jax.candidates import jail as jail_lib
from poise_jax.candidates import verification
from poise_jax.discovery.agents import guide, research, screening
from poise_jax.discovery.llm import asking, exchange

# Largest difference on any probe, relative to the largest slope there: room for
# guards of other sizes, none for another formula.
TOLERANCE = 1e-2
_SHOWN = 4
# The text of a loss; the gate has the exact limit.
Source = Annotated[
    str,
    pydantic.StringConstraints(min_length=1, max_length=60_000),
    pydantic.AfterValidator(asking.storable),
]

# Takes a source through the gate: `verification.verify` with a jail.
Check = Callable[[str], verification.Verdict]

# What may end an oracle, not the search: it goes on without one. A replay that
# lacks an exchange is none of them.
UNAVAILABLE = (
    exchange.AnswerError,
    exchange.BudgetError,
    exchange.CallError,
)


class Code(asking.Schema):
  """The text of a loss, and what its author has to say."""

  source: Source
  notes: asking.Text


class Agreement(NamedTuple):
  """How two implementations compare.

  Attributes:
    agrees: whether no probe tells them apart.
    words: where they differ and by how much.
    worst: probe -> relative difference, the largest first.
    factor: how many times longer the steps of the first are.
  """

  agrees: bool
  words: str
  worst: dict[str, float]
  factor: float

  def to_json(self) -> dict[str, Any]:
    """Renders it as it is stored."""
    return self._asdict()


@dataclasses.dataclass(frozen=True)
class Oracle:
  """A second implementation.

  Attributes:
    source: its text, empty if nobody wrote one.
    fingerprint: its gradients, None if the gate refused it.
    faults: why there is none.
  """

  source: str
  fingerprint: bytes | None
  faults: tuple[str, ...] = ()


def checked(check: Check, source: str) -> verification.Verdict:
  """Takes a source through the gate.

  Raises:
    jail_lib.JailError: if the machine could not tell; nothing is to be learned
      from that.
  """
  verdict = check(source)
  if not verdict.conclusive:
    raise jail_lib.JailError(verdict.findings[0].message)
  return verdict


def faults(
    verdict: verification.Verdict, levels: Sequence[str] = ("contract",)
) -> tuple[str, ...]:
  """Findings as lines for whoever wrote the source."""
  return tuple(
      f"[{f.rule}] {f.message} ({f.hint})"
      for f in verdict.findings
      if f.level in levels
  )


def write(
    ask: asking.Ask,
    idea: research.Idea,
    check: Check,
    *,
    label: str,
    repairs: int = 1,
) -> Oracle:
  """Has the equations of an idea implemented by somebody else.

  Args:
    ask: answers.
    idea: its equations; neither code nor plan is shown.
    check: the gate.
    label: unlike that of other questions.
    repairs: turns in which its author sees what the gate refused.

  Returns:
    An oracle, or why there is none.
  """
  text = guide.fenced(idea.name, screening.idea_text(idea)) + _DEMAND
  source, found = "", ("nobody wrote it",)
  for turn in range(1 + repairs):
    again = "" if turn == 0 else _again(source, found)
    prompt = asking.Prompt(
        f"oracle {label} {turn}",
        guide.TASK + _ROLE + guide.contract(),
        text + again,
    )
    try:
      source = ask(prompt, Code).source
    except UNAVAILABLE as error:
      return Oracle(source, None, (*found, str(error)))
    verdict = checked(check, source)
    if verdict.ok and verdict.fingerprint is not None:
      return Oracle(source, verdict.fingerprint)
    found = faults(verdict) or ("the gate took no gradients of it",)
  return Oracle(source, None, found)


def compare(
    one: bytes, other: bytes, *, tolerance: float = TOLERANCE
) -> Agreement:
  """Compares the gradients of two implementations on the probes.

  Args:
    one: packed fingerprint.
    other: likewise.
    tolerance: largest relative difference on any probe.
  """
  a, b = fingerprints.from_bytes(one), fingerprints.from_bytes(other)
  if a.suite != b.suite:
    return Agreement(
        False, "they were traced with different sizes of groups", {}, 1.0
    )
  apart = fingerprints.differences(a, b)
  ranked = sorted(apart.items(), key=lambda item: -item[1])
  worst = {name: float(f"{d:.3g}") for name, d in ranked[:_SHOWN]}
  factor = fingerprints.common_factor(a, b)
  if ranked[0][1] <= tolerance:
    return Agreement(True, "they agree on all probes", worst, factor)
  scaled = max(fingerprints.differences(a, b, factor).values())
  if scaled <= tolerance:
    words = f"they differ by the factor {factor:.4g} alone"
  else:
    listed = ", ".join(f"{n} ({d:.3g})" for n, d in worst.items())
    words = (
        "the largest difference of gradients, relative to the largest slope,"
        f" is on the probes {listed}"
    )
  return Agreement(False, words, worst, float(f"{factor:.6g}"))


_ROLE = """
You are the one who checks. Somebody implements these equations; you implement
them too, so that both can be compared number by number. Write what the
equations say, not what they should have said, in the plainest way: no helper
that you could write as a formula, no cleverness, no extra terms.

"""

_DEMAND = """\
Write the module. Use the constants under the names that are given. Where the
equations leave something open, take the reading that the text before them
supports, and say so in the notes. No NEUTRAL is needed.
"""


def _again(source: str, found: Sequence[str]) -> str:
  """What was refused, for a second turn."""
  return (
      guide.fenced("your last module", source)
      + guide.fenced("what the gate refuses", "\n".join(found))
      + "Give the whole module again, mended.\n"
  )
