"""Score intervals against published examples and likelihoods maximised."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from poise_jax.evaluation import proportions


@pytest.mark.parametrize(
    ("hits", "count"), [(0, 30), (1, 7), (8, 30), (13, 30), (30, 30)]
)
def test_wilson_against_scipy(hits, count):
  expected = stats.binomtest(hits, count).proportion_ci(method="wilson")
  found = proportions.wilson(hits, count)
  assert found.mean == hits / count
  assert found[1:] == pytest.approx(tuple(expected), abs=1e-12)
  # Exactly, for a share below 0 would be nonsense.
  assert found.low >= 0 and found.high <= 1


def test_newcombe_against_his_own_example():
  # Table II (a) of the paper: 56/70 - 48/80, method 10.
  found = proportions.newcombe(56, 70, 48, 80)
  assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
  # 0/10 - 0/10, by hand from Wilson's 0 to z²/(10 + z²).
  z2 = stats.norm.ppf(0.975) ** 2
  edge = z2 / (10 + z2)
  found = proportions.newcombe(0, 10, 0, 10)
  assert found == pytest.approx((0, -edge, edge), abs=1e-12)


def test_agresti_caffo_by_hand():
  # 14/32 and 9/32 after adding one of each.
  p, q = 14 / 32, 9 / 32
  half = 1.959963984540054 * math.sqrt((p * (1 - p) + q * (1 - q)) / 32)
  found = proportions.agresti_caffo(13, 30, 8, 30)
  assert found == pytest.approx((5 / 30, p - q - half, p - q + half), abs=1e-12)


def test_tango_against_a_published_example():
  # Airway hyper-responsiveness, 1 and 7 flips of 21: Fagerland, Lydersen and
  # Laake, "Recommended tests and confidence intervals for paired binomial
  # proportions" (2014).
  found = proportions.paired(1, 7, 21)
  assert found == pytest.approx((-6 / 21, -0.517, -0.026), abs=5e-4)


def _score(gained, lost, count, delta):
  """The score statistic with the likelihood maximised by search."""

  def minus(q):
    terms = [
        (gained, q + delta),
        (lost, q),
        (count - gained - lost, 1 - 2 * q - delta),
    ]
    return -sum(k * math.log(p) for k, p in terms if k)

  low, high = max(0.0, -delta) + 1e-12, (1 - delta) / 2 - 1e-12
  q = optimize.minimize_scalar(
      minus, bounds=(low, high), method="bounded", options={"xatol": 1e-13}
  ).x
  variance = count * (2 * q + delta * (1 - delta))
  return (gained - lost - count * delta) / math.sqrt(variance)


@pytest.mark.parametrize(
    ("gained", "lost", "count"), [(5, 2, 30), (1, 7, 21), (20, 31, 500)]
)
def test_tango_ends_are_where_the_score_test_turns(gained, lost, count):
  _, low, high = proportions.paired(gained, lost, count)
  z = stats.norm.ppf(0.975)
  assert _score(gained, lost, count, low) == pytest.approx(z, abs=1e-4)
  assert _score(gained, lost, count, high) == pytest.approx(-z, abs=1e-4)


def test_tango_without_flips_and_with_nothing_else():
  z2 = stats.norm.ppf(0.975) ** 2
  edge = z2 / (30 + z2)
  found = proportions.paired(0, 0, 30)
  assert found == pytest.approx((0, -edge, edge), abs=1e-9)
  _, low, high = proportions.paired(30, 0, 30)
  assert 0.7 < low < high == 1
  mirrored = proportions.paired(0, 30, 30)
  assert mirrored == pytest.approx((-1, -high, -low), abs=1e-9)
  assert proportions.paired(2, 5, 40).low == pytest.approx(
      -proportions.paired(5, 2, 40).high, abs=1e-9
  )


@pytest.mark.parametrize(
    "call",
    [
        lambda: proportions.wilson(3, 2),
        lambda: proportions.wilson(0, 0),
        lambda: proportions.paired(-1, 2, 5),
        lambda: proportions.paired(3, 3, 5),
        lambda: proportions.wilson(1, 2, confidence=1.0),
    ],
)
def test_what_cannot_be(call):
  with pytest.raises(ValueError, match="must lie in"):
    call()


def _coverage(simulations):
  rng = np.random.default_rng(0)
  # Gained, lost, both or neither; the truth is 0.1.
  counts = rng.multinomial(60, [0.2, 0.1, 0.7], simulations)
  found = [proportions.paired(int(g), int(x), 60) for g, x, _ in counts]
  return np.mean([i.low <= 0.1 <= i.high for i in found])


def test_tango_covers_the_truth():
  assert _coverage(300) == pytest.approx(0.95, abs=4 * 0.0126)


@pytest.mark.slow
def test_tango_covers_the_truth_at_its_nominal_rate():
  # Four standard errors, and what is lost to counts being whole.
  assert _coverage(4000) == pytest.approx(0.95, abs=4 * 0.0035)
