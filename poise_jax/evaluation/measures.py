"""Results of a set as arrays over its problems."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import re
from typing import NamedTuple

from jaxtyping import Float
import numpy as np

from poise_jax.evaluation import (
    bootstrap,
    majority,
    pass_at_k,
    proportions,
    results,
    statistics,
)


class Measures(NamedTuple):
  """What was measured of each problem.

  Attributes:
    ids: of the problems, numbers in them in their natural order.
    samples: n, completions of each.
    hits: right ones.
    majority: maj@n.
    tokens: mean length of the completions.
    words: likewise, parts between spaces.
    valid: share of completions whose answer stands where it should.
    truncated: share that the length limit cut off.
  """

  ids: tuple[str, ...]
  samples: int
  hits: Float[np.ndarray, "P"]
  majority: Float[np.ndarray, "P"]
  tokens: Float[np.ndarray, "P"]
  words: Float[np.ndarray, "P"]
  valid: Float[np.ndarray, "P"]
  truncated: Float[np.ndarray, "P"]

  def score(self, k: int) -> Float[np.ndarray, "P"]:
    """pass@k of each problem; with k = n = 1 it is greedy accuracy."""
    return pass_at_k.pass_at_k(self.hits, self.samples, k)


def measure(records: Iterable[results.Record]) -> Measures:
  """Measures each problem.

  Raises:
    ValueError: if there is none, or they have different numbers of samples.
  """
  ordered = sorted(records, key=lambda r: natural(r.id))
  counts = {len(r.completions) for r in ordered}
  if len(counts) != 1:
    raise ValueError(
        "results must have problems, all with one number of samples, got the"
        f" numbers {sorted(counts)}"
    )
  (samples,) = counts

  def mean(of: Callable[[results.Completion], float]) -> np.ndarray:
    rows = [[of(c) for c in r.completions] for r in ordered]
    return np.array(rows, np.float64).mean(axis=1)

  vote = lambda r: majority.maj_at_k(
      [c.answer if c.vote is None else c.vote for c in r.completions],
      [c.correct for c in r.completions],
      samples,
  )
  correct = np.array([[c.correct for c in r.completions] for r in ordered])
  return Measures(
      ids=tuple(r.id for r in ordered),
      samples=samples,
      hits=correct.sum(axis=1).astype(np.float64),
      majority=np.array([vote(r) for r in ordered], np.float64),
      tokens=mean(lambda c: c.tokens),
      words=mean(lambda c: len(c.text.split())),
      valid=mean(lambda c: c.format_valid),
      truncated=mean(lambda c: not c.finished),
  )


def natural(name: str) -> list[tuple[int, str]]:
  """A key that sorts "x/9" before "x/10"."""
  parts = re.findall(r"[0-9]+|[^0-9]+", name)
  return [(int(p), p) if p.isdecimal() else (-1, p) for p in parts]


def is_binary(values: np.ndarray) -> bool:
  """Whether all values are 0 or 1."""
  return bool(np.all((values == 0) | (values == 1)))


def interval(
    by_seed: Sequence[Float[np.ndarray, "P"]],
    *,
    share: bool = True,
    seed: int = 0,
) -> tuple[statistics.Interval, str]:
  """Interval of a mean over problems (and seeds), and the name of its method.

  Shares of problems solved get Wilson's, for it keeps its width at 0 and 1;
  other means, BCa; means over several seeds, the crossed bootstrap. Where no
  problem or every one is solved with every seed, there is nothing to draw
  from: seeds that agree so count as one, which gets Wilson's.

  Args:
    by_seed: one value a problem, for each seed.
    share: whether it is a share of something, where 0 and 1 are the ends.
    seed: of the bootstrap.
  """
  values = by_seed[0]
  alike = np.ptp(np.stack(by_seed)) == 0
  if len(by_seed) > 1 and not (share and alike and is_binary(values)):
    found = bootstrap.crossed([np.stack(by_seed)], seed=seed)
    return (within(found) if share else found), "crossed bootstrap"
  if share and is_binary(values):
    return proportions.wilson(int(values.sum()), len(values)), "Wilson"
  return bootstrap.bca([values], seed=seed), "BCa bootstrap"


def within(found: statistics.Interval) -> statistics.Interval:
  """The part of an interval of a share that lies in [0, 1]."""
  if found.low is None or found.high is None:
    return found
  return found._replace(low=max(0.0, found.low), high=min(1.0, found.high))


def scaled(
    found: statistics.Interval, factor: float = 100.0
) -> statistics.Interval:
  """An interval in other units, points of 100 by default."""
  return statistics.Interval(
      factor * found.mean,
      None if found.low is None else factor * found.low,
      None if found.high is None else factor * found.high,
  )


def text(found: Mapping[str, float | None], digits: int = 1) -> str:
  """Writes an interval, "26.7 [14.2, 44.4]"."""
  mean, low, high = found["mean"], found["low"], found["high"]
  if low is None or high is None:
    return f"{mean:.{digits}f} [no interval]"
  # No minus before a zero.
  shown = [f"{x:.{digits}f}" for x in (mean, low, high)]
  plain = [x[1:] if float(x) == 0 and x[0] == "-" else x for x in shown]
  return "{} [{}, {}]".format(*plain)


def metric_name(metric: str, samples: int) -> str:
  """What the score of a set is called in tables."""
  return f"pass@{samples}" if metric == "pass_at_k" else "greedy accuracy"
