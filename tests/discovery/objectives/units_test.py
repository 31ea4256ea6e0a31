import pytest

from poise_jax.discovery.objectives import units


def test_scales_by_seed_noise_pooled_over_candidates():
  # Overall: squares 2 + 8 on 2 dof, s² = 5. Length: 50 + 0 on 2, s² = 25.
  groups = [
      [
          {"overall": 50.0, "response_length": 100.0, "flops": 7.0},
          {"overall": 52.0, "response_length": 110.0, "flops": 7.0},
      ],
      [
          {"overall": 60.0, "response_length": 90.0, "flops": 7.0},
          {"overall": 64.0, "response_length": 90.0, "flops": 7.0},
      ],
  ]
  assert units.scales(groups) == {"response_length": pytest.approx(5**0.5)}


def test_what_has_no_noise_is_scaled_by_the_spread_of_candidates():
  # Means 51 and 62: sd 5.5. Descriptions 40 and 62: sd 11.
  groups = [
      [
          {"overall": 50.0, "description_length": 40.0},
          {"overall": 52.0, "description_length": 40.0},
      ],
      [
          {"overall": 60.0, "description_length": 62.0},
          {"overall": 64.0, "description_length": 62.0, "kl": 1.0},
      ],
  ]
  assert units.scales(groups) == {"description_length": pytest.approx(2.0)}


def test_scales_of_nothing():
  assert units.scales([]) == {}
  assert units.scales([[{"overall": 5.0, "kl": 1.0}]]) == {}


def test_defaults():
  assert units.default("overall", 47.0) == 1.0
  assert units.default("pass_at_k/aime", 0.0) == 0.01
  assert units.default("valid_rate", 0.9) == 0.01
  assert units.default("response_length", 400.0) == pytest.approx(20.0)
  assert units.default("kl", -2.0) == pytest.approx(0.1)
  with pytest.raises(ValueError, match="what one point is worth in kl"):
    units.default("kl", 0.0)
