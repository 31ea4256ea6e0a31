"""Fingerprints tell losses apart by what they do, not by how they look."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.candidates import contract, fingerprint, probes


@pytest.fixture(scope="module")
def suite():
  return probes.suite()


@pytest.fixture(scope="module")
def grpo(suite):
  return fingerprint.of(catalog.make("grpo"), suite)


def _made(slopes, names=("a", "b", "c", "d")):
  slopes = np.asarray(slopes, np.float32)
  return fingerprint.Fingerprint(
      "s", names, slopes.reshape(len(names), 2, 1, 1, -1)
  )


_ONE = _made([[1, 0], [0, 2], [3, 0], [0, 0]])


def test_slopes_of_a_linear_loss_by_hand(suite):
  def loss(hparams, state, batch):
    terms = hparams["a"] * batch.rewards[..., None] * batch.logprobs
    terms = terms - state["n"] * batch.entropy
    return jnp.sum(terms * batch.completion_mask), {"n": state["n"] + 1.0}, {}

  init = lambda hparams: {"n": jnp.zeros(())}
  mine = types.Algorithm("mine", {"a": 2.0}, init, loss)
  found = fingerprint.of(mine, suite)
  assert found.names == tuple(suite) and found.slopes.dtype == np.float32
  for index, batch in enumerate(suite.values()):
    mask = np.asarray(batch.completion_mask)
    rewards = np.asarray(batch.rewards)[..., None]
    np.testing.assert_allclose(found.slopes[index, 0], 2 * rewards * mask)
    # The state is carried from probe to probe.
    np.testing.assert_allclose(found.slopes[index, 1], -index * mask)


def test_rewritten_grpo_is_a_twin_and_dapo_is_none(suite, grpo):
  def loss(hparams, state, batch):
    mask, rewards = batch.completion_mask, batch.rewards
    mean = jnp.sum(rewards, axis=1, keepdims=True) / rewards.shape[1]
    sigma = jnp.sqrt(
        jnp.mean(rewards**2, axis=1, keepdims=True) - mean**2 + 1e-10
    )
    adv = jnp.where(sigma > 1e-4, (rewards - mean) / sigma, 0.0)[..., None]
    ratio = jnp.exp(batch.logprobs - batch.old_logprobs)
    value = jnp.maximum(-ratio * adv, -jnp.clip(ratio, 0.8, 1.2) * adv) * mask
    return value.sum() / jnp.maximum(mask.sum(), 1.0), state, {}

  mine = types.Algorithm("mine", {}, lambda hparams: {}, loss)
  twin = fingerprint.of(mine, suite)
  assert fingerprint.twins(twin, grpo) and fingerprint.twins(grpo, twin)
  assert fingerprint.distance(twin, grpo) < 1e-4
  dapo = fingerprint.of(catalog.make("dapo"), suite)
  assert not fingerprint.twins(dapo, grpo)
  assert fingerprint.worst(dapo, grpo)[1] > 0.1
  assert 0 < fingerprint.distance(dapo, grpo) < 0.1


def _masked(test):
  return lambda b: {"completion_mask": b.completion_mask * test}


# What GRPO sees of a batch if something turns on the number n.
_TURNS = {
    "length": (
        lambda b, n: {"rewards": b.rewards - 0.5 * (b.lengths > n)},
        (11, 15, 20, 25, 30, 99),
    ),
    "tokens": (
        lambda b, n: _masked(jnp.arange(b.logprobs.shape[2]) < n)(b),
        (11, 15, 20, 31, 99),
    ),
    "reward": (
        lambda b, n: {"rewards": jnp.clip(b.rewards, -n, n)},
        (1.1, 2, 4, 7, 99),
    ),
    "staleness": (
        lambda b, n: _masked((b.staleness <= n)[..., None])(b),
        (1, 2, 4, 8, 10, 15, 30, 60, 99),
    ),
    "pass rate": (
        lambda b, n: _masked((b.history_pass_rate < n)[:, None, None])(b),
        (0.7, 0.8, 0.9, 2),
    ),
    "progress": (
        lambda b, n: {
            "rewards": b.rewards - 0.01 * b.lengths * (b.progress < n)
        },
        (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95, 2),
    ),
    "step": (
        lambda b, n: {"rewards": b.rewards - 0.01 * b.lengths * (b.step > n)},
        (0, 3, 10, 30, 100, 500, 2000, 10_000),
    ),
}


def _turning(change):
  """GRPO that turns on a number, which is its only constant."""
  plain = catalog.make("grpo")

  def loss(hparams, state, batch):
    seen = dataclasses.replace(batch, **change(batch, hparams["n"]))
    return plain.loss(plain.hparams, state, seen)

  return types.Algorithm("turning", {"n": 0.0}, plain.init, loss)


@pytest.mark.parametrize("name", _TURNS)
def test_losses_that_turn_on_other_numbers_are_no_twins(suite, name):
  change, numbers = _TURNS[name]
  step = contract.compile_step(_turning(change), {}, suite["mixed"])
  found = [fingerprint.take(step, {"n": n}, {}, suite) for n in numbers]
  for index, one in enumerate(found):
    assert not any(fingerprint.twins(one, other) for other in found[:index])


def test_a_size_of_the_batch_is_told_from_its_number():
  """By the second suite, as the first has these very sizes."""
  usual = (probes.PROMPTS, probes.GROUP_SIZE, probes.TOKENS)

  def loss(hparams, state, batch):
    divisors = jnp.asarray((*batch.logprobs.shape, *usual), jnp.float32)
    total = jnp.sum(batch.logprobs * batch.completion_mask)
    return total / divisors[hparams["n"].astype(int)], state, {}

  mine = types.Algorithm("mine", {"n": 0.0}, lambda hparams: {}, loss)
  other = probes.other_suite()
  for batches, same in ((probes.suite(), True), (other, False)):
    step = contract.compile_step(mine, {}, batches["mixed"])
    found = [fingerprint.take(step, {"n": n}, {}, batches) for n in range(6)]
    for by_size, by_number in zip(found[:3], found[3:], strict=True):
      assert fingerprint.twins(by_size, by_number) == same
  # What only long completions show.
  change, _ = _TURNS["tokens"]
  step = contract.compile_step(_turning(change), {}, other["mixed"])
  found = [fingerprint.take(step, {"n": n}, {}, other) for n in (500, 1500)]
  assert not fingerprint.twins(*found)


def test_canaries_are_as_far_as_can_be(suite, grpo):
  zero = fingerprint.of(catalog.make("zero_gradient"), suite)
  flipped = fingerprint.of(catalog.make("sign_flipped"), suite)
  assert fingerprint.distance(zero, grpo) == 1.0
  assert fingerprint.distance(zero, zero) == 0.0
  assert fingerprint.distance(flipped, grpo) > 0.85
  assert not fingerprint.twins(zero, grpo)


def test_distance_by_hand():
  assert fingerprint.distance(_ONE, _ONE) == 0.0
  twice = dataclasses.replace(_ONE, slopes=2 * _ONE.slopes)
  assert fingerprint.common_factor(twice, _ONE) == pytest.approx(2.0)
  assert fingerprint.distance(twice, _ONE) == pytest.approx(0.0, abs=1e-7)
  assert not fingerprint.twins(twice, _ONE)
  against = dataclasses.replace(_ONE, slopes=-_ONE.slopes)
  assert fingerprint.distance(against, _ONE) == pytest.approx(1.0)
  # On b at a right angle: |(-2, 2)| / (2 + 2) of three probes with a gradient.
  turned = _made([[1, 0], [2, 0], [3, 0], [0, 0]])
  expected = np.sqrt(8) / 4 / 3
  assert fingerprint.distance(turned, _ONE) == pytest.approx(expected)
  # Only one of them has a gradient on d.
  more = _made([[1, 0], [0, 2], [3, 0], [0, 5]])
  assert fingerprint.distance(more, _ONE) == pytest.approx(1 / 4)
  assert fingerprint.distance(_ONE, more) == pytest.approx(1 / 4)


def test_differences_by_hand():
  other = _made([[1, 0], [0, 2], [2.4, 0], [0, 0]])
  assert fingerprint.differences(_ONE, other) == pytest.approx(
      {"a": 0.0, "b": 0.0, "c": 0.2, "d": 0.0}
  )
  assert fingerprint.worst(_ONE, other) == ("c", pytest.approx(0.2))
  # Rounding where there should be nothing does not count; median size is 2.
  noisy = _made([[1, 0], [0, 2], [3, 0], [0, 1e-6]])
  assert fingerprint.differences(_ONE, noisy)["d"] < 1e-2


def test_normalized_has_no_scale(grpo):
  scaled = dataclasses.replace(grpo, slopes=5 * grpo.slopes)
  one, other = fingerprint.normalized(grpo), fingerprint.normalized(scaled)
  np.testing.assert_allclose(one, other, rtol=1e-5)


def test_bytes_are_read_back(grpo):
  data = fingerprint.to_bytes(grpo)
  read = fingerprint.from_bytes(data)
  assert (read.suite, read.names) == (grpo.suite, grpo.names)
  np.testing.assert_array_equal(read.slopes, grpo.slopes)
  assert len(data) < 40_000
  for damaged in (b"", data[:100], b"PK" + data):
    with pytest.raises(ValueError, match="packed fingerprint"):
      fingerprint.from_bytes(damaged)


def test_other_probes_are_not_compared(grpo):
  other = dataclasses.replace(grpo, suite="another")
  with pytest.raises(ValueError, match="one suite"):
    fingerprint.distance(grpo, other)


def test_gradient_that_is_not_finite_is_refused(suite):
  def loss(hparams, state, batch):
    return jnp.sum(batch.logprobs) / jnp.sum(batch.correct), state, {}

  mine = types.Algorithm("mine", {}, lambda hparams: {}, loss)
  with pytest.raises(ValueError, match="'all_fail'"):
    fingerprint.of(mine, suite)
