"""Weighted sums of intervals by hand."""

import math

import pytest

from poise_jax.evaluation import statistics, weighted

Interval = statistics.Interval


def test_by_hand():
  parts = [Interval(10.0, 6.0, 13.0), Interval(20.0, 17.0, 24.0)]
  found = weighted.combine(parts, [0.5, 2.0])
  assert found == pytest.approx(
      (45, 45 - math.hypot(2, 6), 45 + math.hypot(1.5, 8))
  )


def test_equal_normal_parts_give_the_normal_interval():
  parts = [Interval(1.0, 0.0, 2.0)] * 4
  assert weighted.combine(parts, [0.25] * 4) == pytest.approx((1, 0.5, 1.5))


def test_a_part_without_interval():
  parts = [Interval(1.0, None, None), Interval(2.0, 1.0, 3.0)]
  assert weighted.combine(parts, [1.0, 1.0]) == (3, None, None)
  assert weighted.combine(parts, [0.0, 1.0]) == (2, 1, 3)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0]])
def test_weights(weights):
  with pytest.raises(ValueError, match="`weights` must be as many"):
    weighted.combine([Interval(1.0, 0.0, 2.0)] * 2, weights)
