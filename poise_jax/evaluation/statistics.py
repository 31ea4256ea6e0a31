"""How sure a mean over seeds is: pooled variance and moderated intervals."""

from collections.abc import Sequence
import math
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
  """A mean with a two-sided confidence interval.

  Attributes:
    mean: sample mean.
    low: lower end, None where the data allow no interval.
    high: upper end, None where the data allow no interval.
  """

  mean: float
  low: float | None
  high: float | None


def pooled_variance(groups: Sequence[Sequence[float]]) -> tuple[float, int]:
  """Variance within groups, pooled by degrees of freedom.

    s² = Σ_g Σ_i (x_gi - mean_g)² / Σ_g (n_g - 1)

  Args:
    groups: values of each group; groups of fewer than two add nothing.

  Returns:
    (s², degrees of freedom); (0, 0) if no group has two values.
  """
  squares, dof = 0.0, 0
  for group in groups:
    if len(group) >= 2:
      squares += float(np.var(group, ddof=0)) * len(group)
      dof += len(group) - 1
  return (squares / dof, dof) if dof else (0.0, 0)


def mean_interval(
    values: Sequence[float],
    *,
    prior_variance: float = 0.0,
    prior_dof: float = 0.0,
    confidence: float = 0.95,
) -> Interval:
  """Interval for a mean, its variance moderated by that of other groups.

  With own variance s² on n - 1 degrees of freedom and prior variance s0² on d0,

    s̃² = (d0 s0² + (n - 1) s²) / (d0 + n - 1)
    mean ± t_{d0 + n - 1} s̃ / √n.

  With d0 = 0 this is Student's interval. A few seeds say little about their
  own variance; a prior from the other candidates of a campaign keeps two
  seeds that happen to agree from looking certain.

  See "Linear models and empirical Bayes methods" by Smyth
  (https://doi.org/10.2202/1544-6115.1027).

  Args:
    values: one value a seed; at least one.
    prior_variance: s0², for instance from `pooled_variance`.
    prior_dof: d0, the weight of the prior in degrees of freedom.
    confidence: coverage, in (0, 1).

  Returns:
    The interval; its ends are None if there are no degrees of freedom at all.

  Raises:
    ValueError: if `values` is empty.
  """
  n = len(values)
  if n == 0:
    raise ValueError("`values` must hold at least one value, got none")
  mean = float(np.mean(values))
  dof = prior_dof + n - 1
  if dof <= 0:
    return Interval(mean, None, None)
  own_squares = float(np.var(values)) * n
  variance = (prior_dof * prior_variance + own_squares) / dof
  half = stats.t.ppf(0.5 + confidence / 2, dof) * math.sqrt(variance / n)
  return Interval(mean, mean - half, mean + half)
