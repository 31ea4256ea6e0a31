"""The same small tuning budget for everyone: a fixed design, chosen on its own.

Settings are a learning rate and the candidate's own constants. How many there
are does not depend on how many constants it has, so a root with one gets as
many tries as a child with six.
"""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import NamedTuple

import numpy as np

from poise_jax.discovery.dissection import equal_cost


class Setting(NamedTuple):
  """One way to run an algorithm.

  Attributes:
    rate: factor on the learning rate of the budget.
    changes: constants with other values than those of the source.
  """

  rate: float = 1.0
  changes: tuple[tuple[str, float], ...] = ()


# Setting and seed to what comes of it.
TrainFn = Callable[[Setting, int], equal_cost.Run]

DEFAULT = Setting()
_RATES = (1.0, 0.5, 2.0, 1 / math.sqrt(2), math.sqrt(2), 0.25, 4.0)


def design(
    constants: Mapping[str, float],
    ranges: Mapping[str, tuple[float, float]],
    *,
    settings: int = 7,
) -> tuple[Setting, ...]:
  """Lists the settings to try, the default first.

  Three learning rates (1, 1/2 and 2), then each constant in turn at half its
  value, then each at twice, within its range; where constants give out,
  learning rates between and beyond. A constant that cannot move is passed over.

  Args:
    constants: of the candidate, the most interesting first.
    ranges: lowest and highest value of a constant; any if it is not there.
    settings: how many, from 1 to 7 at least, and more with constants.

  Raises:
    ValueError: if there are not as many different settings.
  """
  found = [Setting(rate) for rate in _RATES[:3]]
  for factor in (0.5, 2.0):
    for name, value in constants.items():
      low, high = ranges.get(name, (-math.inf, math.inf))
      moved = min(max(factor * value, low), high)
      if moved != value:
        found.append(Setting(1.0, ((name, moved),)))
  found += [Setting(rate) for rate in _RATES[3:]]
  if not 1 <= settings <= len(found):
    raise ValueError(
        f"`settings` must be from 1 to {len(found)} with these constants, got"
        f" {settings}"
    )
  return tuple(found[:settings])


class Tuned(NamedTuple):
  """What tuning came to.

  Attributes:
    best: the setting with the highest mean; the default in a tie.
    means: of every setting.
    runs: of every setting, one a seed.
  """

  best: Setting
  means: Mapping[Setting, float]
  runs: Mapping[Setting, tuple[equal_cost.Run, ...]]


def tune(
    train: TrainFn, settings: Sequence[Setting], seeds: Sequence[int]
) -> Tuned:
  """Runs every setting with every seed and takes the best mean score.

  The best of several means is too good to be true; measure it again.

  Args:
    train: trains on the seeds and problems of the search.
    settings: from `design`.
    seeds: at least one.
  """
  runs = {s: tuple(train(s, seed) for seed in seeds) for s in settings}
  means = {s: float(np.mean([r.score for r in runs[s]])) for s in settings}
  return Tuned(max(settings, key=lambda s: means[s]), means, runs)
