"""From `agent=gemini|offline|replay:PATH|script:PATH` to who is asked.

One table: what each kind opens, and what of it a campaign is a function of.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
import contextlib
import os
import pathlib
from typing import Any, NamedTuple

from poise_jax.archive import records
from poise_jax.discovery import directives
from poise_jax.discovery.agents import interpreting, scientists, team
from poise_jax.discovery.llm import asking, exchange, recording
from poise_jax.discovery.llm import options as options_lib

TRANSCRIPT = "transcript.jsonl"

Options = options_lib.Options
_Opened = contextlib.AbstractContextManager[scientists.Scientists]
_Line = contextlib.AbstractContextManager[asking.Ask]


class Kind(NamedTuple):
  """One kind of agent.

  Attributes:
    open: (options, path that was named, transcript) -> who is asked.
    identity: (options, path that was named) -> what the outcome depends on.
    has_path: whether a path is named after a colon.
    is_paid: whether calls cost money.
    line: (options, path that was named, transcript, who is told of each
      exchange) -> a model for a question of its own; None where there is none.
  """

  open: Callable[[Options, str, pathlib.Path], _Opened]
  identity: Callable[[Options, str], dict[str, Any]]
  has_path: bool = False
  is_paid: bool = False
  line: Callable[[Options, str, pathlib.Path, recording.Keep], _Line] | None = (
      None
  )


class Interpreted(NamedTuple):
  """A directive as a model read it.

  Attributes:
    reading: what it was understood to say.
    reader: who read it.
    exchanges: with the model, for the archive.
  """

  reading: directives.Reading
  reader: str
  exchanges: tuple[scientists.Exchange, ...]


@contextlib.contextmanager
def _live(
    options: Options, path: str, kept: pathlib.Path, note: recording.Keep
) -> Iterator[asking.Ask]:
  """A model at the end of a line, with the record and budget of a campaign."""
  del path
  with team.live(
      options.endpoint,
      options.settings,
      kept,
      budget=options.budget_dollars,
      prices=options.prices,
      note=note,
  ) as line:
    yield line.ask


def _model(options: Options, path: str) -> dict[str, Any]:
  """What is asked; where and for how much money is no part of it."""
  del path
  asked = ("model", "temperature", "thinking_level", "max_output_tokens")
  return {name: getattr(options, name) for name in asked} | _bounds(options)


def _script(options: Options, path: str) -> dict[str, Any]:
  return {"script": records.sha256(pathlib.Path(path).read_bytes())} | _bounds(
      options
  )


def _bounds(options: Options) -> dict[str, Any]:
  return {"ideas": options.ideas, "repairs": options.repairs}


KINDS: Mapping[str, Kind] = {
    "offline": Kind(
        lambda options, path, kept: contextlib.nullcontext(
            scientists.offline()
        ),
        lambda options, path: {},
    ),
    "gemini": Kind(
        lambda options, path, kept: scientists.live(options, kept),
        _model,
        is_paid=True,
        line=_live,
    ),
    "replay": Kind(
        lambda options, path, kept: contextlib.nullcontext(
            scientists.replay(options, path)
        ),
        _model,  # a replay is the campaign that was recorded
        has_path=True,
        line=lambda options, path, kept, note: contextlib.nullcontext(
            team.replayed(path, options.settings, note=note)
        ),
    ),
    "script": Kind(
        lambda options, path, kept: contextlib.nullcontext(
            scientists.script(options, path)
        ),
        _script,
        has_path=True,
    ),
}


def read(agent: str) -> tuple[Kind, str]:
  """Reads the name of an agent.

  Returns:
    (kind, path that it names, or "").

  Raises:
    ValueError: if there is no such kind, or its path is missing or too much.
  """
  name, _, path = agent.partition(":")
  kind = KINDS.get(name)
  if kind is None or kind.has_path != bool(path):
    known = [n + ":PATH" * k.has_path for n, k in KINDS.items()]
    raise ValueError(
        f"`agent` must be one of {', '.join(known)}, got {agent!r}"
    )
  return kind, path


def identity(agent: str, options: Options) -> dict[str, Any]:
  """What of an agent the outcome of a campaign is a function of.

  Empty for the offline one, so that such campaigns stay what they were; the
  same for a recording and its replay.

  Raises:
    ValueError: see `read`.
    OSError: if a script cannot be read.
  """
  kind, path = read(agent)
  return kind.identity(options, path)


@contextlib.contextmanager
def opened(
    agent: str, options: Options, directory: str | os.PathLike[str]
) -> Iterator[scientists.Scientists]:
  """Opens what an agent needs, for the time of a campaign.

  Args:
    agent: see `read`.
    options: how a model is asked.
    directory: where its transcript is kept, and goes on from.

  Raises:
    ValueError: see `read`, `scientists.live`, `scientists.replay`.
    OSError: if a file cannot be read or written.
    exchange.CallError: if there is no key.
  """
  kind, path = read(agent)
  with kind.open(options, path, pathlib.Path(directory) / TRANSCRIPT) as asked:
    yield asked


def has_model(agent: str) -> bool:
  """Whether there is a model, live or recorded, that may cost money.

  Raises:
    ValueError: see `read`.
  """
  return read(agent)[0].line is not None


def interpret(
    agent: str,
    options: Options,
    directory: str | os.PathLike[str],
    directive: str,
    complaint: directives.DirectiveError,
    metrics: Collection[str],
) -> Interpreted:
  """Lets a model read a directive that the grammar cannot.

  Args:
    agent: see `read`.
    options: how a model is asked.
    directory: where its transcript is kept; one that holds the answer is not
      asked for it again.
    directive: the text.
    complaint: of the grammar; raised where there is no model.
    metrics: that the search records.

  Raises:
    directives.DirectiveError: if a clause cannot be measured, or no model has
      given a reading, which it says beside the complaint.
    ValueError: see `scientists.live`, `scientists.replay`.
    OSError: if a file cannot be read or written.
  """
  kind, path = read(agent)
  if kind.line is None:
    raise complaint
  heard: list[scientists.Exchange] = []
  kept = pathlib.Path(directory) / TRANSCRIPT
  try:
    with kind.line(options, path, kept, heard.append) as ask:
      reading = interpreting.interpret(ask, directive, str(complaint), metrics)
  except exchange.LlmError as error:
    raise directives.DirectiveError(
        f"{complaint}. Nor did the model {options.model} read it: {error}"
    ) from error
  return Interpreted(reading, f"the model {options.model}", tuple(heard))


def forecast(agent: str, options: Options, candidates: int) -> list[str]:
  """What a campaign is expected to pay, one line for its plan, or none.

  Args:
    agent: see `read`.
    options: how a model is asked.
    candidates: that it will propose.

  Raises:
    ValueError: see `read` and `Options.prices`; also if the price of the model
      is not known.
  """
  if not read(agent)[0].is_paid:
    return []
  expected = team.forecast(candidates)
  prices = options.prices
  if options.model not in prices:
    raise ValueError(
        f"`llm.model` must have a known price, got {options.model!r}; set both"
        " `llm.prompt_price` and `llm.output_price`, to 0 for a server of your"
        " own"
    )
  dollars = expected.dollars(prices[options.model])
  return [
      f"model {options.model}: about {expected.calls} calls, ${dollars:.2f}, of"
      f" at most ${options.budget_dollars:.2f}; when that is spent, it goes on"
      " by rule"
  ]
