"""Confidence sequences: by numerical integration, and by counting paths."""

import math

import numpy as np
import pytest
from scipy import integrate

from poise_jax.evaluation import confidence_sequences as sequences


def _by_integration(x, c, *, one_sided, dof=0.0, variance=0.0):
  """The Bayes factor from its definition, over σ and δ.

  Densities of x given (δ, σ), times dσ/σ^(1 + d0) exp(-d0 s0² / 2σ²).
  """
  n = len(x)

  def marginal(delta):
    def inner(s):
      squares = np.sum((x - delta * s) ** 2) + dof * variance
      return s ** -(n + 1 + dof) * math.exp(-squares / (2 * s * s))

    return integrate.quad(inner, 0.02, 60, limit=400, points=[0.5, 1, 3, 8])[0]

  def weighted(delta):
    density = math.exp(-(delta**2) / (2 * c * c)) / (c * math.sqrt(2 * math.pi))
    return marginal(delta) * density * (2 if one_sided else 1)

  low = 0.0 if one_sided else -8 * c
  return integrate.quad(weighted, low, 8 * c, limit=200)[0] / marginal(0.0)


@pytest.mark.parametrize("one_sided", [True, False])
@pytest.mark.parametrize("dof,variance", [(0.0, 0.0), (4.0, 1.5)])
def test_the_closed_form_is_the_integral(one_sided, dof, variance):
  x = np.array([0.8, -0.3, 1.4, 0.9])
  found = sequences.e_value(
      x,
      scale=0.7,
      one_sided=one_sided,
      prior=sequences.Prior(variance, dof),
  )
  expected = _by_integration(
      x, 0.7, one_sided=one_sided, dof=dof, variance=variance
  )
  assert found == pytest.approx(expected, rel=1e-5)


def test_one_value_tells_its_sign_only():
  # 2 F_1(c) = 1 + 2 arctan(c) / π for a positive value, 2 - that for a negative.
  assert sequences.e_value(np.array([7.0])) == pytest.approx(1.5)
  assert sequences.e_value(np.array([-0.1])) == pytest.approx(0.5)
  both = sequences.e_value(np.array([7.0]), one_sided=False)
  assert both == pytest.approx(1.0)


def test_no_evidence_without_values_or_differences():
  assert sequences.e_value(np.array([])) == 1.0
  assert sequences.e_value(np.zeros(5)) == 1.0


@pytest.mark.parametrize("one_sided", [True, False])
def test_the_bounds_invert_the_e_value(one_sided):
  x = np.array([1.1, 0.2, 2.0, 0.7, 1.6, 0.4])
  make = sequences.one_sided if one_sided else sequences.two_sided
  # Only the last size is looked at, so that the bound is not from an earlier.
  ends = make(x, level=0.1, scale=1.3, first=6)
  for end, sign in ((ends.low[-1], 1), (ends.high[-1], -1)):
    e = sequences.e_value(
        sign * x, null=sign * end, scale=1.3, one_sided=one_sided
    )
    assert e == pytest.approx(10, rel=1e-8)


def test_bounds_never_widen_and_ignore_what_is_missing():
  rng = np.random.default_rng(0)
  x = rng.normal(1.0, 2.0, (3, 12))
  ends = sequences.two_sided(x, level=0.2)
  assert np.all(np.diff(ends.low[:, 4:]) >= 0)
  assert np.all(np.diff(ends.high[:, 4:]) <= 0)
  cut = x.copy()
  cut[:, 9:] = np.nan
  partial = sequences.two_sided(cut, level=0.2)
  np.testing.assert_array_equal(partial.low[:, -1], ends.low[:, 8])
  np.testing.assert_array_equal(partial.high[:, -1], ends.high[:, 8])


def test_there_is_no_bound_before_the_level_can_be_reached():
  ends = sequences.one_sided(np.array([1.0, 1.1, 0.9, 1.0]), level=0.05)
  # At most 2 (1 + n)^((n - 1)/2) F_n(n): 8 with three values, 22 with four.
  np.testing.assert_array_equal(ends.low[:3], -np.inf)
  assert np.isfinite(ends.low[3])


def test_bounds_follow_shift_and_scale():
  x = np.array([0.3, -0.2, 0.9, 0.5, 0.1])
  ends = sequences.one_sided(x, level=0.1)
  moved = sequences.one_sided(1e6 + 1e-2 * x, level=0.1)
  np.testing.assert_allclose(
      moved.low[4:], 1e6 + 1e-2 * ends.low[4:], rtol=0, atol=1e-9
  )


def test_twins_get_the_value_itself():
  ends = sequences.one_sided(np.zeros(8), level=0.05)
  assert ends.low[-1] == ends.high[-1] == 0


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5])
def test_a_level_is_a_probability(level):
  with pytest.raises(ValueError, match="`level` must lie in"):
    sequences.boundary(5, level)


def test_a_scale_is_positive():
  with pytest.raises(ValueError, match="`scale` must be positive"):
    sequences.boundary(5, 0.05, scale=0.0)


def _wrong(x, level, **kwargs):
  """Shares of paths on which each end, and on which any of two, was wrong."""
  one = sequences.one_sided(x, level=level, **kwargs)
  two = sequences.two_sided(x, level=level, **kwargs)
  any_of_two = (two.low[:, -1] > 0) | (two.high[:, -1] < 0)
  return (
      np.mean(one.low[:, -1] > 0),
      np.mean(one.high[:, -1] < 0),
      np.mean(any_of_two),
  )


def _allowed(level, paths):
  """The level and four standard errors of a share of paths."""
  return level + 4 * math.sqrt(level * (1 - level) / paths)


@pytest.mark.parametrize("sigma", [0.01, 1.0, 300.0])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_coverage_with_a_look_after_every_seed(sigma, scale):
  x = np.random.default_rng(1).normal(0, sigma, (4000, 50))
  for share in _wrong(x, 0.1, scale=scale):
    assert share <= _allowed(0.1, 4000)
  # And not for lack of bounds: an unused level would be wasted seeds.
  assert _wrong(x, 0.1, scale=scale)[2] > 0.03


def test_an_ordinary_interval_would_not_hold():
  x = np.random.default_rng(1).normal(size=(4000, 50))
  n = np.arange(1, 51)
  means = np.cumsum(x, 1) / n
  sd = np.sqrt((np.cumsum(x**2, 1) - n * means**2)[:, 1:] / (n[1:] - 1))
  t = means[:, 1:] * np.sqrt(n[1:]) / sd
  crossed = (t > 2.2).any(1)  # fewer than 5 % at any single size from 5 on
  assert np.mean(crossed) > 0.15


def test_coverage_with_a_variance_prior_holds_on_average_over_it():
  rng = np.random.default_rng(2)
  sigma = np.sqrt(4 * 2.0 / rng.chisquare(4, (4000, 1)))
  x = sigma * rng.normal(size=(4000, 30))
  prior = sequences.Prior(2.0, 4.0)
  for share in _wrong(x, 0.1, prior=prior):
    assert share <= _allowed(0.1, 4000)


def test_coverage_holds_for_heavy_tails_but_not_for_rare_collapses():
  rng = np.random.default_rng(3)
  heavy = rng.standard_t(3, (4000, 24))
  assert _wrong(heavy, 0.05, first=8)[0] <= 0.05
  collapse = rng.random((4000, 24)) < 0.1
  rare = rng.normal(size=(4000, 24)) - 6 * collapse + 0.6
  # Mean 0, but most short runs never meet a collapse: the documented limit.
  assert 0.1 < _wrong(rare, 0.05, first=8)[0] < 0.2
