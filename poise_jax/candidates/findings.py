"""What a check has to say about a candidate's source."""

from collections.abc import Iterator
import contextlib
import dataclasses
import re
from typing import Any, get_args, Literal

Level = Literal["contract", "declared", "advisory"]

_LONGEST_MESSAGE = 600
_LONGEST_RULE = 64
# What databases, terminals and JSON choke on: control characters, and halves
# of surrogate pairs.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclasses.dataclass(frozen=True)
class Finding:
  """One fault, in words for whoever wrote the source.

  The text depends on the source alone (no addresses, paths or timings), so
  that the same source is archived with the same findings on every run.

  Attributes:
    level: `contract` refuses the source, `declared` says that it is not what
      it claims to be, `advisory` is worth knowing.
    rule: short name of the rule, for counting.
    message: what is wrong, and where.
    hint: what to do about it.
  """

  level: Level
  rule: str
  message: str
  hint: str

  def to_json(self) -> dict[str, str]:
    """Renders the finding as the archive stores it."""
    return dataclasses.asdict(self)


class RefusedError(ValueError):
  """A source breaks a rule; carries the finding."""

  def __init__(self, rule: str, message: str, hint: str) -> None:
    super().__init__(f"{rule}: {message}")
    self.finding = contract(rule, message, hint)


def contract(rule: str, message: str, hint: str) -> Finding:
  """Makes the finding that refuses a source."""
  return Finding("contract", rule, _printable(message), hint)


def from_json(value: Any) -> Finding | None:
  """Rebuilds a finding from what may be anything; None if it is none."""
  keys = ("level", "rule", "message", "hint")
  if not isinstance(value, dict) or not all(
      isinstance(value.get(key), str) for key in keys
  ):
    return None
  if value["level"] not in get_args(Level):
    return None
  return Finding(
      value["level"],
      _printable(value["rule"])[:_LONGEST_RULE],
      _printable(value["message"]),
      _printable(value["hint"]),
  )


def _printable(text: str) -> str:
  """Cuts a text, and replaces what cannot be stored everywhere."""
  return _UNPRINTABLE.sub("\ufffd", text[:_LONGEST_MESSAGE])


def storable(text: str) -> str:
  """Replaces what cannot be stored everywhere, but for ends of lines."""
  return "\n".join(_UNPRINTABLE.sub("\ufffd", t) for t in text.split("\n"))


@contextlib.contextmanager
def refusing(rule: str, message: str, hint: str) -> Iterator[None]:
  """Turns any exception of the body into a refusal that names its type."""
  try:
    yield
  except RefusedError:
    raise
  except Exception as error:
    raise RefusedError(
        rule, f"{message} ({type(error).__name__})", hint
    ) from error
