"""Bootstrap intervals for weighted means over problems, and over seeds.

A score is a weighted sum of means of sets. Problems are drawn again within
each set (strata), never between them. Everything is a function of the values
and of `seed`; no global state.
"""

from collections.abc import Sequence
import math

from jaxtyping import Float
import numpy as np
from scipy import stats

from poise_jax.evaluation import statistics

RESAMPLES = 10_000
_CHUNK = 1 << 22  # numbers drawn at a time, to bound memory

Values = Float[np.ndarray, "_"]


def means(
    strata: Sequence[Values],
    weights: Sequence[float] = (1.0,),
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Float[np.ndarray, "R"]:
  """Weighted sums of means of problems that are drawn again in each set.

  Args:
    strata: one value a problem, for each set.
    weights: of the sets.
    seed: of the draws.
    resamples: R, how many.
  """
  rng = np.random.default_rng(seed)
  total = np.zeros(resamples)
  for values, weight in zip(strata, weights, strict=True):
    rows = max(1, _CHUNK // len(values))
    for first in range(0, resamples, rows):
      part = total[first : first + rows]
      chosen = rng.integers(len(values), size=(len(part), len(values)))
      part += weight * values[chosen].mean(axis=1)
  return total


def percentile(
    strata: Sequence[Values],
    weights: Sequence[float] = (1.0,),
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> statistics.Interval:
  """Interval between two quantiles of the resampled means.

  The plain method: too short for few problems, by √((P-1)/P) and by the
  difference between normal and Student's quantiles. Prefer `bca`.

  Args:
    strata: one value a problem, for each set; at least one in each.
    weights: of the sets.
    seed: of the draws.
    resamples: how many.
    confidence: coverage, in (0, 1).

  Returns:
    The interval; its ends are None where no set has two different values, for
    then there is nothing to draw from.

  Raises:
    ValueError: if a set is empty, a value is not finite, or there are not as
      many weights as sets.
  """
  mean = _checked_mean(strata, weights)
  if all(np.ptp(values) == 0 for values in strata):
    return statistics.Interval(mean, None, None)
  drawn = means(strata, weights, seed=seed, resamples=resamples)
  low, high = np.quantile(drawn, [0.5 - confidence / 2, 0.5 + confidence / 2])
  return statistics.Interval(mean, float(low), float(high))


def bca(
    strata: Sequence[Values],
    weights: Sequence[float] = (1.0,),
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> statistics.Interval:
  """Interval corrected for bias, skewness and few problems.

    ends = quantiles of the draws at Φ(z0 + (z0 + z) / (1 - a (z0 + z))),
    z0 = Φ⁻¹(share of draws below the mean, ties half),
    a = Σ L³ / (6 (Σ L²)^(3/2)),  L = w_s (x - mean_s) / P_s,
    z = ± t_ν √(P / (P - 1)).

  z0 and a as in "Better Bootstrap Confidence Intervals" by Efron (1987). The
  last line, in place of normal quantiles, makes up for the narrowness of the
  bootstrap with few problems, as "What Teachers Should Know about the
  Bootstrap" by Hesterberg (https://arxiv.org/abs/1411.5279) does for
  percentiles; over several sets, ν = P - 1 are Satterthwaite's degrees of
  freedom.

  Args:
    strata: as `percentile`.
    weights: of the sets.
    seed: of the draws.
    resamples: how many.
    confidence: coverage, in (0, 1).

  Returns:
    As `percentile`.

  Raises:
    ValueError: as `percentile`.
  """
  mean = _checked_mean(strata, weights)
  if all(np.ptp(values) == 0 for values in strata):
    return statistics.Interval(mean, None, None)
  drawn = means(strata, weights, seed=seed, resamples=resamples)
  # Sums in another order differ in their last bits, but are ties.
  slack = 1e-12 * max(1.0, abs(mean))
  below = (
      np.mean(drawn < mean - slack) + np.mean(np.abs(drawn - mean) <= slack) / 2
  )
  shift = stats.norm.ppf(np.clip(below, 1 / resamples, 1 - 1 / resamples))
  influence = [
      w * (x - x.mean()) / len(x) for x, w in zip(strata, weights, strict=True)
  ]
  squares = np.array([np.square(part).sum() for part in influence])
  cubes = sum(float(np.power(part, 3).sum()) for part in influence)
  acceleration = cubes / (6 * squares.sum() ** 1.5)
  sizes = np.array([len(x) for x in strata])
  dof = squares.sum() ** 2 / np.sum(squares**2 / np.maximum(sizes - 1, 1))
  z = stats.t.ppf(0.5 + confidence / 2, dof) * math.sqrt((dof + 1) / dof)
  ends = shift + np.array([-z, z])
  levels = stats.norm.cdf(shift + ends / (1 - acceleration * ends))
  low, high = np.quantile(drawn, levels)
  return statistics.Interval(mean, float(low), float(high))


def crossed(
    strata: Sequence[Float[np.ndarray, "_ _"]],
    weights: Sequence[float] = (1.0,),
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    confidence: float = 0.95,
) -> statistics.Interval:
  """Interval over problems and seeds at once: all seeds met all problems.

    ends = mean ± t_ν · standard deviation of the draws,
    ν = (V_0 + Σ_s V_s)² / (V_0² / (S - 1) + Σ_s V_s² / (P_s - 1)),
    V_0 = variance of the weighted means of seeds / S,
    V_s = w_s² variance of the means of problems / P_s.

  Each draw takes problems of each set and, independently, seeds, the same ones
  for all sets, and averages the cells they meet ("The Pigeonhole Bootstrap" by
  Owen, https://arxiv.org/abs/0712.1111). Of S seeds S - 1 are drawn, which
  makes up for how much S seeds understate their own variance (Rao and Wu,
  1988). The variance is a little too large, by that of the interaction. Draws
  of a few seeds take few values, so ends are not quantiles of them: they are
  Student's, with Satterthwaite's degrees of freedom. Two or three seeds give
  long intervals where seeds are what differs; two may agree by luck, and then
  it is too short (in simulations 87 % of 95).

  Args:
    strata: for each set, one value a seed and problem.
    weights: of the sets.
    seed: of the draws.
    resamples: how many.
    confidence: coverage, in (0, 1).

  Returns:
    As `percentile`. With a single seed, the interval over problems alone.

  Raises:
    ValueError: as `percentile`, or if sets have different numbers of seeds.
  """
  seeds = {len(values) for values in strata}
  if len(seeds) != 1:
    raise ValueError(
        f"`strata` must have equal numbers of seeds, got {sorted(seeds)}"
    )
  (count,) = seeds
  mean = _checked_mean([v.reshape(-1) for v in strata], weights)
  if count == 1:
    return bca(
        [values[0] for values in strata], weights, seed=seed,
        resamples=resamples, confidence=confidence,
    )  # fmt: skip
  if all(np.ptp(values) == 0 for values in strata):
    return statistics.Interval(mean, None, None)
  rng = np.random.default_rng(seed)
  chosen = rng.integers(count, size=(resamples, count - 1))
  share = (chosen[..., None] == np.arange(count)).mean(axis=1)
  drawn = np.zeros(resamples)
  for values, weight in zip(strata, weights, strict=True):
    size = values.shape[1]
    rows = max(1, _CHUNK // size)
    for first in range(0, resamples, rows):
      part = slice(first, first + rows)
      problems = rng.integers(size, size=(len(drawn[part]), size))
      by_seed = np.stack([v[problems].mean(axis=1) for v in values], axis=1)
      drawn[part] += weight * np.sum(share[part] * by_seed, axis=1)
  t = stats.t.ppf(0.5 + confidence / 2, _freedom(strata, weights))
  half = float(t * np.std(drawn, ddof=1))
  return statistics.Interval(mean, mean - half, mean + half)


def _freedom(
    strata: Sequence[Float[np.ndarray, "_ _"]], weights: Sequence[float]
) -> float:
  """Degrees of freedom of the mean over two seeds or more; see `crossed`."""
  pairs = list(zip(strata, weights, strict=True))
  by_seed = sum(w * values.mean(axis=1) for values, w in pairs)
  parts = [by_seed, *(w * values.mean(axis=0) for values, w in pairs)]
  told = [
      (float(np.var(x, ddof=1)) / len(x), len(x) - 1)
      for x in parts
      if len(x) > 1
  ]
  squares = sum(v * v / dof for v, dof in told)
  return sum(v for v, _ in told) ** 2 / squares if squares else math.inf


def _checked_mean(strata: Sequence[Values], weights: Sequence[float]) -> float:
  """The weighted mean itself."""
  if len(strata) != len(weights) or not strata:
    raise ValueError(
        "`weights` must be as many as `strata`, at least one, got"
        f" {len(weights)} and {len(strata)}"
    )
  for values in strata:
    if not len(values) or not np.isfinite(values).all():
      raise ValueError(
          f"`strata` must hold finite values, at least one each, got {values}"
      )
  pairs = zip(strata, weights, strict=True)
  return math.fsum(w * float(np.mean(x)) for x, w in pairs)
