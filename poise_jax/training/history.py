"""How often prompts like these were answered right so far.

Prompts share a bucket, a small integer: the number of operations for
arithmetic, the problem's own place for a problem set. The counts are kept by
the host, saved with the run, and read before a batch is counted, so that an
algorithm never sees the outcome of a batch in its own history.
"""

from typing import NamedTuple

from jaxtyping import Float, Int
import numpy as np


class PassHistory(NamedTuple):
  """Completions seen and passed, by bucket of their prompt.

  Counts in f32, exact up to 2**24 completions of one bucket.

  Attributes:
    passed: correct completions.
    seen: all completions.
  """

  passed: Float[np.ndarray, "B"]
  seen: Float[np.ndarray, "B"]


def _check(history: PassHistory, buckets: Int[np.ndarray, "P"]) -> None:
  """Negative buckets would silently count from the end."""
  size = len(history.seen)
  outside = buckets[(buckets < 0) | (buckets >= size)]
  if outside.size:
    raise ValueError(
        f"`buckets` must be from 0 to {size - 1}, got {outside[0]}; if problems"
        " were added, `grow` the history first"
    )


def empty(buckets: int) -> PassHistory:
  """Nothing seen yet.

  Args:
    buckets: number of buckets.

  Raises:
    ValueError: if there are none.
  """
  if buckets < 1:
    raise ValueError(f"`buckets` must be at least 1, got {buckets}")
  zeros = np.zeros(buckets, np.float32)
  return PassHistory(zeros, zeros.copy())


def grow(history: PassHistory, buckets: int) -> PassHistory:
  """The same counts with room for more buckets, which have seen nothing.

  Args:
    history: what was counted so far.
    buckets: number of buckets afterwards.

  Raises:
    ValueError: if that is fewer than there are: counts are not thrown away.
  """
  new = buckets - len(history.seen)
  if new < 0:
    raise ValueError(
        f"`buckets` must be at least {len(history.seen)}, the size of the"
        f" history, got {buckets}; a history of other problems cannot be used,"
        " begin with `empty`"
    )
  return PassHistory(*(np.pad(counts, (0, new)) for counts in history))


def pass_rate(
    history: PassHistory, buckets: Int[np.ndarray, "P"]
) -> Float[np.ndarray, "P"]:
  """Laplace-smoothed pass rate of each prompt's bucket, in (0, 1).

  Args:
    history: what was counted so far.
    buckets: of the prompts.

  Returns:
    (passed + 1) / (seen + 2), f32; one half where nothing was seen.

  Raises:
    ValueError: if a bucket is not in the history.
  """
  _check(history, buckets)
  rates = (history.passed + 1) / (history.seen + 2)
  return rates[buckets].astype(np.float32)


def add(
    history: PassHistory,
    buckets: Int[np.ndarray, "P"],
    correct: Float[np.ndarray, "P G"],
) -> PassHistory:
  """Counts the completions of one rollout.

  With dynamic sampling count every group that was sampled. To count only those
  that were kept would pull all rates towards one half.

  Args:
    history: what was counted so far; not changed.
    buckets: of the prompts; one may occur many times.
    correct: 1.0 where the completion was accepted, else 0.0.

  Returns:
    The new counts.

  Raises:
    ValueError: if a bucket is not in the history, or `correct` is neither
      0 nor 1 somewhere.
  """
  _check(history, buckets)
  if not np.all((correct == 0) | (correct == 1)):
    raise ValueError(
        "`correct` must be 0 or 1 everywhere; grade again what is not"
    )
  passed, seen = np.array(history.passed), np.array(history.seen)
  np.add.at(passed, buckets, correct.sum(axis=1))
  np.add.at(seen, buckets, correct.shape[1])
  return PassHistory(passed, seen)
