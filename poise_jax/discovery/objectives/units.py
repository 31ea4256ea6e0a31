"""What change of a metric counts as much as one point of Overall.

Seconds, tokens and shares cannot be added up. They are compared by how surely
a change can be told from noise: a change of one seed-sd of a metric is worth
one seed-sd of Overall.
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

  s is the sd from seed to seed, pooled over the candidates. For a metric
  without noise, such as the length of a description, both are the spread of
  the candidates' means. Take it once, after the root and its clones have been
  measured, and keep it: otherwise U changes its meaning during a search.

  Args:
    groups: the metrics of every run, candidate by candidate.

  Returns:
    Metric -> scale; one that does not vary, or is not recorded throughout, is
    left out, and falls back to `default`.
  """
  runs = [run for group in groups for run in group]
  names = set(runs[0]).intersection(*runs) if runs else set()
  within: dict[str, float] = {}
  between: dict[str, float] = {}
  for name in names:
    columns = [[run[name] for run in group] for group in groups if group]
    within[name] = statistics.pooled_variance(columns)[0] ** 0.5
    between[name] = float(np.std([np.mean(column) for column in columns]))
  found = {}
  for name in sorted(names - {"overall"}):
    noisy = within[name] > 1e-12 * max(abs(run[name]) for run in runs)
    spread = within if noisy else between
    if spread[name] > 0 and spread.get("overall", 0.0) > 0:
      found[name] = spread[name] / spread["overall"]
  return found


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
  if metric in _SHARES or "/" in metric:
    return 0.01
  if root_value == 0:
    raise ValueError(
        f"`scale_of` must give what one point is worth in {metric}, as the"
        " root's value of it is 0; take it from `units.scales`"
    )
  return _PART * abs(root_value)
