"""What a check has to say about a candidate's source."""

from collections.abc import Iterator
import contextlib
import dataclasses
from typing import Literal

Level = Literal["contract", "declared", "advisory"]

_LONGEST_MESSAGE = 600


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
  return Finding("contract", rule, message[:_LONGEST_MESSAGE], hint)


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
