"""Paired differences: the right method for each kind of score."""

import numpy as np
import pytest

from poise_jax.evaluation import (
    bootstrap,
    mcnemar,
    paired_scores,
    proportions,
    sign_flip,
)


def test_problems_that_are_solved_or_not():
  a = np.array([0.0, 0, 1, 1, 0, 0])
  b = np.array([1.0, 1, 1, 0, 0, 1])
  found = paired_scores.compare(a, b)
  assert (found.a, found.b) == (pytest.approx(2 / 6), pytest.approx(4 / 6))
  assert found.interval == proportions.paired(3, 1, 6)
  assert found.p_value == pytest.approx(2 * 5 / 16)
  assert found.test == "McNemar, exact"
  assert found.detectable == mcnemar.detectable(6, 4)


def test_other_scores():
  a = np.array([0.5, 0.25, 1.0, 0.0, 0.5])
  b = np.array([0.75, 0.5, 1.0, 0.5, 0.25])
  found = paired_scores.compare(a, b)
  assert found.interval == bootstrap.bca([b - a])
  assert found.p_value == sign_flip.p_value(b - a)
  # Lengths of 0 and 1 are no shares.
  lengths = paired_scores.compare(np.zeros(3), np.ones(3), share=False)
  assert lengths.test == "sign flips"


def test_a_stricter_level_needs_a_larger_difference():
  a = np.array([0.0, 0, 1, 1, 0, 0] * 20)
  b = np.array([1.0, 1, 1, 0, 0, 1] * 20)
  loose, strict = (
      paired_scores.compare(a, b, level=level) for level in (0.05, 0.05 / 6)
  )
  assert strict.detectable == mcnemar.detectable(120, 80, level=0.05 / 6)
  # Normal approximation: (z_{1 - level/2} + z_{0.8}) sqrt(flips - d²) / sqrt(n).
  for found, z in ((loose, 1.960), (strict, 2.638)):
    expected = (z + 0.842) * np.sqrt((2 / 3 - found.detectable**2) / 120)
    assert found.detectable == pytest.approx(expected, rel=0.1)
  assert strict._replace(detectable=loose.detectable) == loose
  gaps = np.array([0.5, -0.25, 0.25, 0.75])
  found = paired_scores.compare(np.zeros(4), gaps, level=0.01, share=False)
  # t with 3 degrees of freedom: 5.841 at 0.995 and 0.978 at 0.8.
  error = np.std(gaps, ddof=1) / 2
  assert found.detectable == pytest.approx((5.841 + 0.978) * error, rel=1e-3)
  with pytest.raises(ValueError, match="`level` must lie between 0 and 1"):
    paired_scores.compare(a, b, level=0.0)


def test_turned_round_it_is_the_opposite():
  rng = np.random.default_rng(0)
  a, b = rng.random(40), rng.random(40)
  one, other = paired_scores.compare(a, b), paired_scores.compare(b, a)
  assert one.interval.mean == -other.interval.mean
  assert one.p_value == other.p_value
  assert one.interval.low == pytest.approx(-other.interval.high, abs=0.01)


def test_the_same_twice():
  scores = np.random.default_rng(0).random(30)
  found = paired_scores.compare(scores, scores)
  assert (found.interval.mean, found.p_value) == (0, 1)
  assert found.detectable is None
  certain = paired_scores.none(0.25)
  assert certain.interval == (0, 0, 0)
  assert (certain.a, certain.b, certain.p_value) == (0.25, 0.25, 1)


def test_problems_must_be_the_same():
  # A ValueError, or one of the checks of shapes in these tests.
  with pytest.raises((ValueError, TypeError)):
    paired_scores.compare(np.ones(2), np.ones(3))
  with pytest.raises(ValueError, match="at least one, got 0 and 0"):
    paired_scores.compare(np.ones(0), np.ones(0))


def _simulate(simulations, problems, samples):
  """Shares of intervals with the truth, for a policy and a perturbed copy.

  The copy solves problem i with a chance that differs by up to 0.2 either way,
  and shares 70 % of its random numbers with the original.
  """
  rng = np.random.default_rng(0)

  def chances(count):
    chance = rng.beta(0.3, 0.6, count)
    return chance, np.clip(chance + rng.uniform(-0.1, 0.2, count), 0, 1)

  whole = chances(2_000_000)
  truth = np.mean(whole[1] - whole[0])
  hits = 0
  for _ in range(simulations):
    p, q = chances(problems)
    u = rng.random((problems, samples))
    v = np.where(rng.random(u.shape) < 0.7, u, rng.random(u.shape))
    a = (u < p[:, None]).mean(axis=1)
    b = (v < q[:, None]).mean(axis=1)
    if samples == 1:
      gained, lost = int(np.sum(b > a)), int(np.sum(b < a))
      interval = proportions.paired(gained, lost, problems)
    else:
      interval = bootstrap.bca([b - a], resamples=1000)
    hits += interval.low <= truth <= interval.high
  return hits / simulations


@pytest.mark.parametrize(("problems", "samples"), [(83, 1), (30, 32)])
def test_intervals_cover_the_truth_of_a_perturbed_copy(problems, samples):
  found = _simulate(200, problems, samples)
  assert found == pytest.approx(0.95, abs=4 * 0.0154)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problems", "samples"), [(30, 1), (83, 1), (500, 1), (30, 32), (83, 32)]
)
def test_they_do_so_at_their_nominal_rate(problems, samples):
  # Three standard errors of 2,000, and what whole counts cost or give.
  found = _simulate(2000, problems, samples)
  assert 0.95 - 0.0146 - 0.005 < found < 0.95 + 0.0146 + 0.015
