"""The sign-flip test against scipy's permutations, and its level."""

import numpy as np
import pytest
from scipy import stats

from poise_jax.evaluation import sign_flip


def test_by_hand():
  # Patterns of (1, 2): sums 3, 1, -1, -3.
  assert sign_flip.p_value(np.array([1.0, 2.0])) == 0.5
  assert sign_flip.p_value(np.array([1.0, -2.0])) == 1
  assert sign_flip.p_value(np.array([0.25] * 6 + [0.0] * 9)) == 2 / 64
  assert sign_flip.p_value(np.zeros(4)) == 1


def test_against_scipy():
  gaps = np.random.default_rng(0).normal(0.4, 1, 12)
  expected = stats.permutation_test(
      (gaps,),
      lambda x, axis: x.sum(axis=axis),
      permutation_type="samples",
      n_resamples=np.inf,
      vectorized=True,
  )
  assert sign_flip.p_value(gaps) == pytest.approx(expected.pvalue, rel=1e-12)


def test_many_differences_are_sampled_close_to_the_normal():
  gaps = np.random.default_rng(1).choice([-1.0, 1.0], 400, p=[0.44, 0.56])
  z = (abs(gaps.sum()) - 1) / 20  # of a sum of signs, which is even
  expected = 2 * stats.norm.sf(z)
  found = sign_flip.p_value(gaps)
  assert found == pytest.approx(expected, abs=4 * np.sqrt(expected / 20_000))
  assert sign_flip.p_value(gaps) == found
  assert sign_flip.p_value(gaps, seed=1) != found


def test_it_is_never_zero():
  found = sign_flip.p_value(np.ones(60), permutations=99)
  assert found == 0.01


def test_values_must_be_finite():
  with pytest.raises(ValueError, match="must be finite"):
    sign_flip.p_value(np.array([1.0, np.nan]))


def _rejected(simulations, size):
  rng = np.random.default_rng(2)
  gaps = rng.standard_t(3, (simulations, size))
  found = [sign_flip.p_value(row, permutations=199) for row in gaps]
  return np.mean([p <= 0.05 for p in found])


def test_its_level():
  assert _rejected(300, 10) == pytest.approx(0.05, abs=4 * 0.0126)


@pytest.mark.slow
@pytest.mark.parametrize("size", [12, 40])
def test_its_level_in_many_simulations(size):
  assert _rejected(4000, size) == pytest.approx(0.05, abs=4 * 0.0035)
