import numpy as np
import pytest

HALF = np.log(0.5)
# The first token, which was good, is four times as likely as before; the
# others are as they were.
MOVED = {"old_logprobs": [[[np.log(0.125)], [HALF]], [[HALF], [HALF]]]}


@pytest.mark.parametrize(
    ("clip", "constants", "weight"),
    [
        ("none", {}, 4.0),
        ("symmetric", {"clip_eps": 0.2}, 0.0),
        ("clip_higher", {"clip_eps": 0.2, "clip_eps_high": 5.0}, 4.0),
        ("dual", {"clip_eps": 5.0, "dual_clip": 3.0}, 4.0),
        ("cispo", {"ratio_cap": 3.0}, 3.0),
        ("policy_gradient", {}, 1.0),
        ("aspo", {"clip_eps_high": 5.0}, 0.25),
        # 4 r σ(3) (1 - σ(3)) with τ = 1.
        ("soft_gate", {"tau_positive": 1.0}, 16 * 0.952574 * 0.047426),
        ("geometric", {"clip_eps": 2.0, "clip_eps_high": 2.0}, 4.0),
        # W^2 exp(3 (1 - W)) at W = 4.
        ("smooth_weight", {}, 16 * np.exp(-9.0)),
    ],
)
def test_weight_of_a_token_that_moved(advantage, clip, constants, weight):
  got = advantage({"clip": clip}, constants, **MOVED)
  np.testing.assert_allclose(got[0], [0.5 * weight, -0.5], rtol=1e-4, atol=1e-7)


def test_groups_are_fitted_as_a_whole(step):
  # On-policy: beta d_i / (G - 1) / P = -0.1 * ±0.5 / 1 / 2 for each token.
  mean = {"aggregation": "token_mean_prompt"}
  got, _, _ = step({"clip": "regression"} | mean, {"regression_beta": 0.1})
  np.testing.assert_allclose(got[0], [-0.025, 0.025], rtol=1e-5)
  # p = 1/2 and q = σ(1) = 0.731059 for advantages of ±1/2, over 2 prompts.
  got, _, _ = step({"clip": "target"} | mean, {"target_eta": 1.0})
  np.testing.assert_allclose(got[0], [-0.115529, 0.115529], rtol=1e-4)


@pytest.mark.parametrize(
    ("choice", "constants", "kept"),
    [
        ("total_variation", {"variation_high": 0.3}, 0.0),
        ("total_variation", {"variation_high": 0.4}, 1.0),
        # KL(1/8 || 1/2) = 0.125 log(1/4) + 0.875 log(1.75) = 0.316376.
        ("bernoulli_kl", {"divergence_limit": 0.31}, 0.0),
        ("bernoulli_kl", {"divergence_limit": 0.32}, 1.0),
    ],
)
def test_trust_regions_stop_what_moved_far(advantage, choice, constants, kept):
  got = advantage({"trust_region": choice}, constants, **MOVED)
  np.testing.assert_allclose(got[0], [2.0 * kept, -0.5], rtol=1e-5)


def test_stale_failures_are_ignored(advantage):
  # log(0.8 / 0.5) = 0.47 nats away from the sampler.
  sampler = [[[HALF], [np.log(0.8)]], [[HALF], [HALF]]]
  for limit, expected in ((0.4, 0.0), (0.5, -0.5)):
    got = advantage(
        {"trust_region": "stale_negatives"},
        {"stale_limit": limit},
        sampler_logprobs=sampler,
    )
    np.testing.assert_allclose(got[0], [0.5, expected], rtol=1e-5, atol=1e-7)


def test_ratios_of_one_token_agree(advantage):
  for level in ("token", "sequence", "sequence_token", "product"):
    got = advantage({"ratio": level}, **MOVED)
    np.testing.assert_allclose(got[0], [2.0, -0.5], rtol=1e-5)


def test_covariance_selects_the_first_token(advantage):
  # Advantages ±1/2 and log-probabilities that differ for the first two alone:
  # the first has the largest covariance, and is 1 of the 4 tokens.
  got = advantage(
      {"trust_region": "kl_cov"},
      {"cov_fraction": 0.2, "cov_penalty": 1.0},
      logprobs=[[[-0.1], [-1.2]], [[HALF], [HALF]]],
      old_logprobs=[[[-0.2], [-1.2]], [[HALF], [HALF]]],
  )
  # Slope -e^0.1 / 2 of the policy term and +1 of the penalty.
  np.testing.assert_allclose(got[0, 0], np.exp(0.1) / 2 - 1.0, rtol=1e-4)
