"""The updates of one rollout, on a policy of one number."""

import dataclasses

from flax import nnx
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from poise_jax import types
from poise_jax.rollout import prompt_batches, scoring
from poise_jax.training import collect, metrics, prompts, updates
from poise_jax.training import config as config_lib
from poise_jax.training import state as state_lib

P, G, T = 4, 2, 3
RATE = 0.1


def _score(params, rows):
  """Log-probability of a token: the policy's number times the token."""
  logprobs = params["w"][...] * rows.tokens
  return scoring.TokenScores(logprobs * rows.mask, 0.0 * logprobs)


def _rollout():
  tokens = jnp.arange(P * G * T).reshape(P * G, T)
  ones = jnp.ones((P, G))
  full = jnp.ones((P, G, T))
  batch = types.RolloutBatch(
      logprobs=full,
      entropy=full,
      old_logprobs=full,
      sampler_logprobs=full,
      ref_logprobs=full,
      completion_mask=full,
      rewards=jnp.arange(P * G, dtype=jnp.float32).reshape(P, G),
      correct=ones,
      format_valid=ones,
      truncated=ones,
      lengths=T * ones,
      staleness=ones,
      reward_components=jnp.ones((P, G, 2)),
      history_pass_rate=jnp.ones(P),
      step=jnp.int32(0),
      progress=jnp.float32(0),
  )
  rows = scoring.Rows(
      prompt_batches.Prompts(jnp.zeros((P, 1), jnp.int32)),
      tokens,
      jnp.ones((P * G, T)),
  )
  return collect.Rollout(rows, batch, (), None, None, None, None, None, 0)


def _loss(hparams, state, batch):
  """Counts its calls, and tells which minibatch it saw."""
  value = jnp.sum(batch.rewards[..., None] * batch.logprobs)
  value *= jnp.where(state["calls"] == hparams["broken"], jnp.nan, 1.0)
  return (
      value,
      {"calls": state["calls"] + 1},
      {"seen": jnp.sum(batch.rewards), "stale": jnp.max(batch.staleness)},
  )


def _run(broken=-1.0, loss=_loss, rollout=None, **changes):
  settings = dict(
      steps=1, prompts=P, group_size=G, epochs=2, minibatches=2,
      learning_rate=RATE,
  )  # fmt: skip
  config = config_lib.TrainConfig(**(settings | changes))
  params = nnx.State({"w": jnp.float32(0.5)})
  optimizer = optax.sgd(1e-3)
  state = state_lib.TrainState(
      params=params,
      opt_state=optimizer.init(params),
      algorithm_state={"calls": jnp.float32(0)},
      history=None,
      position=prompts.START,
      step=0,
      skipped=3,
  )
  algorithm = types.Algorithm(
      "counting", {"broken": broken}, lambda hparams: {}, loss
  )
  update = updates.make_update(_score, optimizer, config)
  return update(state, rollout or _rollout(), algorithm, False)


def test_a_single_update_scores_the_old_policy_itself():
  once = dict(epochs=1, minibatches=1)
  sampled = _run(**once)
  np.testing.assert_array_equal(sampled.batch.old_logprobs, 1.0)
  for parts in (1, 2):
    done = _run(recompute_old=True, micro_batches=parts, **once)
    # The number was 0.5, and the tokens count.
    tokens = np.arange(P * G * T).reshape(P, G, T)
    for field in (done.batch.old_logprobs, done.batch.ref_logprobs):
      np.testing.assert_array_equal(field, 0.5 * tokens)
    # It is compared with the sampler's, and with itself.
    gap = done.metrics["mismatch/abs_max"].extreme
    assert gap == pytest.approx(0.5 * 23 - 1)
    ratio = done.metrics["ratio/mean_abs_log"]
    assert (ratio.total, ratio.count) == (0.0, P * G * T)
  more = _run(recompute_old=True)
  np.testing.assert_array_equal(more.batch.old_logprobs, 1.0)


def test_the_sampler_is_compared_with_the_first_forward_pass():
  """Of the first minibatch, where the sampler's word is taken for the rest."""
  done = _run()
  gap = np.abs(0.5 * np.arange(P // 2 * G * T) - 1)
  mean = done.metrics["mismatch/abs_mean"]
  assert (mean.total, mean.count) == (pytest.approx(gap.sum()), len(gap))
  assert done.metrics["mismatch/abs_max"].extreme == gap.max() == 4.5
  # A pass over the whole rollout says more, and says here that all are 1.
  whole = _run(recompute_old=True).metrics["mismatch/abs_mean"]
  assert (whole.total, whole.count) == (0.0, P * G * T)


def _slope(first):
  """d loss / d w over two prompts from `first` on, by hand."""
  rewards = np.arange(P * G)[2 * first : 2 * first + 4]
  tokens = np.arange(P * G * T).reshape(P * G, T)[2 * first : 2 * first + 4]
  return float((rewards * tokens.sum(1)).sum())


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_each_epoch_goes_through_all_minibatches(micro_batches):
  done = _run(micro_batches=micro_batches)
  slopes = [_slope(0), _slope(2)] * 2
  np.testing.assert_allclose(
      done.state.params["w"][...], 0.5 - 1e-3 * sum(slopes), rtol=1e-5
  )
  np.testing.assert_allclose(done.columns["grad_norm"], slopes, rtol=1e-6)
  assert float(done.state.algorithm_state["calls"]) == 4.0
  # Means over the four updates of what the loss saw, and how stale it was.
  seen, stale = done.metrics["seen"], done.metrics["stale"]
  assert seen.total / seen.count == pytest.approx((6 + 22) / 2)
  # One update behind when it was sampled, then 0 to 3 more.
  assert stale.total / stale.count == pytest.approx(1 + 1.5)


def test_shares_of_tokens_count_by_tokens():
  """The first minibatch has 12 tokens, the second 3."""

  def loss(hparams, state, batch):
    share = jnp.where(batch.rewards[0, 0] == 0, 0.5, 0.25)
    names = "clip_ratio/low_mean", "clip_ratio/high_mean", "own"
    return jnp.sum(batch.logprobs), state, dict.fromkeys(names, share)

  rollout = _rollout()
  mask = rollout.batch.completion_mask.at[2:].set(0.0).at[2, 0].set(1.0)
  batch = dataclasses.replace(rollout.batch, completion_mask=mask)
  found = _run(loss=loss, rollout=rollout._replace(batch=batch)).metrics
  # Two epochs of each; of an algorithm's other metrics nothing is known.
  for name, total, count in (
      ("clip_ratio/low_mean", 2 * (0.5 * 12 + 0.25 * 3), 30.0),
      ("clip_ratio/high_mean", 2 * (0.5 * 12 + 0.25 * 3), 30.0),
      ("own", 1.5, 4.0),
  ):
    assert (found[name].total, found[name].count) == (total, count)
  assert found["clip_ratio/low_min"] == metrics.Lowest(0.25)
  assert found["clip_ratio/high_max"] == metrics.Highest(0.5)


def test_a_broken_update_changes_nothing_and_is_counted():
  done = _run(broken=0.0)
  assert done.columns["skipped"] == [1.0] * 4
  assert float(done.state.params["w"][...]) == 0.5
  # What carried the NaN is not carried on.
  assert float(done.state.algorithm_state["calls"]) == 0.0
  assert done.state.skipped == 3 + 4
