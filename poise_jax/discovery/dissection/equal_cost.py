"""Two runs at equal tokens, equal KL or equal time, from their training curves.

A loss that makes a policy write more, move further or compute longer in the
same number of steps has had more of something. Curves hold the share of right
answers on fresh training prompts at each step, not the score of the suite; so
it is that which is compared.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

from poise_jax.evaluation import statistics

VALUE = "rewards/correct/mean"


@dataclasses.dataclass(frozen=True)
class Run:
  """What is known of one training run.

  Attributes:
    score: of the suite after it; the least there is if it diverged.
    diverged: why it broke down; empty if it did not.
    curve: metric -> one value a step.
    seconds: that training took, None if unknown.
  """

  score: float
  diverged: str
  curve: Mapping[str, Sequence[float]]
  seconds: float | None = None


# A run to what it has used up after each step; None if it does not say.
Cost = Callable[[Run], Float[np.ndarray, "S"] | None]


def tokens(run: Run) -> Float[np.ndarray, "S"] | None:
  """Completion tokens sampled so far."""
  used = run.curve.get("num_tokens")
  return None if used is None else np.cumsum(used, dtype=np.float64)


def divergence(run: Run) -> Float[np.ndarray, "S"] | None:
  """Furthest distance from the base policy so far: KL in nats a token."""
  values = run.curve.get("kl")
  if values is None:
    return None
  return np.maximum.accumulate(np.asarray(values, np.float64))


def seconds(run: Run) -> Float[np.ndarray, "S"] | None:
  """Wall-clock so far, as if every step had taken as long."""
  steps = len(run.curve.get(VALUE, ()))
  if run.seconds is None or not steps:
    return None
  return run.seconds * np.arange(1, steps + 1) / steps


COSTS: Mapping[str, Cost] = {
    "tokens": tokens,
    "KL": divergence,
    "seconds": seconds,
}


class EqualCost(NamedTuple):
  """Child against root where both have used up the same.

  Attributes:
    at: mean over seeds of the cost: the most that both of a pair reached.
    child: its mean level there, the share of right answers.
    root: likewise.
    level: child minus root there.
    mean: child minus root in the mean over the cost up to there.
    pairs: seeds that could be compared.
  """

  at: float
  child: float
  root: float
  level: statistics.Interval
  mean: statistics.Interval
  pairs: int


def compare(
    children: Sequence[Run], roots: Sequence[Run], cost: Cost
) -> EqualCost | None:
  """Compares runs pair by pair at the largest cost that both reach.

    v(x) by linear interpolation between steps of the curve, smoothed by a mean
    over the last quarter of the steps; what lies before the first step of one
    of the two is left out.

  Args:
    children: runs of the child.
    roots: runs of the root with the same seeds, in the same order.
    cost: what is to be equal.

  Returns:
    None if no pair has both curves and a common range of cost.
  """
  found = []
  for child, root in zip(children, roots, strict=True):
    ends = [_curve(run, cost) for run in (child, root)]
    if None in ends:
      continue
    low = max(x[0] for x, _ in ends)
    high = min(x[-1] for x, _ in ends)
    if low > high:
      continue
    levels = [float(np.interp(high, x, y)) for x, y in ends]
    means = [_mean(x, y, low, high) for x, y in ends]
    found.append((high, *levels, means[0] - means[1]))
  if not found:
    return None
  at, child_level, root_level, gap = np.array(found).T
  return EqualCost(
      at=float(at.mean()),
      child=float(child_level.mean()),
      root=float(root_level.mean()),
      level=statistics.mean_interval((child_level - root_level).tolist()),
      mean=statistics.mean_interval(gap.tolist()),
      pairs=len(found),
  )


def _curve(run: Run, cost: Cost) -> tuple[np.ndarray, np.ndarray] | None:
  """Cost and smoothed value after each step; None if one is unknown."""
  x, y = cost(run), run.curve.get(VALUE)
  if x is None or not y or len(x) != len(y):
    return None
  window = max(len(y) // 4, 1)
  smooth = [
      float(np.mean(y[max(i + 1 - window, 0) : i + 1])) for i in range(len(y))
  ]
  return x, np.array(smooth)


def _mean(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
  """Mean of the curve over a range of cost."""
  if low == high:
    return float(np.interp(high, x, y))
  inside = x[(x > low) & (x < high)]
  grid = np.concatenate([[low], inside, [high]])
  return float(np.trapezoid(np.interp(grid, x, y), grid) / (high - low))
