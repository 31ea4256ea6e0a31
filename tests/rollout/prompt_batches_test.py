"""Left padding in buckets, by hand."""

import numpy as np
import pytest

from poise_jax.rollout import prompt_batches


def test_rows_by_hand():
  prompts = prompt_batches.pad([[5, 6, 7], [8], [9, 9, 9, 9]], (2, 5, 9), 0)
  np.testing.assert_array_equal(
      prompts.tokens,
      [[0, 0, 5, 6, 7], [0, 0, 0, 0, 8], [0, 9, 9, 9, 9]],
  )
  np.testing.assert_array_equal(prompts.starts, [2, 4, 1])
  assert prompts.tokens.dtype == prompts.starts.dtype == np.int32


@pytest.mark.parametrize(
    "longest, width",
    [(1, 128), (128, 128), (129, 256), (512, 512), (513, 1024)],
)
def test_the_smallest_bucket_that_holds_the_longest(longest, width):
  prompts = prompt_batches.pad([[1], [2] * longest], prompt_batches.BUCKETS, 7)
  assert prompts.tokens.shape == (2, width)
  np.testing.assert_array_equal(prompts.starts, [width - 1, width - longest])


def test_every_prompt_comes_back():
  rng = np.random.default_rng(0)
  ids = [rng.integers(0, 9, n).tolist() for n in rng.integers(1, 40, 50)]
  # The padding is a token of the prompts as well.
  prompts = prompt_batches.pad(ids, (8, 40), 3)
  rows = zip(prompts.tokens, prompts.starts, strict=True)
  assert [row[start:].tolist() for row, start in rows] == ids
  before = np.arange(40) < prompts.starts[:, None]
  assert (prompts.tokens[before] == 3).all()


def test_which_fit():
  fits = prompt_batches.fits([[1] * 5, [], [1] * 6, [1] * 4], 5)
  assert fits.tolist() == [True, True, False, True]
  assert prompt_batches.fits([], 5).shape == (0,)
  with pytest.raises(ValueError, match="`limit` must be at least 1 token.*0"):
    prompt_batches.fits([[1]], 0)


@pytest.mark.parametrize(
    "ids, names, message",
    [
        ([], None, "at least one prompt"),
        ([[1], []], None, "prompt 1 must have at least one token.*empty"),
        ([[1], []], ["a/0", "a/1"], "prompt 'a/1' must have.*remove"),
        (
            [[1] * 9, [1] * 11],
            None,
            "prompt 1 must fit.*8 tokens, got 11.*2 of",
        ),
        ([[1] * 9, [1]], ["a/0", "a/1"], "prompt 'a/0'.*got 9 .1 of 2.*bucket"),
    ],
)
def test_prompts_that_cannot_be(ids, names, message):
  with pytest.raises(ValueError, match=message):
    prompt_batches.pad(ids, (4, 8), 0, names)


@pytest.mark.parametrize("sizes", [(), (0, 4), (8, 4), (4, 4)])
def test_buckets_that_cannot_be(sizes):
  with pytest.raises(ValueError, match="`bucket_sizes` must be ascending"):
    prompt_batches.pad([[1]], sizes, 0)
