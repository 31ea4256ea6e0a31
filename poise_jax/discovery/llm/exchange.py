"""What goes to a language model and what comes back, as values.

A request is named by the hash of everything that it holds: model, parameters,
messages and the number of the attempt. What was answered to it once is found
again by that name (`recording`, `replay`).
"""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any, Literal, NamedTuple

from poise_jax.archive import records

# How a reply ended that is whole.
COMPLETE = "STOP"
# How one ended that ran into the limit on its length.
CUT = "MAX_TOKENS"


class Message(NamedTuple):
  """One turn of a conversation."""

  role: Literal["user", "model"]
  text: str


@dataclasses.dataclass(frozen=True)
class Request:
  """Everything that a reply is a function of, but for chance.

  Attributes:
    label: what it is for, in a few words, such as `research 012`.
    model: name of the model.
    system: instructions that hold for all turns.
    messages: the turns, the last one the user's.
    schema: JSON schema of the reply.
    temperature: of sampling.
    max_output_tokens: limit on thoughts and reply together.
    thinking_level: how much the model thinks, in its own words; empty for its
      default.
    attempt: how often the same was sent before.
  """

  label: str
  model: str
  system: str
  messages: tuple[Message, ...]
  schema: Mapping[str, Any]
  temperature: float
  max_output_tokens: int
  thinking_level: str = ""
  attempt: int = 0

  def to_json(self) -> dict[str, Any]:
    """Renders the request as it is stored and hashed."""
    return dataclasses.asdict(self) | {
        "messages": [message._asdict() for message in self.messages],
        "schema": dict(self.schema),
    }

  @property
  def digest(self) -> str:
    """Its name."""
    return records.sha256(records.canonical_json(self.to_json()))


class Usage(NamedTuple):
  """Tokens of one call, as the server counted them.

  Attributes:
    prompt: of the request, cached ones included.
    cached: of these, those that cost less.
    output: of the reply.
    thoughts: thought before it; paid for like output.
  """

  prompt: int = 0
  cached: int = 0
  output: int = 0
  thoughts: int = 0


@dataclasses.dataclass(frozen=True)
class Reply:
  """What came back.

  Attributes:
    text: of the reply, without thoughts; may be empty.
    finish: why it ended, in the words of the server; `STOP` if it is whole.
    usage: tokens, None if the server did not say.
    served_by: the version of the model that answered.
  """

  text: str
  finish: str
  usage: Usage | None
  served_by: str = ""

  def to_json(self) -> dict[str, Any]:
    """Renders the reply as it is stored."""
    usage = self.usage and self.usage._asdict()
    return dataclasses.asdict(self) | {"usage": usage}


# One call; raises a `CallError`, or what says why it was not made.
Send = Callable[[Request], Reply]


class LlmError(RuntimeError):
  """No usable answer came from a model; a search goes on without one."""


class CallError(LlmError):
  """One call failed.

  Attributes:
    code: of HTTP, 0 without one.
    transient: whether trying again may help.
    maybe_billed: whether it may be paid for nevertheless.
    retry_after: seconds that the server asked to wait.
    replayed: whether it was read from a record, so that nobody waits.
  """

  def __init__(
      self,
      message: str,
      *,
      code: int = 0,
      transient: bool = False,
      maybe_billed: bool = False,
      retry_after: float = 0.0,
      replayed: bool = False,
  ) -> None:
    super().__init__(message)
    self.code = code
    self.transient = transient
    self.maybe_billed = maybe_billed
    self.retry_after = retry_after
    self.replayed = replayed

  def to_json(self) -> dict[str, Any]:
    """Renders the failure as it is stored."""
    return {
        "message": str(self),
        "code": self.code,
        "transient": self.transient,
        "maybe_billed": self.maybe_billed,
        "retry_after": self.retry_after,
    }


class BudgetError(LlmError):
  """A call was not made because the money might not do."""


class MissError(LlmError):
  """A replay was asked for what is not in its record.

  Attributes:
    digest: name of the request.
    differing: fields in which the closest recorded request differs.
  """

  def __init__(
      self, message: str, digest: str, differing: tuple[str, ...]
  ) -> None:
    super().__init__(message)
    self.digest = digest
    self.differing = differing


class AnswerError(LlmError):
  """The replies stayed unusable after all turns of repair.

  Attributes:
    faults: what was wrong, turn by turn.
  """

  def __init__(self, message: str, faults: tuple[str, ...]) -> None:
    super().__init__(message)
    self.faults = faults


def reply_from_json(value: Mapping[str, Any]) -> Reply:
  """Reads what `Reply.to_json` wrote."""
  usage = value["usage"] and Usage(**value["usage"])
  return Reply(**{**value, "usage": usage})


def failure_from_json(value: Mapping[str, Any]) -> CallError:
  """Reads what `CallError.to_json` wrote; it counts as replayed."""
  options = {k: v for k, v in value.items() if k != "message"}
  return CallError(value["message"], **options, replayed=True)
