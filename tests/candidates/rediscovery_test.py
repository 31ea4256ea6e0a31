"""Known losses are recognised, with other constants too; new ones are new."""

import jax.numpy as jnp
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.candidates import fingerprint, known, probes, rediscovery

_SOME = ("grpo", "grpo_format_penalty", "av_grpo", "bn_grpo", "dapo", "rloo")


@pytest.fixture(scope="module")
def suite():
  return probes.suite()


@pytest.fixture(scope="module")
def library(suite):
  """A few members, to compare with less."""
  everything = known.catalogue().known
  return known.Library({n: everything[n] for n in _SOME})


def test_every_probe_has_words(suite):
  assert set(rediscovery._WHERE) == set(suite)


def test_member_equals_itself(library):
  found = library.known["bn_grpo"]
  first, *_ = rediscovery.nearest(found, library)
  assert first.equal and first.words().startswith("equals bn_grpo (worst")
  assert rediscovery.verdict([first]) == first.words()


def test_av_grpo_is_grpo_off_the_floor(library):
  found = library.known["av_grpo"]
  _, second, *_ = rediscovery.nearest(found, library)
  assert second.name == "grpo_format_penalty" and second.factor == 1.0
  assert set(second.differs_on) == {"small_spread", "solved_streams"}
  assert "hardly differ" in second.words()


def test_av_grpo_without_penalty_is_grpo_off_the_floor(suite, library):
  plain = catalog.make("av_grpo", format_penalty=0.0)
  first, *_ = rediscovery.nearest(fingerprint.of(plain, suite), library)
  assert first.name == "grpo" and first.factor == 1.0
  assert set(first.differs_on) == {"small_spread", "solved_streams"}
  assert first.words().startswith("is grpo, except where the rewards")


def test_a_constant_is_found(suite):
  mine = catalog.make("grpo", clip_eps_high=0.28)
  fitted = rediscovery.fit(
      fingerprint.of(mine, suite), "grpo", hints=(0.28,), batches=suite
  )
  assert fitted.equal and fitted.constants == {"clip_eps_high": 0.28}
  assert fitted.words().startswith("equals grpo with clip_eps_high 0.28")


def test_a_verdict_is_told_with_its_constants(suite, library):
  mine = catalog.make("grpo", clip_eps_high=0.31)
  library = known.Library({"grpo": library.known["grpo"]})
  packed = fingerprint.to_bytes(fingerprint.of(mine, suite))
  words = rediscovery.in_words(packed, library, hints=(0.31,))
  assert words.startswith("equals grpo with clip_eps_high 0.31 (worst")
  assert rediscovery.in_words(None, library) == ""
  assert rediscovery.in_words(packed, None) == ""
  other = fingerprint.of(mine, {"mixed": suite["mixed"]})
  assert rediscovery.in_words(fingerprint.to_bytes(other), library) == ""


@pytest.mark.slow
def test_constants_are_found(suite, library):
  mine = catalog.make("grpo", clip_eps_high=0.33, kl_coef=0.017)
  found = fingerprint.of(mine, suite)
  # Those of the source are tried first: the clip is then told exactly.
  first, *_ = rediscovery.explain(
      found, library, hints=tuple(mine.hparams.values()), batches=suite
  )
  assert first.name == "grpo" and first.equal
  assert first.constants == {"clip_eps_high": 0.33, "kl_coef": 0.017}
  assert first.words().startswith(
      "equals grpo with clip_eps_high 0.33 and kl_coef 0.017"
  )


@pytest.mark.slow
def test_constants_are_found_without_hints(suite, library):
  found = fingerprint.of(catalog.make("grpo", kl_coef=0.0237), suite)
  fitted = rediscovery.fit(found, "grpo_poise", batches=suite)
  assert fitted.name == "grpo" and set(fitted.constants) == {"kl_coef"}
  assert fitted.constants["kl_coef"] == pytest.approx(0.0237, rel=0.01)


def test_longer_steps_are_told(suite, library):
  grpo = catalog.make("grpo")

  def loss(hparams, state, batch):
    value, state, metrics = grpo.loss(hparams, state, batch)
    return 2.5 * value, state, metrics

  found = fingerprint.of(grpo._replace(loss=loss), suite)
  first, *_ = rediscovery.nearest(found, library)
  assert first.name == "grpo" and first.equal
  assert "with steps 2.5 times as long" in first.words()


def test_new_is_new(suite, library):
  def loss(hparams, state, batch):
    mask = batch.completion_mask
    adv = jnp.tanh(3.0 * (batch.rewards - batch.history_pass_rate[:, None]))
    value = -adv[..., None] * batch.logprobs * jnp.sqrt(batch.entropy + 0.1)
    return jnp.sum(value * mask) / 100.0, state, {}

  mine = types.Algorithm("mine", {}, lambda hparams: {}, loss)
  matches = rediscovery.explain(
      fingerprint.of(mine, suite), library, batches=suite
  )
  assert rediscovery.verdict(matches).startswith("new; is nearest to ")
  assert 0.2 < matches[0].distance <= 1.0


def test_members_are_told_apart_but_for_the_known_twins():
  members = known.catalogue().known
  names = list(members)
  twins = {
      frozenset({a, b})
      for i, a in enumerate(names)
      for b in names[i + 1 :]
      if fingerprint.twins(members[a], members[b])
  }
  assert twins == set(rediscovery.KNOWN_TWINS)
