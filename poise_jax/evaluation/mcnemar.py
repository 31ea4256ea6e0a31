"""McNemar's exact test: do two policies solve different numbers of problems?

Only flips count, problems that one of them solved and the other did not. If
neither is better, each flip is a fair coin.
"""

from jaxtyping import Float
import numpy as np
from scipy import stats

_STEPS = 60  # halvings of the search for a difference


def p_value(gained: int, lost: int) -> float:
  """Two-sided exact p-value.

    p = min(1, 2 P(X <= min(g, l))),  X ~ Binomial(g + l, 1/2)

  Args:
    gained: problems that only the first solved.
    lost: problems that only the second solved.

  Returns:
    1 without flips.

  Raises:
    ValueError: if a count is negative.
  """
  if min(gained, lost) < 0:
    raise ValueError(f"counts must not be negative, got {gained} and {lost}")
  return float(_p_values(np.array([gained]), np.array([lost]))[0])


def power(count: int, flips: float, difference: float, level: float) -> float:
  """Chance that the exact test finds a difference at a level.

    Σ_m Binomial(m; n, ψ) P(p-value <= level),
    gains ~ Binomial(m, (1 + δ / ψ) / 2)

  Args:
    count: n, problems that both are asked.
    flips: ψ, the share of them on which the two differ.
    difference: δ, of the shares that the two solve; at most `flips`.
    level: of the test.
  """
  m = np.arange(count + 1)
  weight = stats.binom.pmf(m, count, flips)
  share = (1 + difference / flips) / 2
  # Most losses, or gains, with which m flips are still rejected.
  most = stats.binom.ppf(level / 2, m, 0.5).astype(int)
  most = np.where(_p_values(most, m - most) <= level, most, most - 1)
  rejects = stats.binom.cdf(most, m, share) + stats.binom.sf(
      m - most - 1, m, share
  )
  return float(np.sum(weight * np.where(most >= 0, rejects, 0.0)))


def detectable(
    count: int,
    flips: int,
    *,
    level: float = 0.05,
    chance: float = 0.8,
) -> float:
  """Smallest difference that the exact test would probably have found.

  The share of flips is taken as seen, with half a flip added on either side:
  none in n problems does not mean that there are none. A difference larger
  than that share needs as many flips as it has points.

  Args:
    count: n, problems that both were asked.
    flips: problems on which the two differed.
    level: of the test.
    chance: with which it is to be found.

  Returns:
    A difference of shares; 1 if not even that would be found.

  Raises:
    ValueError: unless 0 <= flips <= count and count >= 1.
  """
  if not 0 <= flips <= count or count < 1:
    raise ValueError(f"`flips` must lie in 0..{count}, got {flips}")
  seen = (flips + 1) / (count + 2)
  found = lambda d: power(count, max(seen, d), d, level) >= chance
  low, high = 0.0, 1.0
  if not found(1.0):
    return 1.0
  for _ in range(_STEPS):
    middle = (low + high) / 2
    low, high = (low, middle) if found(middle) else (middle, high)
    if high - low < 1e-6:
      break
  return high


def _p_values(gained: np.ndarray, lost: np.ndarray) -> Float[np.ndarray, "N"]:
  fewer = np.minimum(gained, lost)
  return np.minimum(1.0, 2 * stats.binom.cdf(fewer, gained + lost, 0.5))
