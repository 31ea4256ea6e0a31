"""Prompts of different lengths as one array, in few widths.

A program is compiled for each width that it meets. So a batch is not as wide
as its longest prompt but as the smallest of a few fixed buckets. Prompts end at
the right, where their completions begin; padding is at their left.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Bool, Int
import numpy as np

BUCKETS = (128, 256, 512, 1024)


class Prompts(NamedTuple):
  """Prompts padded at their left, on the host or the device.

  Attributes:
    tokens: i32; row p is a prompt from `starts[p]` on, padding before.
    starts: i32, from 0 to S - 1: how much padding each row has; None where no
      row has any.
  """

  tokens: Int[np.ndarray, "P S"]
  starts: Int[np.ndarray, "P"] | None = None


def fits(ids: Sequence[Sequence[int]], limit: int) -> Bool[np.ndarray, "P"]:
  """Which prompts have at most `limit` tokens; the others may be dropped.

  Their number is `(~fits(ids, limit)).sum()`.

  Raises:
    ValueError: if `limit` is not positive.
  """
  if limit < 1:
    raise ValueError(f"`limit` must be at least 1 token, got {limit}")
  return np.array([len(row) <= limit for row in ids], bool)


def pad(
    ids: Sequence[Sequence[int]],
    bucket_sizes: Sequence[int],
    pad_id: int,
    names: Sequence[str] | None = None,
) -> Prompts:
  """Pads prompts to the smallest bucket that holds the longest of them.

  Args:
    ids: tokens of each prompt, at least one prompt.
    bucket_sizes: widths to choose from, ascending.
    pad_id: fills up; what is padding, `starts` says and not this id.
    names: of the prompts, for messages; their numbers from 0 if None.

  Raises:
    ValueError: if there is no prompt, one is empty or longer than the largest
      bucket, or the buckets are not ascending positive numbers.
  """
  check_buckets(bucket_sizes)
  if not ids:
    raise ValueError("`ids` must hold at least one prompt, got none")
  lengths = np.array([len(row) for row in ids])
  name = lambda row: repr(names[row]) if names is not None else str(row)
  if not lengths.all():
    raise ValueError(
        f"prompt {name(int(lengths.argmin()))} must have at least one token, it"
        " is empty; remove the problem or use a template that adds text"
    )
  longest, widest = int(lengths.max()), bucket_sizes[-1]
  if longest > widest:
    too_long = int((lengths > widest).sum())
    raise ValueError(
        f"prompt {name(int(lengths.argmax()))} must fit the largest bucket of"
        f" {widest} tokens, got {longest} ({too_long} of {len(ids)} prompts are"
        " too long); drop it, as `fits` tells, or add a bucket"
    )
  width = next(size for size in bucket_sizes if size >= longest)
  tokens = np.full((len(ids), width), pad_id, np.int32)
  starts = (width - lengths).astype(np.int32)
  for row, start, prompt in zip(tokens, starts, ids, strict=True):
    row[start:] = prompt
  return Prompts(tokens, starts)


def check_buckets(bucket_sizes: Sequence[int]) -> None:
  """Refuses buckets that are not ascending positive numbers.

  Raises:
    ValueError: naming them.
  """
  sizes = list(bucket_sizes)
  if not sizes or sizes[0] < 1 or sizes != sorted(set(sizes)):
    raise ValueError(
        "`bucket_sizes` must be ascending widths of at least 1 token, such as"
        f" {BUCKETS}, got {tuple(sizes)}"
    )
