"""Errors of a verifier: how many, and which."""

import numpy as np
import pytest

from poise_jax.discovery.trials import flip_noise


def test_each_draw_belongs_to_its_place():
  small = flip_noise.draws(3, 5, 4, 8)
  large = flip_noise.draws(3, 5, 6, 32)
  np.testing.assert_array_equal(small, large[:4, :8])
  np.testing.assert_array_equal(small, flip_noise.draws(3, 5, 4, 8))
  for other in (flip_noise.draws(4, 5, 4, 8), flip_noise.draws(3, 6, 4, 8)):
    assert not np.any(small == other)
  assert len(np.unique(large)) == large.size


def test_draws_are_uniform():
  u = flip_noise.draws(0, 0, 200, 50).ravel()
  assert abs(u.mean() - 0.5) < 4 * np.sqrt(1 / 12 / u.size)
  assert abs(np.mean(u < 0.1) - 0.1) < 4 * np.sqrt(0.09 / u.size)


def test_rates_are_those_asked_for():
  rng = np.random.default_rng(0)
  correct = (rng.random((400, 32)) < 0.3).astype(np.float32)
  flip = flip_noise.make_flip(flip_noise.Rates(0.1, 0.25))
  found = flip(correct, 7, 2)
  assert found.dtype == np.float32 and set(np.unique(found)) == {0.0, 1.0}
  assert np.mean(found[correct == 0]) == pytest.approx(0.1, abs=0.015)
  assert np.mean(found[correct == 1]) == pytest.approx(0.75, abs=0.03)
  np.testing.assert_array_equal(found, flip(correct, 7, 2))


def test_no_rate_no_error_and_errors_are_nested():
  correct = np.array([[1.0, 0.0, 1.0, 0.0] * 8] * 8, np.float32)
  none = flip_noise.make_flip(flip_noise.Rates())(correct, 0, 0)
  np.testing.assert_array_equal(none, correct)
  all_wrong = flip_noise.make_flip(flip_noise.Rates(1.0, 1.0))(correct, 0, 0)
  np.testing.assert_array_equal(all_wrong, 1 - correct)
  few, many = (
      flip_noise.make_flip(flip_noise.Rates(rate, rate))(correct, 1, 1)
      for rate in (0.05, 0.2)
  )
  assert np.all((few != correct) <= (many != correct))
  assert 0 < np.sum(few != correct) < np.sum(many != correct)


@pytest.mark.parametrize("field", ["false_positive", "false_negative"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_rates_are_shares(field, value):
  with pytest.raises(ValueError, match=f"`{field}` must be a share"):
    flip_noise.Rates(**{field: value})
