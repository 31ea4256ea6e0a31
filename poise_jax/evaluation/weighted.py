"""A weighted sum of scores of independent sets, such as Overall."""

from collections.abc import Sequence
import math

from poise_jax.evaluation import statistics


def combine(
    intervals: Sequence[statistics.Interval], weights: Sequence[float]
) -> statistics.Interval:
  """Interval of Σ_s w_s score_s from those of its parts.

    low  = mean - √(Σ_s w_s² (mean_s - low_s)²)
    high = mean + √(Σ_s w_s² (high_s - mean_s)²)

  Sets are asked separate problems, so their errors are independent and squares
  add. Unlike a bootstrap within sets (`bootstrap.bca`), it keeps its width
  where a set has no or all problems solved, as far as the parts do. See
  "Construction of confidence limits about effect measures" by Zou and Donner
  (2008), https://doi.org/10.1002/sim.3095.

  Args:
    intervals: of the sets, all of one confidence.
    weights: not negative.

  Returns:
    Its ends are None where those of a part with weight are.

  Raises:
    ValueError: if a weight is negative, or there are not as many of both.
  """
  if len(intervals) != len(weights) or any(w < 0 for w in weights):
    raise ValueError(
        "`weights` must be as many as `intervals`, none negative, got"
        f" {list(weights)} for {len(intervals)}"
    )
  parts = [(i, w) for i, w in zip(intervals, weights, strict=True) if w]
  mean = math.fsum(w * i.mean for i, w in parts)
  if any(i.low is None or i.high is None for i, _ in parts):
    return statistics.Interval(mean, None, None)
  below = math.hypot(*(w * (i.mean - i.low) for i, w in parts))
  above = math.hypot(*(w * (i.high - i.mean) for i, w in parts))
  return statistics.Interval(mean, mean - below, mean + above)
