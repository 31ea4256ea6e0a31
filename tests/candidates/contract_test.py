"""Losses that break one rule each are told so; sound ones are not."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.candidates import contract, probes


@pytest.fixture(scope="module")
def suite():
  return probes.suite()


def _algorithm(loss, state=None):
  return types.Algorithm("test", {"a": 1.0}, lambda h: dict(state or {}), loss)


def _reinforce(batch):
  adv = batch.rewards - batch.rewards.mean(axis=1, keepdims=True)
  weights = adv[..., None] * batch.completion_mask
  return -jnp.sum(weights * batch.logprobs)


def _sound(hparams, state, batch):
  mean = 0.9 * state["mean"] + jnp.mean(batch.rewards)
  return _reinforce(batch), {"mean": mean}, {"mean": mean}


def _unguarded_mean(hparams, state, batch):
  mask = batch.completion_mask
  return _reinforce(batch) / jnp.sum(mask), state, {}


def _unguarded_slope(hparams, state, batch):
  spread = jnp.var(batch.entropy * batch.completion_mask)
  return jnp.sqrt(spread) + _reinforce(batch), state, {}


def _leaking(hparams, state, batch):
  return jnp.mean(batch.logprobs**2 + batch.logprobs), state, {}


def _exploding_state(hparams, state, batch):
  return _reinforce(batch), {"mean": state["mean"] * 1e20}, {}


def _unguarded_metric(hparams, state, batch):
  valid = jnp.sum(batch.format_valid)
  return _reinforce(batch), state, {"x": jnp.sum(batch.rewards) / valid}


def _still(hparams, state, batch):
  return jnp.mean(batch.rewards), state, {}


def test_sound_loss_has_no_findings(suite):
  assert (
      contract.check(_algorithm(_sound, {"mean": jnp.zeros(())}), suite) == ()
  )


def test_grpo_of_the_catalogue_has_no_findings(suite):
  assert contract.check(catalog.make("grpo"), suite) == ()


@pytest.mark.parametrize(
    ("loss", "state", "found"),
    [
        (
            _unguarded_mean,
            {},
            {"finite-loss": "all_masked", "finite-gradient": "all_masked"},
        ),
        (_unguarded_slope, {}, {"finite-gradient": "all_masked"}),
        (_leaking, {}, {"masked-gradient": "mixed"}),
        (
            _exploding_state,
            {"mean": jnp.ones(())},
            {"finite-state": "off_policy"},
        ),
        (_unguarded_metric, {}, {"finite-metrics": "all_invalid, all_masked"}),
    ],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_broken_rule_is_named_with_its_batches(suite, loss, state, found):
  result = contract.check(_algorithm(loss, state), suite)
  assert {f.rule for f in result} == set(found), result
  for finding in result:
    assert finding.level == "contract" and finding.hint
    if finding.rule == "finite-state":
      continue
    assert found[finding.rule] in finding.message, finding


def test_loss_without_gradient_is_worth_knowing(suite):
  (finding,) = contract.check(_algorithm(_still), suite)
  assert (finding.level, finding.rule) == ("advisory", "no-gradient")


def test_memory_hunger_is_refused_before_it_runs(suite):
  def hungry(hparams, state, batch):
    flat = jnp.ravel(batch.logprobs)
    cube = jnp.sin(flat[:, None, None] * flat[None, :, None] + flat)
    order = jnp.sort(jnp.ravel(cube))
    return jnp.sum(order[:5]), state, {}

  (finding,) = contract.check(_algorithm(hungry), suite)
  assert finding.rule == "memory"


def test_step_gives_both_gradients(suite):
  def loss(hparams, state, batch):
    terms = hparams["a"] * batch.logprobs - 3.0 * batch.entropy
    return jnp.sum(terms * batch.completion_mask), state, {}

  algorithm = _algorithm(loss)
  batch = dataclasses.replace(suite["padded"])
  step = contract.compile_step(algorithm, {}, batch)
  by_logprobs, by_entropy = step({"a": jnp.float32(2.0)}, {}, batch).gradients
  mask = np.asarray(batch.completion_mask)
  np.testing.assert_array_equal(by_logprobs, 2.0 * mask)
  np.testing.assert_array_equal(by_entropy, -3.0 * mask)
