"""The smallest difference that a comparison of means could have found."""

from jaxtyping import Float
import numpy as np
from scipy import stats


def of_differences(
    differences: Float[np.ndarray, "P"],
    *,
    level: float = 0.05,
    chance: float = 0.8,
) -> float | None:
  """Minimum detectable mean of paired differences.

    (t_{1 - level/2} + t_{chance}) sd(d) / √P,  P - 1 degrees of freedom

  For sets scored as solved or not, `mcnemar.detectable` is exact.

  Args:
    differences: one a problem.
    level: of a two-sided test.
    chance: with which the difference is to be found.

  Returns:
    In the units of the differences; None where they do not vary, for that
    says nothing about how much they might.
  """
  count = len(differences)
  if count < 2 or np.ptp(differences) == 0:
    return None
  quantiles = stats.t.ppf([1 - level / 2, chance], count - 1)
  error = np.std(differences, ddof=1) / np.sqrt(count)
  return float(quantiles.sum() * error)


def of_interval(
    half_width: float, *, confidence: float = 0.95, chance: float = 0.8
) -> float:
  """Minimum detectable difference from the half width of its interval.

  (z_{(1 + confidence)/2} + z_{chance}) / z_{(1 + confidence)/2} half_width
  """
  edge, extra = stats.norm.ppf([0.5 + confidence / 2, chance])
  return float((edge + extra) / edge * half_width)
