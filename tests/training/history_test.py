"""The running pass rate of prompts like these."""

import numpy as np
import pytest

from poise_jax.training import history


def test_nothing_seen_is_even_odds():
  rates = history.pass_rate(history.empty(6), np.array([1, 5]))
  np.testing.assert_array_equal(rates, [0.5, 0.5])
  assert rates.dtype == np.float32


def test_counts_go_to_prompts_of_the_same_bucket():
  correct = np.array([[1, 1], [0, 1], [0, 0]], np.float32)
  counts = history.add(history.empty(6), np.array([2, 2, 3]), correct)
  # Bucket 2: 3 of 4 passed, (3+1)/(4+2); bucket 3: 0 of 2, 1/4.
  rates = history.pass_rate(counts, np.array([2, 3, 4]))
  np.testing.assert_allclose(rates, [4 / 6, 1 / 4, 1 / 2])
  np.testing.assert_array_equal(counts.seen, [0, 0, 4, 2, 0, 0])


def test_history_is_not_changed_in_place():
  before = history.empty(3)
  after = history.add(before, np.array([1]), np.ones((1, 2), np.float32))
  assert before.seen.sum() == before.passed.sum() == 0
  after.seen[:] = 9
  assert before.seen.sum() == 0
  assert after.passed.sum() == 2


def test_many_rollouts_add_up():
  rng = np.random.default_rng(0)
  counts, passed, seen = history.empty(6), np.zeros(6), np.zeros(6)
  for _ in range(20):
    buckets = rng.integers(0, 6, 16)
    correct = rng.integers(0, 2, (16, 8)).astype(np.float32)
    counts = history.add(counts, buckets, correct)
    for bucket, row in zip(buckets, correct, strict=True):
      passed[bucket] += row.sum()
      seen[bucket] += 8
  np.testing.assert_array_equal(counts.passed, passed)
  np.testing.assert_array_equal(counts.seen, seen)
  rates = history.pass_rate(counts, np.arange(6))
  np.testing.assert_allclose(rates, (passed + 1) / (seen + 2), rtol=1e-6)


def test_a_history_grows_with_its_problems():
  ones = np.ones((1, 4), np.float32)
  small = history.add(history.empty(2), np.array([1]), ones)
  large = history.grow(small, 5)
  rates = history.pass_rate(large, np.array([1, 4]))
  np.testing.assert_allclose(rates, [5 / 6, 1 / 2])
  assert large.seen.dtype == np.float32
  with pytest.raises(ValueError, match="at least 5.*got 2.*`empty`"):
    history.grow(large, 2)


@pytest.mark.parametrize("bucket", [-1, 3])
def test_buckets_outside_are_refused(bucket):
  message = f"from 0 to 2, got {bucket}.*`grow`"
  with pytest.raises(ValueError, match=message):
    history.pass_rate(history.empty(3), np.array([0, bucket]))
  with pytest.raises(ValueError, match=message):
    ones = np.ones((1, 2), np.float32)
    history.add(history.empty(3), np.array([bucket]), ones)


@pytest.mark.parametrize("value", [0.5, np.nan, -1])
def test_verdicts_are_yes_or_no(value):
  correct = np.array([[1, value]], np.float32)
  with pytest.raises(ValueError, match="`correct` must be 0 or 1"):
    history.add(history.empty(3), np.array([0]), correct)


def test_no_buckets():
  with pytest.raises(ValueError, match="at least 1, got 0"):
    history.empty(0)
