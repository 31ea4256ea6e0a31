"""From what a campaign has seen to a candidate with its code, by a model.

    research -> screening -> plan -> code -> gate -> oracle

Everything is a function of `ask`; live, recorded and replayed differ in that
alone. What fails on the way raises `exchange.LlmError`, and `or_offline`
goes on without a model then, saying so.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import os
from typing import Any, NamedTuple, TypeVar

from poise_jax.candidates import verification
from poise_jax.discovery.agents import context as context_lib
from poise_jax.discovery.agents import engineering, oracle, research, screening
from poise_jax.discovery.llm import (
    asking,
    client,
    recording,
    replay,
    transcripts,
)
from poise_jax.discovery.llm import exchange as exchange_lib
from poise_jax.discovery.llm import ledger as ledger_lib

_Result = TypeVar("_Result")

# Calls for one candidate if nothing has to be mended: research, screening,
# plan, code, oracle, analysis; and tokens of one, thoughts included.
_CALLS = 6
_PROMPT_TOKENS = 9_000
_OUTPUT_TOKENS = 7_000


@dataclasses.dataclass(frozen=True)
class Proposal:
  """A new candidate; what `grammar.Proposal` has, but for a genome.

  Attributes:
    name: what is new in it, and its index.
    parents: ids of its parents, most important first.
    operator: how it was made: `agent`.
    source: its text.
    rationale: bottleneck and hypothesis.
    prediction: what should be seen, in words.
    falsifier: what would refute it.
    mechanisms: JSON-like: `operator`, `tags`, `equations`, `prediction` (metric
      -> +1 or -1), `falsifier`, `idea`, `screening`, `engineering`.
    verdict: of the gate on the source.
    build: how it was made, and whether it holds.
  """

  name: str
  parents: tuple[str, ...]
  operator: str
  source: str
  rationale: str
  prediction: str
  falsifier: str
  mechanisms: Mapping[str, Any]
  verdict: verification.Verdict
  build: engineering.Build


class Notice(NamedTuple):
  """That a model failed, for people and for the archive.

  Attributes:
    what: was to be done.
    kind: of failure.
    message: why.
  """

  what: str
  kind: str
  message: str


def propose(
    ask: asking.Ask,
    context: context_lib.Context,
    check: oracle.Check,
    *,
    count: int = 4,
    repairs: int = 3,
    known: Sequence[str] = (),
) -> Proposal:
  """Proposes one new candidate.

  Args:
    ask: answers.
    context: what the campaign has seen.
    check: the gate; runs nothing outside the jail.
    count: of ideas to choose from.
    repairs: of the code.
    known: equations of ideas that were tried.

  Returns:
    The best idea that was implemented. If none was, the last one that was
    tried, with `build.ok` false: evidence, not to be trained.

  Raises:
    exchange.LlmError: if there is no usable answer, or no idea is worth
      building.
    jail.JailError: if the machine cannot verify.
  """
  ideas = research.ideate(ask, context, count=count)
  ranked = screening.screen(ask, context, ideas, known=known)
  if not ranked.order:
    raise exchange_lib.AnswerError(
        f"none of {len(ideas)} ideas for {context.label!r} is worth building:"
        " they repeat what was tried, or do not hold together",
        ("screening",),
    )
  idea = ideas[ranked.order[0]]
  build = engineering.build(
      ask,
      idea,
      context.parent.source,
      check,
      label=context.label,
      repairs=repairs,
  )
  return Proposal(
      name=f"{idea.name}-{context.index:03d}",
      parents=(context.parent.id,),
      operator="agent",
      source=build.source,
      rationale=f"Bottleneck: {idea.bottleneck} Hypothesis: {idea.hypothesis}",
      prediction="; ".join(
          f"{p.metric} {p.direction}: {p.because}" for p in idea.predictions
      ),
      falsifier=idea.falsifier,
      mechanisms={
          "operator": "agent",
          "tags": list(idea.tags),
          "equations": idea.equations,
          "prediction": idea.signs,
          "falsifier": idea.falsifier,
          "idea": idea.to_json(),
          "rejected_ideas": [
              other.to_json() for other in ideas if other is not idea
          ],
          "screening": dict(ranked.data),
          "engineering": build.data,
      },
      verdict=build.verdict,
      build=build,
  )


def or_offline(
    with_model: Callable[[], _Result],
    offline: Callable[[], _Result],
    notify: Callable[[Notice], None],
    *,
    what: str,
) -> _Result:
  """Does something with a model, or without one if that fails.

  Args:
    with_model: what to do.
    offline: what to do instead.
    notify: is told of the failure, before anything else is done; stores it.
    what: is done, for the notice.

  Raises:
    exchange.MissError: if a replay lacks an exchange; going on without it
      would give another campaign than the recorded one.
  """
  try:
    return with_model()
  except exchange_lib.MissError:
    raise
  except exchange_lib.LlmError as error:
    failure = Notice(what, type(error).__name__, str(error))
  notify(failure)
  return offline()


def _nobody(exchange: Mapping[str, Any]) -> None:
  """Is told, and does nothing."""


class Line(NamedTuple):
  """A line to a model.

  Attributes:
    ask: by which agents ask.
    ledger: of the campaign.
  """

  ask: asking.Ask
  ledger: ledger_lib.Ledger


@contextlib.contextmanager
def live(
    endpoint: client.Endpoint,
    settings: asking.Settings,
    path: str | os.PathLike[str],
    *,
    budget: float,
    prices: Mapping[str, ledger_lib.Price] = ledger_lib.PRICES,
    note: recording.Keep = _nobody,
) -> Iterator[Line]:
  """Opens a line that is recorded and kept within a budget.

  Args:
    endpoint: where the model is.
    settings: how it is asked.
    path: of the transcript; one that is there is continued, and what it holds
      is not paid for again.
    budget: dollars for the whole transcript.
    prices: by model.
    note: is told of every exchange; see `recording.witnessed`.

  Yields:
    A `Line`.

  Raises:
    ValueError: if the price of the model is not known.
  """
  with (
      transcripts.opened(path) as transcript,
      client.connected(endpoint) as send,
  ):
    ledger = ledger_lib.Ledger(
        budget, prices=prices, entries=transcript.entries
    )
    ledger.price(settings.model)
    kept = recording.recorded(
        send, transcript.append, ledger, entries=transcript.entries
    )
    told = recording.witnessed(kept, note)
    yield Line(asking.asker(told, settings), ledger)


def replayed(
    path: str | os.PathLike[str],
    settings: asking.Settings,
    *,
    note: recording.Keep = _nobody,
) -> asking.Ask:
  """Asks a record instead of a model; see `replay.load`.

  Args:
    path: of a transcript.
    settings: those that it was recorded with.
    note: as for `live`.
  """
  told = recording.witnessed(replay.load(path), note)
  return asking.asker(told, settings)


def forecast(candidates: int) -> ledger_lib.Forecast:
  """What a campaign is expected to use, for its plan; a rough guess."""
  return ledger_lib.Forecast(
      _CALLS * candidates, _PROMPT_TOKENS, _OUTPUT_TOKENS
  )
