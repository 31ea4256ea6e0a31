import numpy as np
import pytest

ALL_RIGHT_THEN_NONE = [[1.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("choices", "constants", "expected"),
    [
        ({"failures": "constant_push"}, {"failure_push": -0.5}, [0.75, -0.5]),
        ({"failures": "damped"}, {"failure_damping": 0.4}, [0.75, -0.1]),
        ({"gating": "damp_solved"}, {"solved_weight": 0.0}, [0.0, -0.25]),
        (
            {"gating": "downweight_uniform"},
            {"uniform_weight": 0.4},
            [0.3, -0.1],
        ),
        (
            {"gating": "difficulty_weight"},
            {"difficulty_gain": 2.0},
            [0.75, -0.75],
        ),
        ({"advantage_clip": "bounded"}, {"advantage_limit": 0.5}, [0.5, -0.25]),
    ],
    ids=str,
)
def test_regimes_by_hand(advantage, choices, constants, expected):
  # Against a mix of 1/2 and a batch mean of 1/4: 3/4 and -1/4, the group of
  # the first being (1, 1), that of the second (0, 0).
  got = advantage(
      {"baseline": "beta_prior"} | choices,
      {"prior_successes": 1.0, "prior_failures": 1.0} | constants,
      correct=ALL_RIGHT_THEN_NONE,
  )
  # Baselines (2 + 1)/4 and (0 + 1)/4.
  scale = [0.25 / 0.75, 1.0] if "advantage_clip" not in choices else None
  if scale is None:
    expected, scale = [0.25, -0.25], [1.0, 1.0]
  np.testing.assert_allclose(
      got[:, 0], np.multiply(expected, scale), rtol=1e-5, atol=1e-6
  )


def test_fixed_negatives_are_graded_by_format(advantage):
  got = advantage(
      {"failures": "fixed_negatives"},
      {"failure_valid": -0.5, "failure_invalid": -2.0},
      format_valid=[[1.0, 1.0], [1.0, 0.0]],
  )
  np.testing.assert_allclose(got, [[0.5, -0.5], [-0.5, -2.0]], rtol=1e-5)


def test_failures_are_told_apart_by_entropy(advantage):
  # Standardised to ±1, up to the epsilon of 1e-4 beside a deviation of 0.1.
  got = advantage(
      {"failures": "entropy_signal"},
      {"failure_kappa": 0.25},
      entropy=[[[0.5], [0.5]], [[0.5], [0.3]]],
  )
  np.testing.assert_allclose(got, [[0.5, -0.5], [0.25, -0.25]], rtol=2e-3)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ("z_score", [1, -1]),
        ("over_length", [0, -0.5]),
        ("relative", [0.5, -0.5]),
    ],
)
def test_brevity_counts_among_the_correct(advantage, stream, expected):
  got = advantage(
      {"efficiency": stream},
      {"efficiency_coef": 0.4, "efficiency_power": 2.0},
      correct=ALL_RIGHT_THEN_NONE,
      lengths=[[1.0, 3.0], [1.0, 3.0]],
  )
  np.testing.assert_allclose(got[0], np.multiply(expected, 0.4), rtol=1e-5)
  np.testing.assert_allclose(got[1], 0.0, atol=1e-6)
