"""The paired difference of two scores on the same problems, and its test."""

from typing import NamedTuple

from jaxtyping import Float
import numpy as np

from poise_jax.evaluation import (
    bootstrap,
    detectable,
    mcnemar,
    measures,
    proportions,
    sign_flip,
    statistics,
)


class Difference(NamedTuple):
  """B minus A, in the units of the scores.

  Attributes:
    a: mean of A.
    b: mean of B.
    interval: of b - a, at 95 %.
    method: of the interval.
    p_value: two-sided.
    test: that gave it.
    detectable: smallest difference that would have been found with a chance
      of 80 % at the level asked for; None where the data do not tell.
  """

  a: float
  b: float
  interval: statistics.Interval
  method: str
  p_value: float
  test: str
  detectable: float | None


def compare(
    a: Float[np.ndarray, "P"],
    b: Float[np.ndarray, "P"],
    *,
    share: bool = True,
    seed: int = 0,
    level: float = 0.05,
) -> Difference:
  """Compares two scores problem by problem.

  Problems that are solved or not get Tango's interval and McNemar's exact
  test; other scores, the BCa bootstrap and the sign-flip test.

  Args:
    a: score of A on each problem.
    b: score of B on the same problems.
    share: whether they are shares, where 0 and 1 are the ends.
    seed: of the bootstrap and the test.
    level: that a p-value must reach, for `detectable`: 0.05 over the number of
      tests where the p-values of several are corrected. The interval is at
      95 % whatever it is.

  Raises:
    ValueError: if there are no problems, or not as many of both, or `level` is
      not between 0 and 1.
  """
  if not 0 < level < 1:
    raise ValueError(f"`level` must lie between 0 and 1, got {level}")
  if len(a) != len(b) or not len(a):
    raise ValueError(
        f"both must have the same problems, at least one, got {len(a)} and"
        f" {len(b)}"
    )
  mean_a, mean_b = float(np.mean(a)), float(np.mean(b))
  gaps = b - a
  if share and measures.is_binary(a) and measures.is_binary(b):
    gained, lost = int(np.sum(gaps > 0)), int(np.sum(gaps < 0))
    return Difference(
        mean_a,
        mean_b,
        proportions.paired(gained, lost, len(a)),
        "Tango",
        mcnemar.p_value(gained, lost),
        "McNemar, exact",
        mcnemar.detectable(len(a), gained + lost, level=level),
    )
  return Difference(
      mean_a,
      mean_b,
      bootstrap.bca([gaps], seed=seed),
      "BCa bootstrap",
      sign_flip.p_value(gaps, seed=seed),
      "sign flips",
      detectable.of_differences(gaps, level=level),
  )


def none(score: float) -> Difference:
  """The difference of a policy from itself: none, for certain."""
  interval = statistics.Interval(0.0, 0.0, 0.0)
  method = "the same checkpoint"
  return Difference(score, score, interval, method, 1.0, method, None)
