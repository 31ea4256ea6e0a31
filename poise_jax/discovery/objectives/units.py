"""What change of a metric counts as much as one point of Overall.

Seconds, tokens and shares cannot be added up. They are compared by how surely
a change can be told from noise: a change of one seed-sd of a metric is worth
one seed-sd of Overall. What is the same for every seed, such as the length of
a description, has no noise to go by; of that, 5 % of the root's value is a
point.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from poise_jax.evaluation import statistics

# Metrics in [0, 1]: one of them in a hundred is a point.
_SHARES = ("valid_rate", "truncated_rate")
# Of others, without known noise, this part of the root's value is a point.
_PART = 0.05


def scales(groups: Sequence[Sequence[Mapping[str, float]]]) -> dict[str, float]:
  """What one point of Overall is worth in each metric, by their noise.

    scale_m = s_m / s_overall

  s is the sd from seed to seed, pooled over the candidates. A metric without
  noise has its `default`. How far candidates lie apart in it says nothing:
  most of those measured first are the root under other names, whose flops
  differ by one in 26,000, and at four flops a point they would outweigh any
  accuracy. Take it once, after the root and its clones have been measured, and
  keep it: otherwise U changes its meaning during a search.

  Args:
    groups: the metrics of every run, candidate by candidate, the root first.

  Returns:
    Metric -> scale. Left out is what is not recorded throughout, and what has
    no noise and is 0 for the root.
  """
  filled = [group for group in groups if group]
  runs = [run for group in filled for run in group]
  names = set(runs[0]).intersection(*runs) if runs else set()
  found = {}
  noise = {name: _noise(filled, name) for name in names}
  for name in sorted(names - {"overall"}):
    root = float(np.mean([run[name] for run in filled[0]]))
    if noise[name] > 0 and noise.get("overall", 0.0) > 0:
      found[name] = noise[name] / noise["overall"]
    elif root or _is_share(name):
      found[name] = default(name, root)
  return found


def _noise(groups: Sequence[Sequence[Mapping[str, float]]], name: str) -> float:
  """Sd of a metric from seed to seed, 0 if that is rounding."""
  columns = [[run[name] for run in group] for group in groups]
  found = statistics.pooled_variance(columns)[0] ** 0.5
  largest = max(abs(value) for column in columns for value in column)
  return found if found > 1e-12 * largest else 0.0


def _is_share(metric: str) -> bool:
  return metric in _SHARES or "/" in metric


def default(metric: str, root_value: float) -> float:
  """What one point is worth where no noise is known.

  1 of Overall, 0.01 of a metric in [0, 1], 5 % of the root's value of others.

  Args:
    metric: its canonical name.
    root_value: what the root has.

  Raises:
    ValueError: if the root's value is 0, which says nothing.
  """
  if metric == "overall":
    return 1.0
  if _is_share(metric):
    return 0.01
  if root_value == 0:
    raise ValueError(
        f"`scale_of` must give what one point is worth in {metric}, as the"
        " root's value of it is 0; take it from `units.scales`"
    )
  return _PART * abs(root_value)
