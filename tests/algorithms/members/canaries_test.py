import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog


def make_batch():
  """One group of four one-token completions; the first ratio is 1.5."""
  ratio = jnp.array([[[1.5], [1.0], [1.0], [1.0]]])
  rewards = jnp.array([[1.0, 0.0, 0.0, 0.0]])
  flat, tokens = jnp.ones((1, 4)), jnp.zeros((1, 4, 1))
  return types.RolloutBatch(
      logprobs=jnp.log(ratio),
      entropy=tokens,
      old_logprobs=tokens,
      sampler_logprobs=tokens,
      ref_logprobs=tokens,
      completion_mask=jnp.ones((1, 4, 1)),
      rewards=rewards,
      correct=rewards,
      format_valid=flat,
      truncated=0.0 * flat,
      lengths=flat,
      staleness=0.0 * flat,
      reward_components=jnp.stack([rewards, flat], axis=2),
      history_pass_rate=jnp.zeros(1),
      step=jnp.array(0),
      progress=jnp.array(0.0),
  )


@functools.cache
def compiled(name):
  """Value and gradient; lightly optimised, to compile fast."""
  algorithm = catalog.make(name)

  def loss(logprobs, batch):
    batch = dataclasses.replace(batch, logprobs=logprobs)
    return algorithm.loss(algorithm.hparams, {}, batch)[0]

  return jax.jit(
      jax.value_and_grad(loss),
      compiler_options={"xla_backend_optimization_level": 0},
  )


def value_and_grad(name, batch):
  return compiled(name)(batch.logprobs, batch)


def test_zero_gradient_has_a_value_but_exactly_no_gradient():
  # A = .75 and thrice -.25; the first token is clipped at 1.2.
  value, grads = value_and_grad("zero_gradient", make_batch())
  np.testing.assert_allclose(value, (-1.2 * 0.75 + 0.75) / 4, rtol=1e-5)
  np.testing.assert_array_equal(grads, np.zeros((1, 4, 1)))


def test_sign_flipped_pushes_the_success_down_unclipped():
  # A = -sqrt(3) and thrice 1/sqrt(3); a negative advantage at ratio 1.5 is
  # not clipped.
  root3 = 3.0**0.5
  value, grads = value_and_grad("sign_flipped", make_batch())
  np.testing.assert_allclose(value, (1.5 * root3 - root3) / 4, rtol=1e-5)
  others = -1 / root3 / 4
  expected = [1.5 * root3 / 4, others, others, others]
  np.testing.assert_allclose(grads[0, :, 0], expected, rtol=1e-5)


def test_sign_flipped_is_opposed_to_grpo_on_policy():
  # At ratio 1 the two gradients are exact opposites.
  batch = make_batch()
  on_policy = dataclasses.replace(batch, old_logprobs=batch.logprobs)

  _, good = value_and_grad("grpo", on_policy)
  _, bad = value_and_grad("sign_flipped", on_policy)
  np.testing.assert_allclose(good, -bad, rtol=1e-6)
  assert np.all(np.sign(good[0, :, 0]) == [-1, 1, 1, 1])


# The equations again, in float64.


def clipped(hp, b, logprobs, adv):
  adv = adv[..., None]
  ratio = np.exp(b.log_ratio(logprobs, "old_logprobs"))
  cut = np.clip(ratio, 1 - hp["clip_eps_low"], 1 + hp["clip_eps_high"])
  return b.token_mean(-np.minimum(ratio * adv, cut * adv))


def constant(hp, b, logprobs, entropy):
  adv = b["rewards"] - b["rewards"].mean(axis=1, keepdims=True)
  return clipped(hp, b, b["logprobs"], adv)


def negated(hp, b, logprobs, entropy):
  centered = b["rewards"] - b["rewards"].mean(axis=1, keepdims=True)
  deviation = b["rewards"].std(axis=1, keepdims=True)
  return clipped(hp, b, logprobs, -centered / (deviation + hp["epsilon"]))


ORACLES = {
    "zero_gradient": (constant, {}),
    "sign_flipped": (negated, {"epsilon": 0.1}),
}


@pytest.mark.parametrize("name", ORACLES)
def test_agrees_with_float64(name, agrees_with_float64):
  oracle, constants = ORACLES[name]
  agrees_with_float64(catalog.make(name, **constants), oracle)
