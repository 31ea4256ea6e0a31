import pytest

from poise_jax.discovery.proposer import constants


def test_position_on_both_scales_by_hand():
  # entropy_coef spans 1e-5 .. 0.05 in logarithms: 5e-3 lies at
  # log(500) / log(5000) = 0.72966.
  assert constants.position("entropy_coef", 5e-3) == pytest.approx(
      0.72966, abs=1e-5
  )
  # invalid_advantage spans -5 .. -0.05 linearly: -2.525 is the middle.
  assert constants.position("invalid_advantage", -2.525) == pytest.approx(0.5)


def test_at_position_inverts_to_three_digits_and_stays_inside():
  for name, constant in constants.CONSTANTS.items():
    for place in (-0.5, 0.0, 0.37, 1.0, 1.5):
      value = constants.at_position(name, place)
      assert constant.low <= value <= constant.high
      inside = min(max(place, 0.0), 1.0)
      assert constants.position(name, value) == pytest.approx(inside, abs=0.01)


def test_defaults_are_inside_and_act():
  for name, constant in constants.CONSTANTS.items():
    assert constant.low <= constant.default <= constant.high, name
    assert constant.low > 0 or not constant.log, name
    assert constant.default != constant.neutral or name == "entropy_start", name
