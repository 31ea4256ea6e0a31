import numpy as np
import pytest

# Rewards (1, 0) and (0, 0): group means 1/2 and 0, batch mean 1/4.
CASES = {
    ("group_mean", "none"): [0.5, -0.5, 0, 0],
    ("leave_one_out", "none"): [1, -1, 0, 0],
    ("batch_mean", "none"): [0.75, -0.25, -0.25, -0.25],
    ("length_weighted", "none"): [0.5, -0.5, 0, 0],
    # Priors of 1 and 1: baselines (1 + 1)/4 and (0 + 1)/4.
    ("beta_prior", "none"): [0.5, -0.5, -0.25, -0.25],
    # Deviations 1/2 and sqrt(3)/4, above the floor of 0.4.
    ("beta_prior", "bernoulli"): [1, -1, -0.57735, -0.57735],
    ("anchor", "none"): [0.625, -0.375, -0.125, -0.125],
    # A past of 1/2 and 1/4 enters by 0.3.
    ("history", "none"): [0.5, -0.5, -0.075, -0.075],
    ("group_mean", "group_std"): [1, -1, 0, 0],
    ("group_mean", "sample_std"): [0.707107, -0.707107, 0, 0],
    ("group_mean", "damped_std"): [0.714286, -0.714286, 0, 0],
    ("group_mean", "analytic"): [1, -1, 0, 0],
    ("group_mean", "anchored"): [1, -1, 0, 0],
    # The root of 0.5 / 4, of 0.5 / 3 and of 0.5 / 2.
    ("group_mean", "batch_rms"): [1.414214, -1.414214, 0, 0],
    ("group_mean", "batch_std"): [1.224745, -1.224745, 0, 0],
    ("group_mean", "active_rms"): [1, -1, 0, 0],
    # The sample deviation of 1, 0, 0, 0 is 1/2.
    ("group_mean", "batch_spread"): [1, -1, 0, 0],
    ("group_mean", "active"): [1, -1, 0, 0],
    ("group_mean", "mean"): [1, -1, 0, 0],
    ("group_mean", "fixed"): [1, -1, 0, 0],
    ("group_mean", "token_whitened"): [1.224745, -1.224745, 0, 0],
}


@pytest.mark.parametrize(("pair", "expected"), CASES.items(), ids=str)
def test_advantages_by_hand(advantage, pair, expected):
  baseline, scale = pair
  got = advantage({"baseline": baseline, "scale": scale})
  np.testing.assert_allclose(np.ravel(got), expected, rtol=1e-4, atol=1e-6)


def test_sets_of_one_are_standardised_correctness(advantage):
  got = advantage({"baseline": "pass_at_k"}, {"pass_k": 1.0})
  np.testing.assert_allclose(np.ravel(got), [1, -1, 0, 0], atol=1e-5)
