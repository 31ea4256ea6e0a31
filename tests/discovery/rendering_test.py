import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.candidates import scope as scope_lib
from poise_jax.discovery import constants as knobs
from poise_jax.discovery import genome as genomes
from poise_jax.discovery import grammar, rendering

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


def _cropped(batch):
  """Two groups of two completions of one token."""
  return jax.tree.map(
      lambda x: x[(slice(2), slice(2), slice(1))[: x.ndim]], batch
  )


def _module(genome, **options):
  scope = dict(SCOPE)
  text = rendering.render(
      genome,
      name="x-001",
      parents=["grpo"],
      rationale="r",
      prediction="p",
      falsifier="f",
      **options,
  )
  exec(compile(text, "candidate", "exec"), scope)
  return scope


def _value_and_grads(loss, hparams, batch):
  def of(logprobs, entropy):
    changed = dataclasses.replace(batch, logprobs=logprobs, entropy=entropy)
    return loss(hparams, {}, changed)[0]

  return jax.value_and_grad(of, argnums=(0, 1))(batch.logprobs, batch.entropy)


def _random_genome(rng):
  choices = {s: str(rng.choice(list(o))) for s, o in genomes.SLOTS.items()}
  genome = genomes.edited(genomes.named("grpo"), choices)
  tuned = {n: knobs.at_position(n, rng.random()) for n in genome.constants}
  return genomes.edited(genome, constants=tuned)


@pytest.mark.parametrize(
    "name",
    [
        "grpo",
        "dr_grpo",
        "rloo",
        "dapo",
        "grpo_format_penalty",
        "bn_grpo",
        "av_grpo",
        "vm_av_grpo",
    ],
)
def test_named_genome_is_the_catalogue_entry(name):
  algorithm = catalog.make(name)
  module = _module(genomes.named(name))
  batch = _batch()
  expected = _value_and_grads(algorithm.loss, algorithm.hparams, batch)
  actual = _value_and_grads(module["loss"], module["HPARAMS"], batch)
  assert abs(float(expected[0])) > 1e-4
  np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
  for got, want in zip(actual[1], expected[1], strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)


def _check_is_sound(genome, batch):
  module = _module(genome)
  # What lies in masked slots must not matter.
  masked = batch.completion_mask == 0
  dirty = dataclasses.replace(
      batch, entropy=jnp.where(masked, jnp.nan, batch.entropy)
  )

  def of(logprobs, entropy):
    changed = dataclasses.replace(dirty, logprobs=logprobs, entropy=entropy)
    loss, state, metrics = module["loss"](module["HPARAMS"], {}, changed)
    return loss, (state, metrics)

  (loss, (state, metrics)), grads = jax.value_and_grad(
      of, argnums=(0, 1), has_aux=True
  )(dirty.logprobs, dirty.entropy)
  assert loss.shape == () and loss.dtype == jnp.float32 and state == {}
  for number in (loss, *metrics.values()):
    assert np.isfinite(number)
  for grad in grads:
    assert np.isfinite(grad).all()
    assert not np.asarray(grad)[np.asarray(masked)].any()


def test_random_genomes_are_sound():
  rng = np.random.default_rng(0)
  batches = list(_edge_batches())
  for index in range(60):
    _check_is_sound(_random_genome(rng), batches[index % len(batches)])


@pytest.mark.slow
def test_many_random_genomes_are_sound_on_all_edge_batches():
  rng = np.random.default_rng(1)
  batches = list(_edge_batches())
  for _ in range(400):
    genome = _random_genome(rng)
    for batch in batches:
      _check_is_sound(genome, batch)


def test_every_choice_of_every_slot_changes_the_loss():
  batch = _batch()
  base = genomes.edited(
      genomes.named("grpo"), {"baseline": "batch_mean", "clip": "dual"}
  )
  for slot, options in genomes.SLOTS.items():
    grads = {}
    for choice in options:
      genome = genomes.edited(base, {slot: choice})
      if slot == "baseline":  # otherwise leaving one out is divided away
        genome = genomes.edited(genome, {"scale": "none"})
      if slot == "advantage_clip" and choice == "bounded":
        genome = genomes.edited(genome, constants={"advantage_limit": 0.5})
      module = _module(genome)
      _, grad = _value_and_grads(module["loss"], module["HPARAMS"], batch)
      grads[choice] = np.concatenate([np.ravel(x) for x in grad])
    for first in grads:
      for second in grads:
        if first < second:
          assert not np.allclose(grads[first], grads[second], atol=1e-6), (
              slot,
              first,
              second,
          )


def test_idle_choices_do_not_change_the_gradient():
  batch = _batch()
  for choices in (
      {"failures": "damped"},
      {"gating": "silence_solved"},
      {"gating": "downweight_uniform"},
      {"baseline": "leave_one_out"},
      {"baseline": "leave_one_out", "scale": "batch_rms"},
  ):
    genome = genomes.edited(genomes.named("grpo"), choices)
    idle = genomes.idle_choices(genome)
    assert idle
    plain = genomes.edited(genome, idle)
    for got, want in zip(
        *(
            _value_and_grads(m["loss"], m["HPARAMS"], batch)[1]
            for m in (_module(genome), _module(plain))
        ),
        strict=True,
    ):
      np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_neutral_constants_give_back_the_parent():
  rng = np.random.default_rng(2)
  batch = _batch()
  parent = grammar.Parent("c-000", "grpo", genomes.named("vm_av_grpo"))
  reduced = 0
  for index in range(40):
    proposal = grammar.propose(rng, [parent], set(), index=index)
    scope = dict(SCOPE)
    exec(proposal.source, scope)
    if "NEUTRAL" not in scope:
      continue
    reduced += 1
    assert set(scope["NEUTRAL"]) <= set(scope["HPARAMS"])
    hparams = scope["HPARAMS"] | scope["NEUTRAL"]
    original = _module(parent.genome)
    got = _value_and_grads(scope["loss"], hparams, batch)
    want = _value_and_grads(original["loss"], original["HPARAMS"], batch)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
    np.testing.assert_allclose(got[1][0], want[1][0], rtol=1e-5, atol=1e-7)
  assert reduced >= 5


def test_batch_mean_with_penalty_by_hand():
  # Two groups of two; rewards (1, 0), (0, 0), the last completion invalid and
  # charged 0.5: mean (1 - 0.5) / 4 = 0.125; advantages .875, -.125, -.125,
  # -.625. One token each at ratio 1: the loss is minus their mean, 0.
  genome = genomes.edited(
      genomes.named("grpo"),
      {"validity": "format_penalty", "baseline": "batch_mean", "scale": "none"},
      {"format_penalty": 0.5},
  )
  module = _module(genome)
  rewards = jnp.asarray([[1.0, 0.0], [0.0, 0.0]])
  batch = dataclasses.replace(
      _cropped(_batch()),
      logprobs=jnp.zeros((2, 2, 1)),
      old_logprobs=jnp.zeros((2, 2, 1)),
      completion_mask=jnp.ones((2, 2, 1)),
      rewards=rewards,
      correct=rewards,
      format_valid=jnp.asarray([[1.0, 1.0], [1.0, 0.0]]),
  )
  _, (grad, _) = _value_and_grads(module["loss"], module["HPARAMS"], batch)
  expected = -np.asarray([[0.875, -0.125], [-0.125, -0.625]]) / 4
  np.testing.assert_allclose(grad[..., 0], expected, rtol=1e-6)


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
  assert scope["HPARAMS"] == {"clip_eps": 0.2}
  assert "a variant of nothing" in scope["__doc__"]
  assert "back\\slash" in scope["__doc__"]
  assert "import" not in text and "__" not in text and "NEUTRAL" not in text
  assert max(len(line) for line in text.splitlines()) <= 80
