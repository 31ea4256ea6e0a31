import numpy as np
import pytest

HALF = np.log(0.5)
# The sampler found the first token four times less likely than the trainer.
AWAY = {"sampler_logprobs": [[[np.log(0.125)], [HALF]], [[HALF], [HALF]]]}


@pytest.mark.parametrize(
    ("choice", "constants", "weight"),
    [
        ("truncated_token", {"sampler_cap": 2.0}, 2.0),
        ("truncated_sequence", {"sampler_cap": 2.0}, 2.0),
        ("icepop", {"sampler_high": 2.0}, 0.0),
        ("icepop", {"sampler_high": 5.0}, 4.0),
        ("sequence_mask", {"sampler_cap": 2.0}, 0.0),
        ("geometric_filter", {"filter_high": 1.05}, 0.0),
        ("none", {}, 1.0),
    ],
)
def test_weight_of_a_token_the_sampler_disowns(
    advantage, choice, constants, weight
):
  got = advantage({"correction": choice}, constants, **AWAY)
  np.testing.assert_allclose(got[0], [0.5 * weight, -0.5], rtol=1e-5, atol=1e-7)


def test_the_ratio_may_be_taken_to_the_sampler(advantage):
  got = advantage({"anchor": "sampler"}, **AWAY)
  np.testing.assert_allclose(got[0], [2.0, -0.5], rtol=1e-5)


def test_old_completions_fade(advantage):
  got = advantage(
      {"correction": "staleness"},
      {"staleness_decay": 0.5},
      staleness=[[2.0, 0.0], [0.0, 0.0]],
  )
  np.testing.assert_allclose(got[0], [0.5 * np.exp(-1), -0.5], rtol=1e-5)


@pytest.mark.parametrize(
    ("choice", "fields", "expected"),
    [
        ("untruncated", {"truncated": [[0, 1], [0, 0]]}, [2 / 3, 0]),
        ("valid", {"format_valid": [[1, 1], [0, 0]]}, [1, -1]),
        ("active_groups", {}, [1, -1]),
        ("mixed_groups", {}, [1, -1]),
        ("high_entropy", {"entropy": [[[2], [1]], [[0.1], [0.1]]]}, [1, -1]),
    ],
)
def test_filters_leave_the_same_out_of_the_mean(
    advantage, choice, fields, expected
):
  got = advantage({"filter": choice}, {"entropy_fraction": 0.5}, **fields)
  np.testing.assert_allclose(got[0], expected, rtol=1e-5)
  np.testing.assert_allclose(got[1], 0.0, atol=1e-7)


@pytest.mark.parametrize(
    ("choice", "constants", "expected"),
    [
        ("token_mean", {}, 0.5),
        ("token_mean_prompt", {}, 0.5),
        ("seq_mean", {}, 0.5),
        ("seq_sum_mean", {}, 0.5),
        ("constant_norm", {"length_constant": 8.0}, 0.0625),
        ("length_power_norm", {"length_constant": 8.0}, 0.0625),
    ],
)
def test_aggregations_of_single_tokens(advantage, choice, constants, expected):
  got = advantage({"aggregation": choice}, constants)
  np.testing.assert_allclose(got[0], [expected, -expected], rtol=1e-5)
