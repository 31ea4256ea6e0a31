"""Numbers that are known by hand, for losses written for it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.candidates import (
    bandit,
    canonical,
    contract,
    fingerprint,
    intrinsic,
    probes,
)


@pytest.fixture(scope="module")
def suite():
  return probes.suite()


def _measure(algorithm, suite, **given):
  hparams = {k: jnp.float32(v) for k, v in algorithm.hparams.items()}
  state = jax.tree.map(jnp.asarray, algorithm.init(hparams))
  step = contract.compile_step(algorithm, state, suite["mixed"])
  taken = fingerprint.take(step, hparams, state, suite)
  return intrinsic.measure(step, hparams, state, suite, taken, **given)


def _algorithm(loss):
  return types.Algorithm("test", {}, lambda hparams: {}, loss)


def _reinforce(scale):
  def loss(hparams, state, batch):
    adv = batch.rewards - batch.rewards.mean(axis=1, keepdims=True)
    weights = adv[..., None] * batch.completion_mask
    return -scale * jnp.sum(weights * batch.logprobs), state, {}

  return _algorithm(loss)


def test_even_weights(suite):
  even = _algorithm(
      lambda h, s, b: (-jnp.sum(b.logprobs * b.completion_mask), s, {})
  )
  got = _measure(even, suite)
  assert got.effective_tokens == pytest.approx(1.0)
  assert got.zero_gradient_share == 0.0


def test_first_token_alone(suite):
  first = _algorithm(lambda h, s, b: (-jnp.sum(b.logprobs[..., 0]), s, {}))
  got = _measure(first, suite)
  shares = [
      32 / np.asarray(suite[n].completion_mask).sum()
      for n in ("mixed", "near_clip", "streams")
  ]
  # One of the n tokens of each completion has all the weight.
  assert got.effective_tokens == pytest.approx(np.mean(shares))
  assert got.zero_gradient_share == pytest.approx(1 - np.mean(shares))


def test_policy_gradient_points_where_the_exact_one_does(suite):
  got = _measure(_reinforce(1.0), suite)
  assert got.policy_gradient_cosine > 0.9
  scaled = _measure(_reinforce(7.0), suite)
  assert scaled.gradient_variance == pytest.approx(
      got.gradient_variance, rel=1e-4
  )
  backwards = _measure(_reinforce(-1.0), suite)
  assert backwards.policy_gradient_cosine == pytest.approx(
      -got.policy_gradient_cosine, rel=1e-4
  )


def test_cosine_and_variance_by_an_independent_sum(suite):
  """A step that needs no compiler: REINFORCE in numpy."""

  def step(hparams, state, batch):
    rewards = np.asarray(batch.rewards, np.float64)
    centered = rewards - rewards.mean(axis=1, keepdims=True)
    slope = -centered[..., None] * np.asarray(batch.completion_mask)
    return contract.Step(np.zeros(()), (slope, 0.0 * slope), {}, {})

  sizes = bandit.sizes_of(suite["mixed"])
  cosine, variance = intrinsic.bandit_gradient(step, {}, {}, sizes)
  got = _measure(_reinforce(1.0), suite)
  assert got.policy_gradient_cosine == pytest.approx(cosine, rel=1e-4)
  assert got.gradient_variance == pytest.approx(variance, rel=1e-4)
  many, _ = intrinsic.bandit_gradient(step, {}, {}, sizes, resamples=250)
  assert many > 0.99


def test_without_gradient_there_is_no_direction(suite):
  grpo = fingerprint.of(catalog.make("grpo"), suite)
  got = _measure(catalog.make("zero_gradient"), suite, grpo=grpo)
  assert got.policy_gradient_cosine is None and got.gradient_variance is None
  assert got.effective_tokens is None and got.gradient_scale is None
  assert got.zero_gradient_share == 1.0


def test_scale_is_relative_to_grpo(suite):
  grpo = catalog.make("grpo")

  def loss(hparams, state, batch):
    value, state, metrics = grpo.loss(hparams, state, batch)
    return 3.0 * value, state, metrics

  taken = fingerprint.of(grpo, suite)
  tripled = grpo._replace(loss=loss)
  got = _measure(tripled, suite, grpo=taken)
  assert got.gradient_scale == pytest.approx(3.0, rel=1e-4)


def test_length_and_cost_are_passed_on(suite):
  def loss(hparams, state, batch):
    return jnp.sum(batch.logprobs * batch.completion_mask), state, {}

  mine = _algorithm(loss)
  described = canonical.of({}, mine.init, mine.loss)
  compiled = jax.jit(lambda x: x @ x).lower(jnp.ones((16, 16))).compile()
  got = _measure(mine, suite, described=described, compiled=compiled)
  assert (got.operations, got.constants) == (2, 0)
  assert got.bits == described.bits
  # A product of two 16 x 16 matrices.
  assert got.flops == pytest.approx(2 * 16**3, rel=0.01)
  assert got.bytes_accessed >= 2 * 16 * 16 * 4 and got.temporary_bytes >= 0


def test_record_is_plain_data(suite):
  record = dataclasses.asdict(_measure(catalog.make("grpo"), suite))
  assert {type(v) for v in record.values()} <= {float, int, type(None)}
  assert intrinsic.from_json(record) == intrinsic.Metrics(**record)


@pytest.mark.parametrize(
    "value",
    [None, [], {"flops": "1"}, {"flops": float("nan")}, {"other": 1.0}],
)
def test_what_is_no_record_is_not_read(value):
  assert intrinsic.from_json(value) is None
