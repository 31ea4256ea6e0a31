"""Pooled variance and moderated intervals, by hand and against scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from poise_jax.evaluation import statistics


def test_pooled_variance_by_hand():
  # Squares 2 + 0.5 + 6 about the means 2, 0.5 and 5; degrees 1 + 1 + 2.
  groups = [[1.0, 3.0], [0.0, 1.0], [4.0, 4.0, 7.0], [100.0], []]
  assert statistics.pooled_variance(groups) == (pytest.approx(8.5 / 4), 4)


@pytest.mark.parametrize("groups", [[], [[]], [[5.0], [7.0]]])
def test_groups_of_one_tell_nothing(groups):
  assert statistics.pooled_variance(groups) == (0.0, 0)


def test_without_a_prior_it_is_students_interval():
  values = [3.0, 5.0, 10.0, 4.5]
  for confidence in (0.5, 0.95, 0.99):
    expected = stats.t.interval(
        confidence, 3, loc=np.mean(values), scale=stats.sem(values)
    )
    found = statistics.mean_interval(values, confidence=confidence)
    assert found.mean == 5.625
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)


def test_a_prior_moderates_the_variance_by_hand():
  # (3 * 4 + 1 * 2) / 4 = 3.5 on 4 degrees; t(0.975, 4) = 2.7764451.
  found = statistics.mean_interval(
      [1.0, 3.0], prior_variance=4.0, prior_dof=3.0
  )
  half = 2.7764451 * math.sqrt(3.5 / 2)
  expected = (2, 2 - half, 2 + half)
  assert found == pytest.approx(expected, rel=1e-7)


def test_two_seeds_that_agree_are_not_certain_with_a_prior():
  alone = statistics.mean_interval([50.0, 50.0])
  assert alone == (50, 50, 50)
  moderated = statistics.mean_interval(
      [50.0, 50.0], prior_variance=4.0, prior_dof=20.0
  )
  # t(0.975, 21) = 2.0796138, variance 20 * 4 / 21.
  expected = 2.0796138 * math.sqrt(80 / 21 / 2)
  assert moderated.high - 50 == pytest.approx(expected, rel=1e-7)


def test_one_seed_has_the_interval_of_its_prior_alone():
  assert statistics.mean_interval([7.0]) == (7, None, None)
  found = statistics.mean_interval([7.0], prior_variance=9.0, prior_dof=10.0)
  # t(0.975, 10) = 2.2281389, times 3.
  assert found.low == pytest.approx(7 - 6.6844166, abs=1e-6)


def test_no_values_have_no_mean():
  with pytest.raises(ValueError, match="`values` must hold at least one"):
    statistics.mean_interval([])


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_95_percent_intervals_cover_the_truth_in_95_percent(seeds):
  rng = np.random.default_rng(seeds)
  campaigns, hits = 20_000, 0
  for _ in range(campaigns):
    others = rng.normal(rng.normal(0, 5, (6, 1)), 2.0, (6, 2))
    variance, dof = statistics.pooled_variance(others.tolist())
    found = statistics.mean_interval(
        rng.normal(50, 2.0, seeds).tolist(),
        prior_variance=variance,
        prior_dof=float(dof),
    )
    hits += found.low <= 50 <= found.high
  # Four standard errors of a share of 0.95 in 20,000.
  assert abs(hits / campaigns - 0.95) < 4 * math.sqrt(0.95 * 0.05 / campaigns)
