import numpy as np
import pytest

HALF = np.log(0.5)
NOTHING = {"correct": [[0.0, 0.0], [0.0, 0.0]]}
# One token that became twice as likely as under the reference.
FAR = {"ref_logprobs": [[[np.log(0.25)], [HALF]], [[HALF], [HALF]]]}


@pytest.mark.parametrize(
    ("choice", "slope"),
    [
        ("k1", [1, 1]),
        ("k2", [np.log(2), 0]),
        ("k3", [0.5, 0]),
        ("unbiased_k3", [np.log(2), 0]),
        ("absolute", [1, 0]),
        ("none", [0, 0]),
    ],
)
def test_pull_to_the_reference(step, choice, slope):
  got, _, _ = step({"kl": choice}, {"kl_coef": 0.1}, **NOTHING, **FAR)
  np.testing.assert_allclose(got[0], np.multiply(slope, 0.1 / 4), atol=1e-6)


@pytest.mark.parametrize("choice", ["in_reward", "in_reward_now", "returns"])
def test_distance_as_a_reward(advantage, choice):
  # The first is charged 0.1 log 2; in the reward that is centred on its group.
  charge = 0.1 * np.log(2)
  expected = [-charge, 0] if choice == "returns" else [-charge / 2, charge / 2]
  got = advantage({"kl": choice}, {"kl_coef": 0.1}, **NOTHING, **FAR)
  np.testing.assert_allclose(got[0], expected, atol=1e-6)


def test_the_pull_may_act_on_failed_groups_alone(step):
  # Log-ratio log 2 in both groups, of which the second failed.
  reference = [[[np.log(0.25)], [HALF]], [[np.log(0.25)], [HALF]]]
  slopes = []
  for coef in (0.1, 1e-4):
    got, _, _ = step(
        {"kl": "k2", "kl_control": "failed_only"},
        {"kl_coef": coef, "kl_elsewhere": 0.0},
        ref_logprobs=reference,
    )
    slopes.append(got)
  moved = np.subtract(*slopes) / 0.0999
  np.testing.assert_allclose(moved[0], 0.0, atol=1e-5)
  np.testing.assert_allclose(moved[1], [np.log(2) / 4, 0], atol=1e-5)


def test_the_pull_may_seek_a_distance(step):
  # Mean k3 is (1/2 - 1 + log 2) / 4 = 0.0483 of a target of 0.1: the error is
  # cut at -0.2, times 4 completions over a horizon of 100.
  _, _, state = step(
      {"kl": "k3", "kl_control": "adaptive"},
      {"kl_coef": 0.05, "kl_target": 0.1, "kl_horizon": 100.0},
      **FAR,
  )
  np.testing.assert_allclose(state["kl_coef"], 0.05 * (1 - 0.008), rtol=1e-5)


@pytest.mark.parametrize(
    ("choice", "constants", "weight", "after"),
    [
        ("bonus", {"entropy_coef": 0.02}, 0.02, None),
        # The entropy is 1/2 nat.
        (
            "proportional",
            {"entropy_coef": 0.02, "entropy_rate": 1.0, "entropy_target": 0.3},
            0.02,
            0.02 * np.exp(-0.2),
        ),
        # A quarter of the way from 0.9 to 0.1 is 0.7.
        (
            "annealed",
            {
                "entropy_coef": 0.02,
                "entropy_rate": 1.0,
                "entropy_target_start": 0.9,
                "entropy_target_end": 0.1,
            },
            0.02,
            0.02 * np.exp(0.2),
        ),
        (
            "stepped",
            {
                "entropy_start": 0.02,
                "entropy_step": 0.01,
                "entropy_target": 0.3,
            },
            0.0,
            0.01,
        ),
        (
            "stepped",
            {
                "entropy_start": 0.02,
                "entropy_step": 0.01,
                "entropy_target": 0.6,
            },
            0.02,
            0.03,
        ),
    ],
)
def test_bonus_for_entropy(step, choice, constants, weight, after):
  _, slope, state = step({"entropy": choice}, constants)
  np.testing.assert_allclose(slope, -weight / 4, rtol=1e-5, atol=1e-9)
  if after is None:
    assert state == {}
  else:
    np.testing.assert_allclose(state["entropy_coef"], after, rtol=1e-5)
