"""Which problems are asked at once, and how they are laid on devices."""

from collections.abc import Iterator, Sequence
import math

from poise_jax.rollout import prompt_batches

BUCKETS = (16, 64, *prompt_batches.BUCKETS, 2048, 4096, 8192)


def batches(
    lengths: Sequence[int], per_batch: int
) -> Iterator[tuple[int, ...]]:
  """Yields the problems of each batch: those of one bucket, in their order."""
  bucket = lambda n: next(b for b in BUCKETS if b >= n)
  for size in BUCKETS:
    rows = [i for i, n in enumerate(lengths) if bucket(n) == size]
    for first in range(0, len(rows), per_batch):
      yield tuple(rows[first : first + per_batch])


def spread(count: int, most: int, samples: int, parts: int) -> tuple[int, int]:
  """How many problems a batch is filled to, and the rows that each becomes.

  Sizes are few, so that few programs are compiled: powers of two up to `most`.
  Every device gets as many rows. Where there are fewer problems than that, each
  is read several times, on several devices, which then share its samples: they
  take long, and reading does not. Only where samples cannot be shared evenly
  are devices kept busy with what is thrown away.

  Args:
    count: problems of this batch.
    most: problems of a full one.
    samples: of each problem.
    parts: devices that problems are split over.

  Returns:
    (problems, rows for each): their product is a multiple of `parts`, and rows
    divide `samples`.
  """
  size = min(most, 1 << (count - 1).bit_length())
  rows = parts // math.gcd(size, parts)
  if samples % rows:
    return -(-size // parts) * parts, 1
  return size, rows
