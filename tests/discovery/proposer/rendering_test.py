import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.candidates import (
    fingerprint,
    known,
    probes,
    rediscovery,
    tracing,
)
from poise_jax.candidates import scope as scope_lib
from poise_jax.discovery.proposer import constants as knobs
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import rendering
from poise_jax.discovery.proposer.slots import named

SCOPE = scope_lib.namespace()


def _batch(seed=0, **fields):
  """Groups that are mixed, all failed, all solved, all invalid."""
  rng = np.random.default_rng(seed)
  p, g, t = 5, 4, 6
  correct = (rng.random((p, g)) < 0.5).astype(np.float32)
  correct[0] = [1, 0, 0, 1]
  correct[1] = 0
  correct[2] = 1
  valid = np.maximum(correct, rng.random((p, g)) < 0.6).astype(np.float32)
  correct[3], valid[3] = 0, 0
  lengths = rng.integers(1, t + 1, (p, g))
  lengths[4, 1] = 0  # a completion without tokens
  correct, valid = fields.get("correct", correct), fields.get("valid", valid)
  lengths = fields.get("lengths", lengths)
  mask = (np.arange(t) < lengths[..., None]).astype(np.float32)
  old = -rng.random((p, g, t)) * mask
  new = old + rng.normal(0, 0.4, (p, g, t)) * mask
  ref = old + rng.normal(0, 0.2, (p, g, t)) * mask
  arrays = {
      "logprobs": new,
      "entropy": rng.random((p, g, t)),
      "old_logprobs": old,
      "sampler_logprobs": old,
      "ref_logprobs": ref,
      "completion_mask": mask,
      "rewards": correct,
      "correct": correct,
      "format_valid": valid,
      "truncated": np.zeros((p, g)),
      "lengths": lengths,
      "staleness": np.zeros((p, g)),
      "reward_components": np.stack([correct, valid], axis=-1),
      "history_pass_rate": np.full(p, 0.5),
      "progress": np.asarray(0.25),
  }
  arrays = {k: jnp.asarray(v, jnp.float32) for k, v in arrays.items()}
  return types.RolloutBatch(**arrays, step=jnp.asarray(3, jnp.int32))


def _edge_batches():
  shape = (5, 4)
  yield _batch()
  yield _batch(correct=np.zeros(shape), valid=np.ones(shape))
  yield _batch(correct=np.ones(shape), valid=np.ones(shape))
  yield _batch(correct=np.zeros(shape), valid=np.zeros(shape))
  yield _batch(lengths=np.zeros(shape, int))


def _text(genome):
  return rendering.render(
      genome,
      name="x-001",
      parents=["grpo"],
      rationale="r",
      prediction="p",
      falsifier="f",
  )


def _module(genome):
  scope = dict(SCOPE)
  exec(compile(_text(genome), "candidate", "exec"), scope)
  return scope


_probes = functools.cache(probes.suite)


def _fingerprint(genome):
  """The gradients of a source of our own, without a jail."""
  program = tracing.execute(_text(genome))
  rendered = types.Algorithm(
      "rendered", program.hparams, program.init, program.loss
  )
  return fingerprint.of(rendered, _probes())


def _random_genome(rng):
  choices = {s: str(rng.choice(list(o))) for s, o in genomes.SLOTS.items()}
  genome = genomes.edited(genomes.named("grpo"), choices)
  tuned = {n: knobs.at_position(n, rng.random()) for n in genome.constants}
  return genomes.edited(genome, constants=tuned)


DISCOVERIES = (
    "bn_grpo av_grpo vm_av_grpo msa_grpo fa_grpo pr_grpo cda_grpo dfr_grpo"
    " rf_grpo dace cag"
).split()


def _check_is_the_member(name):
  """On all probes, with the state carried along, and the same steps."""
  found = _fingerprint(genomes.named(name))
  match = rediscovery.match(found, known.catalogue().known[name], name)
  assert match.equal and match.factor == 1.0, match.words()


@pytest.mark.parametrize("name", ["grpo", *DISCOVERIES])
def test_discoveries_are_within_the_grammar(name):
  _check_is_the_member(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(named.NAMED) - set(DISCOVERIES)))
def test_the_catalogue_is_within_the_grammar(name):
  _check_is_the_member(name)


def _check_is_sound(genome, batch):
  module = _module(genome)
  # What lies in masked slots must not matter.
  masked = batch.completion_mask == 0
  dirty = dataclasses.replace(
      batch, entropy=jnp.where(masked, jnp.nan, batch.entropy)
  )

  def of(logprobs, entropy):
    changed = dataclasses.replace(dirty, logprobs=logprobs, entropy=entropy)
    before = module["init"](module["HPARAMS"])
    loss, state, metrics = module["loss"](module["HPARAMS"], before, changed)
    assert state.keys() == before.keys()
    return loss, (state, metrics)

  (loss, (state, metrics)), grads = jax.value_and_grad(
      of, argnums=(0, 1), has_aux=True
  )(dirty.logprobs, dirty.entropy)
  assert loss.shape == () and loss.dtype == jnp.float32
  for number in (loss, *state.values(), *metrics.values()):
    assert np.isfinite(number)
  for grad in grads:
    assert np.isfinite(grad).all()
    assert not np.asarray(grad)[np.asarray(masked)].any()


def test_random_genomes_are_sound():
  rng = np.random.default_rng(0)
  batches = list(_edge_batches())
  for index in range(10):
    _check_is_sound(_random_genome(rng), batches[index % len(batches)])


@pytest.mark.slow
def test_many_random_genomes_are_sound_on_all_edge_batches():
  rng = np.random.default_rng(1)
  batches = list(_edge_batches())
  for _ in range(400):
    genome = _random_genome(rng)
    for batch in batches:
      _check_is_sound(genome, batch)


@pytest.mark.slow
def test_every_choice_of_every_slot_changes_the_gradients():
  # On a background where each has something to act on; what its company
  # changes is the company's, so that is left alike.
  for slot, options in genomes.SLOTS.items():
    prints = {}
    for choice in options:
      base = BACKGROUNDS.get((slot, choice), BACKGROUNDS.get(slot, {}))
      plain = genomes.edited(genomes.named("grpo"), base)
      genome = genomes.edited(plain, {slot: choice})
      prints[choice] = _fingerprint(genome)
      original = _fingerprint(plain)
      if getattr(plain, slot) != choice:
        assert not fingerprint.twins(prints[choice], original), (slot, choice)


# Where the usual background leaves a mechanism nothing to do.
BACKGROUNDS = {
    "kl_control": {"kl": "k3"},
    ("ratio", "sequence_token"): {"correction": "icepop"},
    ("baseline", "leave_one_out"): {"scale": "none"},
    ("scale", "anchored"): {"format": "penalty"},
}


def test_lines_fit_and_nothing_is_left_to_fill_in():
  rng = np.random.default_rng(5)
  for _ in range(60):
    text = _text(_random_genome(rng))
    assert max(len(line) for line in text.splitlines()) <= 80
    compile(text, "candidate", "exec")
    for hole in ("{penalised}", "{outcome}", "{behaviour}", "{level}"):
      assert hole not in text


def test_source_is_readable_and_safe_for_any_words():
  text = rendering.render(
      genomes.named("grpo"),
      name="x-001",
      parents=[],
      rationale='says """quoted""" and a back\\slash ' + "long " * 40,
      prediction="p",
      falsifier="f",
  )
  scope = dict(SCOPE)
  exec(text, scope)
  assert scope["HPARAMS"] == {"clip_eps": 0.2, "epsilon": 1e-6}
  assert "a variant of nothing" in scope["__doc__"]
  assert "back\\slash" in scope["__doc__"]
  assert "import" not in text and "__" not in text and "NEUTRAL" not in text
  assert max(len(line) for line in text.splitlines()) <= 80
