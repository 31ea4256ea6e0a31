import numpy as np
import pytest

FIRST_OF_FOUR = {"baseline": "batch_mean"}
INVALID_LAST = [[1.0, 1.0], [1.0, 0.0]]


def test_penalty_against_the_batch(advantage):
  # Rewards 1, 0, 0, -0.5: mean 0.125.
  got = advantage(
      FIRST_OF_FOUR | {"format": "penalty"},
      {"format_penalty": 0.5},
      format_valid=INVALID_LAST,
  )
  expected = [[0.875, -0.125], [-0.125, -0.625]]
  np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_overlong_penalty_ramps_up_to_the_longest(advantage):
  # The longest has 4 tokens, the buffer 2: charges 0, 0, 1, 1/2 times 0.4.
  got = advantage(
      {"length": "overlong_penalty"},
      {"overlong_coef": 0.4, "overlong_buffer": 0.5},
      correct=[[0.0, 0.0], [0.0, 0.0]],
      lengths=[[1.0, 2.0], [4.0, 3.0]],
  )
  np.testing.assert_allclose(got, [[0, 0], [-0.1, 0.1]], atol=1e-6)


def test_components_are_standardised_apart(advantage):
  # Two different numbers are ±1/sqrt(2) apart in sample deviations.
  unit = 0.5**0.5
  got = advantage(
      {"signal": "components"},
      {"other_weight": 0.3},
      format_valid=INVALID_LAST,
  )
  expected = [[unit, -unit], [0.3 * unit, -0.3 * unit]]
  np.testing.assert_allclose(got, expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("stream", "expected"), [("centered", 0.5), ("normalized", 1.0)]
)
def test_format_streams_leave_correctness_alone(advantage, stream, expected):
  got = advantage(
      {"format": f"{stream}_stream"},
      {"format_weight": 0.2},
      format_valid=INVALID_LAST,
  )
  own = 0.2 * expected
  np.testing.assert_allclose(got, [[0.5, -0.5], [own, -own]], rtol=1e-4)


def test_statistics_of_valid_answers_alone(advantage):
  # One valid answer in the last group: it is its own mean.
  got = advantage(
      {"subset": "valid"},
      {"invalid_advantage": -2.0},
      format_valid=INVALID_LAST,
  )
  np.testing.assert_allclose(got, [[0.5, -0.5], [0.0, -2.0]], atol=1e-6)


def test_cut_answers_are_neither_praised_nor_blamed(advantage):
  got = advantage({"subset": "untruncated"}, truncated=[[0, 1], [0, 0]])
  np.testing.assert_allclose(got, np.zeros((2, 2)), atol=1e-6)


def test_length_power_and_tempering(advantage):
  # Relative lengths 1/2 and 3/2 with power 1; the divisor of a failure is 1.5.
  lengths = [[1.0, 3.0], [1.0, 1.0]]
  got = advantage(
      {"length": "length_power"}, {"length_power": 1.0}, lengths=lengths
  )
  np.testing.assert_allclose(got[0], [0.25, -0.5 / 1.5], rtol=1e-5)
  got = advantage({"length": "temper_negatives"}, lengths=lengths)
  np.testing.assert_allclose(got[0], [0.5, -0.5 / 1.5], rtol=1e-5)
