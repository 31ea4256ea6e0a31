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


@pytest.mark.parametrize(("n", "k"), [(4, 2.5), (4, 2.0), (4.0, 2), (4, "2")])
def test_samples_are_whole_numbers(n, k):
  # A TypeError of our own, or of the checks of annotations in these tests.
  with pytest.raises(TypeError):
    pass_at_k.pass_at_k(np.array([1]), n, k)


def test_standard_error_by_hand():
  # Variance ((1 - .5)² + .5² + 0 + 0) / 3 about the mean 0.5.
  found = pass_at_k.standard_error(np.array([1.0, 0.0, 0.5, 0.5]))
  assert found == pytest.approx(np.sqrt(0.5 / 3 / 4), rel=1e-12)
  assert pass_at_k.standard_error(np.array([0.5])) is None


def test_sampling_error_of_single_samples_is_binomial():
  # Unbiased p (1 - p) / (n - 1) each; over three problems, of the mean.
  found = pass_at_k.sampling_error(np.array([1, 3, 4]), 4, 1)
  expected = np.sqrt((3 / 16 / 3 + 3 / 16 / 3 + 0) / 9)
  assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("c", "n", "k"), [(2, 5, 2), (1, 6, 3), (0, 4, 2)])
def test_sampling_error_is_the_jackknife(c, n, k):
  samples = [True] * c + [False] * (n - c)
  left_out = [
      float(_counted(sum(samples) - samples[i], n - 1, k)) for i in range(n)
  ]
  expected = np.sqrt((n - 1) * np.var(left_out))
  found = pass_at_k.sampling_error(np.array([c]), n, k)
  assert found == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_sampling_error_needs_samples_to_spare():
  with pytest.raises(ValueError, match="less than `n`, got 4 of 4"):
    pass_at_k.sampling_error(np.array([1]), 4, 4)
