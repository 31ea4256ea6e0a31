"""pass@k against all subsets of k, counted one by one."""

import fractions
import itertools

import numpy as np
import pytest

from poise_jax.evaluation import pass_at_k


def _counted(correct, n, k):
  """Share of the k-subsets of n samples that hold a right one, exactly."""
  right = [i < correct for i in range(n)]
  subsets = list(itertools.combinations(right, k))
  return fractions.Fraction(sum(map(any, subsets)), len(subsets))


@pytest.mark.parametrize(
    ("n", "k"), [(n, k) for n in (1, 2, 5, 8) for k in range(1, n + 1)]
)
def test_is_the_share_of_subsets_with_a_right_sample(n, k):
  correct = np.arange(n + 1)
  expected = [float(_counted(c, n, k)) for c in correct]
  found = pass_at_k.pass_at_k(correct, n, k)
  assert found.dtype == np.float64
  np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-15)


def test_with_all_samples_it_is_whether_any_is_right():
  found = pass_at_k.pass_at_k(np.array([0, 1, 31, 32]), 32, 32)
  np.testing.assert_array_equal(found, [0, 1, 1, 1])


def test_with_one_sample_it_is_the_share_of_right_ones():
  correct = np.array([0, 1, 8, 32], np.float32)
  found = pass_at_k.pass_at_k(correct, 32, 1)
  np.testing.assert_allclose(found, [0, 1 / 32, 0.25, 1], rtol=1e-15)


def test_keeps_the_shape_and_takes_no_problems():
  assert pass_at_k.pass_at_k(np.zeros((2, 3)), 4, 2).shape == (2, 3)
  assert pass_at_k.pass_at_k(np.zeros(0), 4, 2).shape == (0,)


@pytest.mark.parametrize("k", [-1, 0, 5])
def test_k_must_lie_within_the_samples(k):
  with pytest.raises(ValueError, match=rf"`k` must lie in .*4\], got {k}"):
    pass_at_k.pass_at_k(np.array([1]), 4, k)


@pytest.mark.parametrize("wrong", [-1, 5, np.nan])
def test_hits_must_lie_within_the_samples(wrong):
  with pytest.raises(ValueError, match="`correct` must lie in"):
    pass_at_k.pass_at_k(np.array([2, wrong]), 4, 2)
