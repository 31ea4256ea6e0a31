import math

from poise_jax.discovery.proposer.slots import advantage_constants


def test_defaults_act_on_groups_of_eight_with_rewards_of_right_and_wrong():
  known = advantage_constants.CONSTANTS
  # One success in eight: deviation sqrt(7)/8, advantage sqrt(7).
  assert known["sigma_floor"].default > math.sqrt(7) / 8
  assert known["advantage_limit"].default < math.sqrt(7)
