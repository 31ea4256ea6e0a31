from poise_jax.discovery.proposer.slots import policy_constants


def test_ranges_include_what_whole_completions_and_no_clip_need():
  clip = policy_constants.CONSTANTS["clip_eps"]
  assert clip.low <= 3e-4 and clip.high >= 10.0
  assert policy_constants.CONSTANTS["dual_clip"].default > 1.0
