"""Bans against what a model says, and against what it copied."""

import pytest

from poise_jax.candidates import rediscovery
from poise_jax.discovery.agents import banned
from poise_jax.discovery.objectives import objective as objectives


def _match(name, differs_on=()):
  return rediscovery.Match(name, {}, 1.0, differs_on, "mixed", 0.0, 0.0)


def _broken(bans, tags=(), nearest=()):
  found = banned.findings(
      objectives.Objective(bans=bans), list(tags), list(nearest)
  )
  assert all(f.rule == "banned" and f.level == "contract" for f in found)
  return " ".join(f.message for f in found)


@pytest.mark.parametrize(
    ("ban", "tag"),
    [
        ("length", "length"),
        ("length", "Length Penalty"),
        ("length", "length_penalty"),
        ("length", "LENGTH-SHAPING"),
        ("length", "length=overlong_penalty"),
        ("kl", "kl=k3"),
        ("kl", "KL regularisation"),
        ("clip=dual", "dual_clip"),
        ("clip", "clip"),
    ],
)
def test_a_tag_by_any_of_its_names(ban, tag):
  assert _broken((ban,), ("advantage", tag)) == (
      f"it uses what the objective bans: {ban} (it says: {tag})"
  )


@pytest.mark.parametrize(
    ("ban", "tag"),
    [
        ("length", "advantage"),
        ("kl=k1", "kl=k3"),
        ("clip=dual", "clipping"),  # may be any of four
        ("clip=dual", "clip_higher"),
        ("kl", "kl=none"),
        ("length", "answers of any length"),
    ],
)
def test_a_tag_that_may_mean_something_else(ban, tag):
  assert not _broken((ban,), (tag,))


def test_all_that_a_tag_may_mean():
  bans = ("clip=symmetric", "clip")
  assert "clip=symmetric, clip" in _broken(bans, ("ratio clipping",)).replace(
      " (it says: ratio clipping); ", ", "
  )


def test_what_equals_a_known_algorithm_uses_what_that_uses():
  told = _broken(("clip=clip_higher",), (), [_match("dapo")])
  assert told.endswith("clip=clip_higher (it equals dapo)")
  near = _match("dapo", ("mixed",))
  assert not _broken(("clip=clip_higher",), (), [near])
  # The same without it clears it.
  both = [_match("dapo"), _match("grpo")]
  assert not _broken(("clip=clip_higher",), (), both)
  # A canary has no mechanisms that are known.
  assert not _broken(("clip=clip_higher",), (), [_match("zero_gradient")])


def test_nothing_banned_nothing_found():
  assert not _broken((), ("length", "clip"), [_match("dapo")])
