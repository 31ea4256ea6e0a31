"""The three parts together are the gradient of the loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.rollout import scoring
from poise_jax.training import step

P, G, T = 2, 3, 31


@pytest.fixture(scope="module")
def rows(policy):
  rng = np.random.default_rng(0)
  lengths = rng.integers(2, T + 1, (P * G, 1))
  mask = (np.arange(T) < lengths).astype(np.float32)
  return step.Tokens(
      jnp.asarray(rng.integers(0, 20, (P, 15)), jnp.int32),
      jnp.asarray(rng.integers(0, 20, (P * G, T)), jnp.int32),
      jnp.asarray(mask),
  )


@pytest.fixture(scope="module")
def batch(rows):
  rng = np.random.default_rng(1)
  mask = rows.mask.reshape(P, G, T)
  noise = lambda: jnp.asarray(rng.normal(-2, 0.5, mask.shape), "float32") * mask
  correct = jnp.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
  return types.RolloutBatch(
      logprobs=noise(),
      entropy=noise(),
      old_logprobs=noise(),
      sampler_logprobs=noise(),
      ref_logprobs=noise(),
      completion_mask=mask,
      rewards=correct,
      correct=correct,
      format_valid=jnp.ones((P, G)),
      truncated=jnp.zeros((P, G)),
      lengths=mask.sum(-1),
      staleness=jnp.zeros((P, G)),
      reward_components=jnp.stack([correct, jnp.ones((P, G))], -1),
      history_pass_rate=jnp.full(P, 0.5),
      step=jnp.int32(0),
      progress=jnp.float32(0),
  )


def _with_entropy(hparams, state, batch):
  """GRPO with an entropy bonus, so that both cotangents matter."""
  grpo = catalog.make("grpo")
  loss, state, metrics = grpo.loss(grpo.hparams, state, batch)
  return loss - hparams["bonus"] * jnp.mean(batch.entropy), state, metrics


def test_three_parts_equal_one_gradient(policy, rows, batch):
  forward = step.make_forward(policy.graphdef)
  backward = step.make_backward(optax.sgd(1.0))
  hparams = {"bonus": 0.3}
  scores, vjp = forward(policy.params, rows)
  output = step.make_differentiate(_with_entropy)(hparams, {}, batch, scores)
  opt_state = optax.sgd(1.0).init(policy.params)
  updated, _, norm = backward(policy.params, opt_state, vjp, output.cotangents)

  score = scoring.make_score_tokens(policy.graphdef)

  def whole(params):
    logprobs, entropy = score(params, *rows)
    full = dataclasses.replace(
        batch,
        logprobs=logprobs.reshape(P, G, T),
        entropy=entropy.reshape(P, G, T),
    )
    return _with_entropy(hparams, {}, full)[0]

  loss, grads = jax.jit(jax.value_and_grad(whole))(policy.params)
  np.testing.assert_allclose(output.loss, loss, rtol=1e-5)
  np.testing.assert_allclose(norm, optax.tree.norm(grads), rtol=1e-4)
  jax.tree.map(
      lambda old, new, g: np.testing.assert_allclose(old - new, g, atol=2e-5),
      policy.params,
      updated,
      grads,
  )
  assert float(norm) > 1e-3


def test_policy_metrics_by_hand(batch, rows):
  scores = scoring.TokenScores(
      batch.ref_logprobs.reshape(P * G, T), jnp.ones((P * G, T)) * rows.mask
  )
  output = step.make_differentiate(catalog.make("grpo").loss)(
      catalog.make("grpo").hparams, {}, batch, scores
  )
  assert float(output.metrics["kl"]) == 0.0
  assert float(output.metrics["entropy"]) == pytest.approx(1.0)


def test_the_same_loss_is_compiled_once():
  loss = catalog.make("grpo").loss
  assert step.make_differentiate(loss) is step.make_differentiate(loss)
