"""Intervals for shares of problems solved, and for their differences.

A problem is solved or not, so normal and bootstrap intervals fail where it
matters: they have no width at 0 or all, and for pairs that never differ. These
are score intervals, which keep their coverage there.
"""

from collections.abc import Callable
import math

from scipy import optimize, stats

from poise_jax.evaluation import statistics


def wilson(
    hits: int, count: int, *, confidence: float = 0.95
) -> statistics.Interval:
  """Interval for a share: all p with |p̂ - p| <= z √(p (1 - p) / n).

  See Wilson (1927), https://doi.org/10.1080/01621459.1927.10502953.

  Args:
    hits: problems solved.
    count: n, problems asked.
    confidence: coverage, in (0, 1).

  Raises:
    ValueError: unless 0 <= hits <= count and count >= 1.
  """
  _check(hits, count)
  z2 = _z(confidence) ** 2
  p = hits / count
  middle = (p + z2 / (2 * count)) / (1 + z2 / count)
  half = math.sqrt(z2 * (p * (1 - p) / count + z2 / (4 * count**2)))
  half /= 1 + z2 / count
  # Exactly 0 and 1 at the ends, where rounding may leave a little.
  low = 0.0 if hits == 0 else middle - half
  high = 1.0 if hits == count else middle + half
  return statistics.Interval(p, low, high)


def newcombe(
    hits: int, count: int, other_hits: int, other_count: int,
    *, confidence: float = 0.95,
) -> statistics.Interval:  # fmt: skip
  """Interval for the difference of two independent shares, p - q.

    low  = d - √((p - l_p)² + (u_q - q)²)
    high = d + √((u_p - p)² + (q - l_q)²)

  with the ends l, u of their Wilson intervals: method 10 of Newcombe (1998),
  https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I

  Raises:
    ValueError: as `wilson`.
  """
  p, low_p, high_p = wilson(hits, count, confidence=confidence)
  q, low_q, high_q = wilson(other_hits, other_count, confidence=confidence)
  return statistics.Interval(
      p - q,
      p - q - math.hypot(p - low_p, high_q - q),
      p - q + math.hypot(high_p - p, q - low_q),
  )


def agresti_caffo(
    hits: int, count: int, other_hits: int, other_count: int,
    *, confidence: float = 0.95,
) -> statistics.Interval:  # fmt: skip
  """Interval for the difference of two independent shares, p - q.

  The normal one after adding a success and a failure to each, by Agresti and
  Caffo (2000), https://doi.org/10.1080/00031305.2000.10474560. Its middle is
  therefore not the difference itself, which is what `mean` holds.

  Raises:
    ValueError: as `wilson`.
  """
  _check(hits, count)
  _check(other_hits, other_count)
  p, q = (hits + 1) / (count + 2), (other_hits + 1) / (other_count + 2)
  variance = p * (1 - p) / (count + 2) + q * (1 - q) / (other_count + 2)
  half = _z(confidence) * math.sqrt(variance)
  return statistics.Interval(
      hits / count - other_hits / other_count,
      max(p - q - half, -1.0),
      min(p - q + half, 1.0),
  )


def paired(
    gained: int, lost: int, count: int, *, confidence: float = 0.95
) -> statistics.Interval:
  """Interval for the difference of two shares of the same problems.

  All δ that the score test does not reject, |T(δ)| <= z, with

    T(δ) = (g - l - n δ) / √(n (2 q + δ (1 - δ))),
    q = (√(B² - 4 A C) - B) / (2 A),
    A = 2 n,  B = (2 n - g + l) δ - g - l,  C = -l δ (1 - δ),

  where q is the likeliest share of losses given δ: Tango (1998),
  https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B
  Without any flip it is ± z² / (n + z²), and not empty.

  Args:
    gained: problems that only the first solved.
    lost: problems that only the second solved.
    count: n, problems that both were asked.
    confidence: coverage, in (0, 1).

  Raises:
    ValueError: unless these are counts of at most `count` problems.
  """
  _check(gained + lost, count)
  _check(gained, count)
  _check(lost, count)
  z = _z(confidence)
  found = (gained - lost) / count

  def score(delta: float) -> float:
    b = (2 * count - gained + lost) * delta - gained - lost
    c = -lost * delta * (1 - delta)
    q = (math.sqrt(max(b * b - 8 * count * c, 0.0)) - b) / (4 * count)
    variance = count * (2 * q + delta * (1 - delta))
    excess = gained - lost - count * delta
    if variance <= 0:
      return math.copysign(math.inf, excess) if excess else 0.0
    return excess / math.sqrt(variance)

  return statistics.Interval(
      found,
      _root(lambda d: score(d) - z, -1.0, found),
      _root(lambda d: score(d) + z, found, 1.0),
  )


def _root(function: Callable[[float], float], low: float, high: float) -> float:
  """Where a falling function crosses 0; the end where it does not."""
  tiny = 1e-12
  if high - low <= tiny or function(low + tiny) <= 0:
    return low
  if function(high - tiny) >= 0:
    return high
  return float(optimize.brentq(function, low + tiny, high - tiny, xtol=1e-12))


def _z(confidence: float) -> float:
  if not 0 < confidence < 1:
    raise ValueError(f"`confidence` must lie in (0, 1), got {confidence}")
  return float(stats.norm.ppf(0.5 + confidence / 2))


def _check(hits: int, count: int) -> None:
  if not 0 <= hits <= count or count < 1:
    raise ValueError(
        "counts must lie in 0..n with n at least 1, got"
        f" {hits} of {count} problems"
    )
