"""Which configurations a sweep has, and which seeds each of them gets."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import itertools
import math
from typing import Any, TypeVar

import numpy as np

_Config = TypeVar("_Config")

# (configurations, seeds) to each configuration with its own seeds.
Design = Callable[
    [Sequence[Any], Sequence[int]], Iterator[tuple[Any, Sequence[int]]]
]


@dataclasses.dataclass(frozen=True)
class Range:
  """Numbers between two ends, for a random design.

  Attributes:
    low: the lower end, included.
    high: the upper end, included.
    log: whether logarithms are spread evenly, instead of the numbers.
    integer: whether only whole numbers count.
  """

  low: float
  high: float
  log: bool = False
  integer: bool = False

  def __post_init__(self):
    if not (math.isfinite(self.low) and math.isfinite(self.high)):
      raise ValueError(f"the ends of a range must be finite, got {self}")
    if not self.low < self.high:
      raise ValueError(
          f"the lower end of a range must be below the upper one, got {self}"
      )
    if self.log and self.low <= 0:
      raise ValueError(
          f"the ends of a logarithmic range must be above 0, got {self}"
      )

  def draw(self, rng: np.random.Generator) -> float | int:
    """One number, to four significant digits so that it can be read."""
    if self.integer:
      return int(rng.integers(int(self.low), int(self.high) + 1))
    low, high = self.low, self.high
    if self.log:
      value = math.exp(rng.uniform(math.log(low), math.log(high)))
    else:
      value = rng.uniform(low, high)
    return min(max(float(f"{value:.4g}"), low), high)


Axis = Sequence[Any] | Range


def grid(axes: Mapping[str, Axis]) -> list[dict[str, Any]]:
  """Every combination of values, the last axis changing fastest.

  Args:
    axes: name -> values; none gives one combination of nothing.

  Raises:
    ValueError: if an axis is a `Range`, which has no list of values.
  """
  for name, axis in axes.items():
    if isinstance(axis, Range):
      raise ValueError(
          f"`{name}` must be a list of values for a grid, got {axis}; list"
          " some, or draw at random"
      )
  return [
      dict(zip(axes, values, strict=True))
      for values in itertools.product(*axes.values())
  ]


def random(
    axes: Mapping[str, Axis], count: int, seed: int = 0
) -> list[dict[str, Any]]:
  """Distinct combinations, each axis drawn on its own.

  A longer design begins with the shorter one of the same seed.

  Args:
    axes: name -> values, all as likely, or a range.
    count: how many combinations.
    seed: of the draws.

  Raises:
    ValueError: if there are fewer combinations than `count`.
  """
  rng = np.random.default_rng(seed)
  found: dict[tuple[Any, ...], None] = {}
  ranges = [a for a in axes.values() if isinstance(a, Range)]
  lists = [a for a in axes.values() if not isinstance(a, Range)]
  if not ranges and count > math.prod(map(len, lists)):
    raise ValueError(
        f"`count` must be at most {math.prod(map(len, lists))}, the number of"
        f" combinations, got {count}; use a grid for all"
    )
  for _ in range(1000 * count):
    if len(found) == count:
      break
    found[tuple(_draw(axis, rng) for axis in axes.values())] = None
  else:
    if len(found) < count:
      raise ValueError(
          f"`count` must be at most about {len(found)}, the number of"
          f" combinations, got {count}"
      )
  return [dict(zip(axes, values, strict=True)) for values in found]


def _draw(axis: Axis, rng: np.random.Generator) -> Any:
  if isinstance(axis, Range):
    return axis.draw(rng)
  return axis[int(rng.integers(len(axis)))]


def paired(
    configs: Sequence[_Config], seeds: Sequence[int]
) -> Iterator[tuple[_Config, Sequence[int]]]:
  """The same seeds for all: the same prompts and sampling keys.

  What a seed has in common then cancels in differences.
  """
  for config in configs:
    yield config, seeds


def independent(
    configs: Sequence[_Config], seeds: Sequence[int]
) -> Iterator[tuple[_Config, Sequence[int]]]:
  """Seeds of its own for each: the first gets `seeds`, others those after.

  For means that are to be compared with those of other experiments; the
  differences within such a sweep are less certain than paired ones.
  """
  width = max(seeds) - min(seeds) + 1
  for i, config in enumerate(configs):
    yield config, [seed + i * width for seed in seeds]
