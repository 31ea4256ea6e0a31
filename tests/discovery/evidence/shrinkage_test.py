"""The two-way posterior: against a dense Gaussian solution, and its uses."""

import numpy as np
import pytest

from poise_jax.discovery.evidence import shrinkage

NOISE = shrinkage.Noise(sd=1.0, correlation=0.3, dof=1e9)


def _dense(scores, spread, residual, luck):
  """Generalised least squares for M, then E[M + a | y], from covariances."""
  rows, columns = np.nonzero(~np.isnan(scores))
  y = scores[rows, columns]
  same_row = rows[:, None] == rows
  same_column = columns[:, None] == columns
  covariance = spread * same_row + luck * same_column
  covariance = covariance + np.diag(residual[rows])
  inverse = np.linalg.inv(covariance)
  level = inverse.sum(0) @ y / inverse.sum()
  count = len(scores)
  cross = spread * (np.arange(count)[:, None] == rows)
  return level + cross @ inverse @ (y - level)


def test_it_is_the_posterior_of_the_two_way_model():
  rng = np.random.default_rng(0)
  scores = rng.normal(50, 1, (6, 4))
  scores[3:, 1:] = np.nan
  scores[5, :] = [np.nan, 51.0, np.nan, np.nan]
  found = shrinkage.posterior(scores, NOISE)
  # With a prior of endless weight v = 1, moderated by four degrees of it.
  counts = (~np.isnan(scores)).sum(1)
  own = np.nansum((scores - np.nanmean(scores, 1, keepdims=True)) ** 2, 1)
  residual = 0.7 * (4 + own) / (4 + counts - 1)
  expected = _dense(scores, 1.0, residual, 0.3)
  np.testing.assert_allclose(found.mean, expected, rtol=1e-8)
  assert found.noise == pytest.approx(1.0)


def test_a_lucky_seed_is_believed_less_than_three():
  scores = np.full((12, 3), 50.0)
  scores[1:, 1:] = np.nan
  scores[0] = 53.0
  scores[1, 0] = 53.0
  found = shrinkage.posterior(scores, NOISE)
  assert found.mean[0] > found.mean[1] > found.mean[2]
  assert found.sd[0] < found.sd[1]


def test_a_lucky_seed_for_everybody_is_nobodys_merit():
  rng = np.random.default_rng(1)
  scores = 50 + rng.normal(0, 0.5, (20, 2))
  scores[:10, 1] = np.nan
  scores[10:, 0] = np.nan
  lifted = scores.copy()
  lifted[10:, 1] += 3.0
  lifted[0, 1] = scores[0, 0] + 3.0  # the one bridge between both groups
  noise = shrinkage.Noise(0.5, 0.9, 1e9)
  found = shrinkage.posterior(lifted, noise).mean
  assert abs(found[10:].mean() - found[:10].mean()) < 1.0


def test_a_collapsed_candidate_does_not_change_the_others():
  rng = np.random.default_rng(2)
  scores = 50 + rng.normal(size=(20, 2))
  before = shrinkage.posterior(scores, NOISE).mean
  collapsed = np.concatenate([scores, [[0.0, 0.0]]])
  after = shrinkage.posterior(collapsed, NOISE).mean
  assert np.abs(after[:20] - before).max() < 0.4
  assert after[20] < after[:20].min()


def test_noise_of_a_difference_on_shared_seeds():
  # Of 9 points² a third is common to both and cancels: 2 * 6 are left.
  noise = shrinkage.Noise(sd=3.0, correlation=1 / 3)
  assert np.isclose(noise.paired_variance, 12.0)
  rng = np.random.default_rng(0)
  luck, own = rng.normal(0, 3**0.5, 200_000), rng.normal(
      0, 6**0.5, (2, 200_000)
  )
  one, other = luck + own
  assert np.isclose(np.var(one), 9.0, rtol=0.02)
  assert np.isclose(np.var(one - other), noise.paired_variance, rtol=0.02)


def test_who_has_no_score_has_no_posterior():
  scores = np.array([[50.0, 51.0], [np.nan, np.nan]])
  found = shrinkage.posterior(scores, NOISE)
  assert np.isfinite(found.mean[0]) and np.isnan(found.mean[1])
  empty = shrinkage.posterior(np.full((2, 3), np.nan), NOISE)
  assert np.isnan(empty.mean).all() and empty.noise == 1.0
