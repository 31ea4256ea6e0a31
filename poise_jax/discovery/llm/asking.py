"""A question to a model that ends with a value of the type that was asked for.

    send (with retries) -> whole? -> JSON? -> of the schema? -> value
                  ^            no |       |               |
                  +---- what is wrong, as the next turn --+

Calls that fail for a time are made again, after waits that grow and vary;
replies that cannot be used are answered with what is wrong with them. Both ends
are bounded. Recorded or live makes no difference here.
"""

from collections.abc import Callable, Mapping
import dataclasses
import itertools
import json
import re
import time
from typing import Annotated, Any, NamedTuple, TypeVar

import pydantic
import tenacity

from poise_jax.discovery.llm import exchange

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LONGEST_FAULT = 200
_MOST_FAULTS = 8
# What servers understand of JSON schema; they refuse or ignore other words.
_SCHEMA_WORDS = (
    "$defs $ref type enum items minItems maxItems minimum maximum anyOf"
    " properties required description"
).split()


def storable(text: str) -> str:
  """Without characters that databases, terminals and JSON choke on."""
  return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n"))


# Text in a reply: of any content, but it can be stored everywhere.
Text = Annotated[
    str,
    pydantic.StringConstraints(max_length=20_000),
    pydantic.AfterValidator(storable),
]
Line = Annotated[
    str,
    pydantic.StringConstraints(
        strip_whitespace=True, min_length=1, max_length=400
    ),
    pydantic.AfterValidator(storable),
]


class Schema(pydantic.BaseModel):
  """What a reply must hold; anything else in it is a fault."""

  model_config = pydantic.ConfigDict(
      extra="forbid", frozen=True, allow_inf_nan=False
  )


_Value = TypeVar("_Value", bound=Schema)


class Prompt(NamedTuple):
  """A question.

  Attributes:
    label: what it is for, in a few words; unlike those of other questions.
    system: instructions.
    text: the question.
  """

  label: str
  system: str
  text: str


# Gives a value of the schema; raises `exchange.LlmError` if there is none.
Ask = Callable[[Prompt, type[_Value]], _Value]


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a model is asked.

  Attributes:
    model: its name.
    temperature: of sampling.
    max_output_tokens: of the first turn, thoughts included; doubled, up to
      `longest_output`, after a reply that was cut off.
    longest_output: see there.
    thinking_level: see `exchange.Request`.
    tries: calls for one turn, at most.
    repairs: turns after the first, at most.
    first_wait: seconds of the first wait, at most; it doubles.
    longest_wait: seconds.
  """

  model: str = "gemini-3-pro-preview"
  temperature: float = 1.0
  max_output_tokens: int = 16_384
  longest_output: int = 65_536
  thinking_level: str = ""
  tries: int = 5
  repairs: int = 2
  first_wait: float = 2.0
  longest_wait: float = 60.0

  def __post_init__(self):
    """Refuses bounds that leave nothing to do."""
    for name, least in (("tries", 1), ("repairs", 0), ("max_output_tokens", 1)):
      if getattr(self, name) < least:
        raise ValueError(
            f"`{name}` must be at least {least}, got {getattr(self, name)}"
        )


def asker(
    send: exchange.Send,
    settings: Settings = Settings(),
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Ask:
  """Makes the function by which agents ask.

  Args:
    send: makes one call: live, recorded or replayed.
    settings: model and bounds.
    sleep: waits.
  """

  def ask(prompt: Prompt, schema: type[_Value]) -> _Value:
    request = exchange.Request(
        label=prompt.label,
        model=settings.model,
        system=prompt.system,
        messages=(exchange.Message("user", prompt.text),),
        schema=wire_schema(schema),
        temperature=settings.temperature,
        max_output_tokens=settings.max_output_tokens,
        thinking_level=settings.thinking_level,
    )
    faults: list[str] = []
    for _ in range(1 + settings.repairs):
      reply = _insist(send, request, settings, sleep)
      value, fault = read(reply, schema)
      if value is not None:
        return value
      faults.append(fault)
      request = _repair(request, reply, fault, settings)
    raise exchange.AnswerError(
        f"no usable reply for {prompt.label!r} in {1 + settings.repairs} turns;"
        f" the last fault: {faults[-1]}",
        tuple(faults),
    )

  return ask


def _insist(
    send: exchange.Send,
    request: exchange.Request,
    settings: Settings,
    sleep: Callable[[float], None],
) -> exchange.Reply:
  """Makes a call again while that may help."""
  backoff = tenacity.wait_random_exponential(
      multiplier=settings.first_wait, max=settings.longest_wait
  )

  def wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception()
    if error.replayed:
      return 0.0
    return max(backoff(state), min(error.retry_after, settings.longest_wait))

  attempts = itertools.count()
  retrying = tenacity.Retrying(
      retry=tenacity.retry_if_exception(_is_transient),
      stop=tenacity.stop_after_attempt(settings.tries),
      wait=wait,
      sleep=sleep,
      reraise=True,
  )
  return retrying(
      lambda: send(dataclasses.replace(request, attempt=next(attempts)))
  )


def _is_transient(error: BaseException) -> bool:
  return isinstance(error, exchange.CallError) and error.transient


def read(
    reply: exchange.Reply, schema: type[_Value]
) -> tuple[_Value | None, str]:
  """Reads a value from a reply.

  Returns:
    (value, ""), or (None, what is wrong with the reply).
  """
  if reply.finish == exchange.CUT:
    return None, "the reply was cut off at the limit on its length"
  if reply.finish != exchange.COMPLETE:
    return None, f"the reply ended with {reply.finish}, not as a whole"
  try:
    return schema.model_validate_json(_unfenced(reply.text)), ""
  except pydantic.ValidationError as error:
    return None, _words(error)


def _unfenced(text: str) -> str:
  """Takes off the fence that models put around code."""
  text = text.strip()
  if text.startswith("```") and text.endswith("```") and "\n" in text:
    text = text.partition("\n")[2].removesuffix("```")
  return text


def _words(error: pydantic.ValidationError) -> str:
  """What is wrong and where, without what was said instead."""
  found = error.errors(
      include_url=False, include_input=False, include_context=False
  )
  said = []
  for fault in found[:_MOST_FAULTS]:
    where = ".".join(str(step) for step in fault["loc"]) or "the reply"
    said.append(storable(f"{where}: {fault['msg']}")[:_LONGEST_FAULT])
  if len(found) > _MOST_FAULTS:
    said.append(f"and {len(found) - _MOST_FAULTS} more")
  return "; ".join(said)


def _repair(
    request: exchange.Request,
    reply: exchange.Reply,
    fault: str,
    settings: Settings,
) -> exchange.Request:
  """The next turn: what is wrong with the last one."""
  longest = request.max_output_tokens
  if reply.finish == exchange.CUT:
    longest = max(longest, min(2 * longest, settings.longest_output))
  demand = (
      f"That reply cannot be used: {fault}. Give the whole reply again as one"
      " JSON object of the demanded schema, with nothing around it"
      + ("; be brief." if reply.finish == exchange.CUT else ".")
  )
  turns = (
      exchange.Message("model", reply.text or "(nothing)"),
      exchange.Message("user", demand),
  )
  return dataclasses.replace(
      request, messages=request.messages + turns, max_output_tokens=longest
  )


def wire_schema(schema: type[pydantic.BaseModel]) -> dict[str, Any]:
  """JSON schema in the words that servers understand.

  Bounds on the length of texts and the like are left out; a reply is checked
  for them here.
  """
  return _known_words(schema.model_json_schema())


def _known_words(schema: Any) -> Any:
  if not isinstance(schema, Mapping):
    return schema
  kept = {k: v for k, v in schema.items() if k in _SCHEMA_WORDS}
  if "const" in schema:
    kept["enum"] = [schema["const"]]
  for name in ("properties", "$defs"):
    if name in kept:
      kept[name] = {k: _known_words(v) for k, v in kept[name].items()}
  if "items" in kept:
    kept["items"] = _known_words(kept["items"])
  if "anyOf" in kept:
    kept["anyOf"] = [_known_words(v) for v in kept["anyOf"]]
  return json.loads(json.dumps(kept))
