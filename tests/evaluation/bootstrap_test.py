"""Bootstrap intervals against scipy, by hand, and by how often they hold."""

import numpy as np
import pytest
from scipy import stats

from poise_jax.evaluation import bootstrap


@pytest.fixture(scope="module")
def skewed():
  return np.random.default_rng(0).exponential(size=400)


def test_percentile_against_scipy(skewed):
  expected = stats.bootstrap(
      (skewed,), np.mean, method="percentile", rng=np.random.default_rng(1)
  ).confidence_interval
  found = bootstrap.percentile([skewed])
  assert found.mean == pytest.approx(skewed.mean(), rel=1e-12)
  assert found[1:] == pytest.approx(tuple(expected), abs=0.006)


def test_bca_against_scipy(skewed):
  # With 400 problems the correction for few of them is within the noise.
  expected = stats.bootstrap(
      (skewed,), np.mean, method="BCa", rng=np.random.default_rng(1)
  ).confidence_interval
  assert bootstrap.bca([skewed])[1:] == pytest.approx(
      tuple(expected), abs=0.006
  )


def test_bca_of_symmetric_values_is_close_to_students():
  values = stats.norm.ppf((np.arange(20) + 0.5) / 20)
  expected = stats.t.interval(0.95, 19, scale=stats.sem(values))
  assert bootstrap.bca([values])[1:] == pytest.approx(expected, rel=0.04)


def test_variance_of_stratified_draws_by_hand():
  strata = [np.array([0.0, 1.0]), np.array([0.0, 0.0, 3.0])]
  drawn = bootstrap.means(strata, [2.0, 0.5], resamples=100_000)
  assert drawn.mean() == pytest.approx(2 * 0.5 + 0.5 * 1, abs=0.02)
  # Σ w² var / n: 4 * 0.25 / 2 + 0.25 * 2 / 3.
  assert drawn.var() == pytest.approx(0.5 + 0.5 / 3, rel=0.02)


def test_weights_and_strata(skewed):
  whole = bootstrap.bca([skewed], [100.0])
  single = bootstrap.bca([skewed])
  assert whole == pytest.approx([100 * x for x in single], rel=1e-9)
  parts = bootstrap.bca([skewed[:200], skewed[200:]], [0.5, 0.5])
  assert parts.mean == pytest.approx(single.mean)
  width = lambda i: i.high - i.low
  assert width(parts) == pytest.approx(width(single), rel=0.1)


def test_equal_seeds_give_equal_bits(skewed):
  assert bootstrap.bca([skewed]) == bootstrap.bca([skewed])
  assert bootstrap.bca([skewed], seed=1) != bootstrap.bca([skewed])


def test_large_sets_are_drawn_in_pieces(monkeypatch, skewed):
  whole = bootstrap.means([skewed], resamples=500)
  monkeypatch.setattr(bootstrap, "_CHUNK", 1 << 10)
  np.testing.assert_array_equal(bootstrap.means([skewed], resamples=500), whole)


@pytest.mark.parametrize("values", [[0.0] * 5, [1.0], [0.3] * 9])
def test_equal_values_allow_no_interval(values):
  for function in (bootstrap.bca, bootstrap.percentile):
    found = function([np.array(values)])
    assert found == (pytest.approx(values[0]), None, None)


def test_what_cannot_be():
  with pytest.raises(ValueError, match="finite values, at least one"):
    bootstrap.bca([np.array([])])
  with pytest.raises(ValueError, match="finite values"):
    bootstrap.bca([np.array([1.0, np.nan])])
  with pytest.raises(ValueError, match="`weights` must be as many.*2 and 1"):
    bootstrap.percentile([np.ones(3)], [1.0, 2.0])
  with pytest.raises(ValueError, match=r"equal numbers of seeds, got \[1, 2\]"):
    bootstrap.crossed([np.ones((1, 3)), np.ones((2, 3))], [1.0, 1.0])


def test_one_seed_is_the_interval_over_problems(skewed):
  assert bootstrap.crossed([skewed[None]]) == bootstrap.bca([skewed])


def test_crossed_variance_of_seeds_alone():
  # All problems alike: the variance is that of a mean over three seeds, 1 / 3
  # with the unbiased variance 1 of (-1, 0, 1).
  values = np.repeat(np.array([[-1.0], [0.0], [1.0]]), 50, axis=1)
  found = bootstrap.crossed([values], confidence=0.5)
  # The draws have that variance: 2/3 over two of three seeds. The upper
  # quartile of Student's distribution with 2 degrees of freedom is 0.816497.
  half = 0.816497 * np.sqrt(1 / 3)
  assert found == pytest.approx((0, -half, half), rel=0.02, abs=1e-12)


def test_crossed_degrees_of_freedom():
  # Two seeds 2 apart, variance of their mean 1 on 1 degree of freedom; two
  # sets of one and five problems, the latter with variance 0.1 on 4: so
  # (1 + w² 0.1)² / (1 + w⁴ 0.01 / 4) with w = 1 and effects of seeds doubled.
  seeds = np.array([[-0.5], [0.5]])
  problems = np.array([[-1.0, -0.5, 0.0, 0.5, 1.0]]) * np.sqrt(0.8)
  found = bootstrap._freedom([seeds, seeds + problems], [1.0, 1.0])
  assert found == pytest.approx((1 + 0.1) ** 2 / (1 + 0.01 / 4))


def _covered(interval, simulations, draw):
  rng = np.random.default_rng(0)
  found = [interval(draw(rng)) for _ in range(simulations)]
  return np.mean([i.low <= 0 <= i.high for i in found])


def _centred(rng):
  return [rng.exponential(size=83) - 1]


def test_bca_covers_the_truth():
  quick = lambda values: bootstrap.bca(values, resamples=1000)
  assert _covered(quick, 300, _centred) == pytest.approx(0.95, abs=4 * 0.0126)


@pytest.mark.slow
def test_bca_covers_the_truth_at_its_nominal_rate():
  quick = lambda values: bootstrap.bca(values, resamples=2000)
  assert _covered(quick, 4000, _centred) == pytest.approx(0.95, abs=0.014)


def _seeded(rng):
  """Ten seeds and fifty problems, each with an effect of its own."""
  seeds = rng.normal(0, 0.5, (10, 1))
  return [seeds + rng.normal(size=(1, 50)) + rng.normal(size=(10, 50))]


def test_crossed_covers_the_truth():
  quick = lambda values: bootstrap.crossed(values, resamples=500)
  found = _covered(quick, 200, _seeded)
  assert 0.89 < found < 0.995


@pytest.mark.slow
def test_crossed_covers_the_truth_in_many_simulations():
  quick = lambda values: bootstrap.crossed(values, resamples=1000)
  assert 0.935 < _covered(quick, 2000, _seeded) < 0.98
