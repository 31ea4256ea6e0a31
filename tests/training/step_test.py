"""The three parts together are the gradient of the loss."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.rollout import prompt_batches, scoring
from poise_jax.training import step

P, G, T = 2, 3, 31


@pytest.fixture(scope="module")
def rows(policy):
  rng = np.random.default_rng(0)
  lengths = rng.integers(2, T + 1, (P * G, 1))
  mask = (np.arange(T) < lengths).astype(np.float32)
  return scoring.Rows(
      prompt_batches.Prompts(
          jnp.asarray(rng.integers(0, 20, (P, 15)), jnp.int32)
      ),
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
  score = scoring.make_score_tokens(policy.graphdef)
  forward = step.make_forward(score)
  backward = step.make_backward(optax.sgd(1.0))
  hparams = {"bonus": 0.3}
  scores, vjp = forward(policy.params, rows)
  output = step.make_differentiate(_with_entropy)(hparams, {}, batch, scores)
  opt_state = optax.sgd(1.0).init(policy.params)
  updated, _, norm, skipped = backward(
      policy.params, opt_state, vjp, output.cotangents
  )
  assert float(skipped) == 0.0

  def whole(params):
    logprobs, entropy = score(params, rows)
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
  assert float(output.policy["kl"].total) == 0.0
  entropy = output.policy["entropy"]
  assert float(entropy.total / entropy.count) == pytest.approx(1.0)


def test_the_same_loss_is_compiled_once():
  loss = catalog.make("grpo").loss
  assert step.make_differentiate(loss) is step.make_differentiate(loss)


def _gradient(policy, rows, batch, *, micro_batches=1, **options):
  """Scores, and params after a step of gradient descent."""
  score = scoring.make_score_tokens(
      policy.graphdef, scoring.ScoreOptions(**options)
  )
  optimizer = optax.sgd(1.0)
  scores, vjp = step.make_forward(score, micro_batches)(policy.params, rows)
  output = step.make_differentiate(_with_entropy)(
      {"bonus": 0.3}, {}, batch, scores
  )
  updated = step.make_backward(optimizer)(
      policy.params, optimizer.init(policy.params), vjp, output.cotangents
  )
  return scores, output.loss, updated


@pytest.fixture(scope="module")
def plain(policy, rows, batch):
  return _gradient(policy, rows, batch)


@pytest.mark.parametrize(
    "options",
    [
        {"micro_batches": 2},
        {"chunk": 7},
        {"chunk": 7, "remat": "block", "micro_batches": 2},
        {"remat": "full"},
    ],
    ids=str,
)
def test_saving_memory_changes_nothing(policy, rows, batch, plain, options):
  scores, loss, updated = _gradient(policy, rows, batch, **options)
  for found, expected in zip(scores, plain[0], strict=True):
    np.testing.assert_allclose(found, expected, atol=1e-5)
  np.testing.assert_allclose(loss, plain[1], rtol=1e-5)
  np.testing.assert_allclose(updated.grad_norm, plain[2].grad_norm, rtol=1e-5)
  norm = float(plain[2].grad_norm)
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * norm),
      updated.params,
      plain[2].params,
  )


def test_half_precision_keeps_master_weights(policy, rows, batch, plain):
  scores, _, updated = _gradient(policy, rows, batch, compute_dtype="bfloat16")
  for found, expected in zip(scores, plain[0], strict=True):
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=0.25)
    assert np.any(found != expected)
  types_of = jax.tree.map(lambda p: p.dtype, updated.params)
  assert set(jax.tree.leaves(types_of)) == {jnp.dtype("float32")}
  np.testing.assert_allclose(updated.grad_norm, plain[2].grad_norm, rtol=0.1)


def test_no_array_over_the_vocabulary_is_as_long_as_a_completion(policy, rows):
  score = scoring.make_score_tokens(
      policy.graphdef, scoring.ScoreOptions(chunk=7)
  )

  def total(params):
    logprobs, entropy = score(params, rows)
    return jnp.sum(logprobs) + jnp.sum(entropy)

  text = jax.jit(jax.grad(total)).lower(policy.params).as_text()
  vocabulary = policy.config.vocab_size
  assert f"tensor<{P * G}x7x{vocabulary}xf32>" in text
  assert f"x{T}x{vocabulary}x" not in text and f"x35x{vocabulary}x" not in text


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(policy, rows, poison):
  optimizer = optax.adam(0.1)
  forward = step.make_forward(scoring.make_score_tokens(policy.graphdef))
  scores, vjp = forward(policy.params, rows)
  bad = scoring.TokenScores(*(jnp.full_like(s, poison) for s in scores))
  start = optimizer.init(policy.params)
  kept = jax.tree.map(np.asarray, start)
  updated = step.make_backward(optimizer)(policy.params, start, vjp, bad)
  assert float(updated.skipped) == 1.0
  for found, expected in (
      (updated.params, policy.params),
      (updated.opt_state, kept),
  ):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_micro_batches_are_dealt_in_turn_and_put_back():
  rows = {"p": jnp.arange(4.0), "n": jnp.arange(8.0).reshape(8, 1)}
  parts = step._cut(rows, 2, 4)
  np.testing.assert_array_equal(parts["p"], [[0, 2], [1, 3]])
  np.testing.assert_array_equal(
      parts["n"][..., 0], [[0, 1, 4, 5], [2, 3, 6, 7]]
  )
  joined = step._join(parts["n"], 4)
  np.testing.assert_array_equal(joined, rows["n"])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"chunk": -1}, "`chunk` must be >= 0"),
        ({"remat": "some"}, "`remat` must be one of none, block, full"),
        ({"compute_dtype": "int8"}, "`compute_dtype` must be float32 or"),
    ],
)
def test_score_options_are_checked(options, message):
  with pytest.raises(ValueError, match=message):
    scoring.ScoreOptions(**options)
