"""A numeric constant of a mechanism: its range, its scale, what it does."""

from collections.abc import Mapping
from typing import NamedTuple


class Constant(NamedTuple):
  """A numeric constant of a mechanism.

  Attributes:
    words: what it is.
    low: smallest value allowed.
    high: largest value allowed.
    default: value when its mechanism is first switched on.
    larger: metric -> +1 or -1, the expected change with a larger value.
    log: whether it is tuned on a logarithmic scale (then `low` > 0).
    neutral: value at which the mechanism vanishes, None if there is none.
    step: usual size of a change by tuning, as a part of the range; 0 for what
      is set and not tuned.
  """

  words: str
  low: float
  high: float
  default: float
  larger: Mapping[str, int]
  log: bool = True
  neutral: float | None = None
  step: float = 0.15
