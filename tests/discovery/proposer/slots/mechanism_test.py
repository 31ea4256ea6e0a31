from poise_jax.discovery.proposer.slots import mechanism


def test_a_plain_mechanism_needs_nothing_and_has_no_code():
  one = mechanism.Mechanism("w", "b", "h", {"kl": 1}, "f")
  assert one.needs == {} and one.constants == () and one.code == ""
