from poise_jax.discovery.directives import bans as bans_lib
from poise_jax.discovery.proposer import mechanisms


def test_every_ban_exists():
  known = set(bans_lib.names())
  for phrase, bans in bans_lib.phrases().items():
    assert set(bans) <= known, phrase


def test_every_choice_can_be_named():
  phrases = bans_lib.phrases()
  named = {ban for bans in phrases.values() for ban in bans}
  for slot, options in mechanisms.BY_SLOT.items():
    assert slot in named
    assert {f"{slot}={choice}" for choice in options} <= named


def test_common_names():
  phrases = bans_lib.phrases()
  assert phrases["length penalties"] == ("length",)
  assert phrases["dual clipping"] == ("clip=dual",)
  assert phrases["kl = k 3"] == ("kl=k3",)
  assert phrases["cispo"] == ("clip=cispo",)
