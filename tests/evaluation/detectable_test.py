"""Minimum detectable differences: by hand, and found as often as they say."""

import numpy as np
import pytest
from scipy import stats

from poise_jax.evaluation import detectable


def test_of_differences_by_hand():
  gaps = np.array([1.0, -1.0, 2.0, -2.0, 0.0])
  # sd² = 10 / 4; t(0.975, 4) = 2.7764451, t(0.8, 4) = 0.9409646.
  expected = (2.7764451 + 0.9409646) * np.sqrt(2.5 / 5)
  assert detectable.of_differences(gaps) == pytest.approx(expected, rel=1e-6)


def test_what_does_not_vary_tells_nothing():
  assert detectable.of_differences(np.zeros(9)) is None
  assert detectable.of_differences(np.array([1.0])) is None


def test_of_an_interval_by_hand():
  # (1.9599640 + 0.8416212) / 1.9599640
  assert detectable.of_interval(2.0) == pytest.approx(2.8588129, rel=1e-6)


def test_it_is_found_in_80_percent():
  rng = np.random.default_rng(0)
  size = detectable.of_differences(rng.normal(size=4000)) * np.sqrt(4000 / 50)
  runs = rng.normal(size, 1, (4000, 50))
  found = stats.ttest_1samp(runs, 0, axis=1).pvalue <= 0.05
  assert np.mean(found) == pytest.approx(0.8, abs=0.03)
