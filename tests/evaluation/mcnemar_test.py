"""McNemar's test against scipy and by hand; its power by simulation."""

import numpy as np
import pytest
from scipy import stats

from poise_jax.evaluation import mcnemar


def test_by_hand():
  assert mcnemar.p_value(0, 0) == 1
  assert mcnemar.p_value(5, 0) == pytest.approx(2 / 32, rel=1e-12)
  # 2 (1 + 8) / 2^8
  assert mcnemar.p_value(1, 7) == pytest.approx(18 / 256, rel=1e-12)
  assert mcnemar.p_value(4, 4) == 1


@pytest.mark.parametrize(("gained", "lost"), [(3, 9), (20, 31), (0, 1)])
def test_against_scipy(gained, lost):
  expected = stats.binomtest(gained, gained + lost).pvalue
  assert mcnemar.p_value(gained, lost) == pytest.approx(expected, rel=1e-9)
  assert mcnemar.p_value(lost, gained) == mcnemar.p_value(gained, lost)


def test_counts_are_not_negative():
  with pytest.raises(ValueError, match="not be negative, got -1 and 2"):
    mcnemar.p_value(-1, 2)
  with pytest.raises(ValueError, match=r"`flips` must lie in 0..3, got 4"):
    mcnemar.detectable(3, 4)


def test_power_against_a_simulation():
  rng = np.random.default_rng(0)
  draws = rng.multinomial(100, [0.15, 0.05, 0.8], 4000)
  rejected = [mcnemar.p_value(int(g), int(x)) <= 0.05 for g, x, _ in draws]
  found = mcnemar.power(100, 0.2, 0.1, 0.05)
  assert found == pytest.approx(np.mean(rejected), abs=4 * 0.008)


def test_power_by_hand():
  # Ten problems, all flips and all gains: rejected for certain; with a fair
  # coin, by at most one of ten: 2 * 11 / 1024.
  assert mcnemar.power(10, 1.0, 1.0, 0.05) == pytest.approx(1)
  assert mcnemar.power(10, 1.0, 0.0, 0.05) == pytest.approx(22 / 1024)


@pytest.mark.parametrize(("count", "flips"), [(30, 10), (83, 0), (500, 60)])
def test_detectable_is_where_power_reaches_80_percent(count, flips):
  found = mcnemar.detectable(count, flips)
  seen = (flips + 1) / (count + 2)
  power = lambda d: mcnemar.power(count, max(seen, d), d, 0.05)
  assert power(found) >= 0.8 > power(found - 1e-4)


def test_five_problems_can_show_nothing():
  # 2 / 2^5 is above 5 %.
  assert mcnemar.detectable(5, 5) == 1
