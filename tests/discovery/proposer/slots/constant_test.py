from poise_jax.discovery.proposer.slots import constant


def test_a_constant_is_tuned_on_a_logarithm_unless_it_says_otherwise():
  one = constant.Constant("w", 0.1, 1.0, 0.5, {"kl": 1})
  assert one.log and one.neutral is None and one.step > 0
