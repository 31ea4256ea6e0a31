import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog


def make_batch(**fields):
  """Two groups of four completions, one live token each, the second masked.

  In the first group the first answer is right, its token has ratio 1.5, and
  the last answer is invalid. In the second all are valid and wrong.
  """

  def tokens(first, second):
    return np.stack([[first, second], np.zeros((2, 4))], axis=2)

  minus_one = tokens([-1.0] * 4, [-1.0] * 4)
  rewards = np.array([[1.0, 0.0, 0.0, 0.0], [0.0] * 4])
  valid = np.array([[1.0, 1.0, 1.0, 0.0], [1.0] * 4])
  values = {
      "logprobs": tokens([np.log(1.5) - 1, -1, -1, -1], [-1.0] * 4),
      "entropy": -0.5 * minus_one,
      "old_logprobs": minus_one,
      "sampler_logprobs": minus_one,
      "ref_logprobs": minus_one,
      "completion_mask": -minus_one,
      "rewards": rewards,
      "correct": rewards,
      "format_valid": valid,
      "truncated": np.zeros((2, 4)),
      "lengths": np.array([[2.0, 1.0, 3.0, 9.0], [1.0] * 4]),
      "staleness": np.zeros((2, 4)),
      "reward_components": np.stack([rewards, valid], axis=2),
      "history_pass_rate": np.zeros(2),
      "progress": np.array(0.0),
  }
  values = {k: jnp.asarray(v, jnp.float32) for k, v in values.items()}
  return types.RolloutBatch(**{**values, "step": jnp.array(0), **fields})


@functools.cache
def compiled(name):
  """Value, metrics and gradient; lightly optimised, to compile fast."""
  algorithm = catalog.make(name)

  def loss(logprobs, hparams, batch):
    batch = types.RolloutBatch(**{**vars(batch), "logprobs": logprobs})
    value, state, metrics = algorithm.loss(hparams, {}, batch)
    assert state == {}
    return value, metrics

  return jax.jit(
      jax.value_and_grad(loss, has_aux=True),
      compiler_options={"xla_backend_optimization_level": 0},
  )


def run(name, batch, **hparams):
  """The loss, its gradient at the live tokens, and the metrics."""
  constants = catalog.make(name, **hparams).hparams
  (value, metrics), grads = compiled(name)(batch.logprobs, constants, batch)
  np.testing.assert_array_equal(grads[..., 1], np.zeros((2, 4)))
  return value, np.asarray(grads[..., 0]), metrics


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_bn_grpo_scales_by_the_whole_batch():
  # Centred .75, -.25 x 3, and four zeros: rms sqrt(.75 / 8). The first token
  # is clipped at 1.2; eight tokens.
  high, low = np.array([0.75, -0.25]) / (0.75 / 8) ** 0.5
  value, slopes, metrics = run("bn_grpo", make_batch())
  close(value, -(1.2 * high + 3 * low) / 8)
  close(slopes, [[0.0, -low / 8, -low / 8, -low / 8], [0.0] * 4])
  close(metrics["advantages/mean_abs"], (high - 3 * low) / 8)
  close(metrics["clip_ratio/high_mean"], 1 / 8)
  close(metrics["clip_ratio/low_mean"], 0.0)
  close(metrics["kl"], (1 / 1.5 - 1 + np.log(1.5)) / 8)


def test_bn_grpo_clips_advantages():
  value, _, _ = run("bn_grpo", make_batch(), advantage_clip=0.5)
  close(value, -(1.2 * 0.5 - 3 * 0.5) / 8)


def test_bn_grpo_regularisers():
  # k3 = 1/1.5 - 1 + log 1.5 at the first token, 0 at the others.
  plain, _, _ = run("bn_grpo", make_batch())
  value, slopes, _ = run("bn_grpo", make_batch(), kl_coef=2.0, entropy_coef=3.0)
  k3 = 1 / 1.5 - 1 + np.log(1.5)
  close(value - plain, 2.0 * k3 / 8 - 3.0 * 0.5)
  close(slopes[0, 0], 2.0 * (1 - 1 / 1.5) / 8)


def test_av_grpo_penalises_invalid_answers():
  # r' = 1, 0, 0, -1: mean 0, deviation sqrt(1/2).
  root2 = 2.0**0.5
  value, slopes, _ = run("av_grpo", make_batch())
  close(value, (-1.2 * root2 + root2) / 8)
  close(slopes, [[0.0, 0.0, 0.0, root2 / 8], [0.0] * 4])


def test_av_grpo_floor():
  value, _, _ = run("av_grpo", make_batch(), sigma_min=2.0)
  close(value, (-1.2 * 0.5 + 0.5) / 8)


def test_av_grpo_without_penalty_is_grpo():
  value, slopes, _ = run("av_grpo", make_batch(), format_penalty=0.0)
  expected, expected_slopes, _ = run("grpo", make_batch())
  close(value, expected)
  close(slopes, expected_slopes)


def test_vm_av_grpo():
  # Three valid answers, one right: μ = 2/5, σ = sqrt(.24). Their mean length
  # is 2, so the failures of lengths 1 and 3 are divided by .5 and 1.5. Four
  # valid failures of equal length: μ = 1/6, A = -1/sqrt(5).
  sigma = 0.24**0.5
  right, short, long = 0.6 / sigma, -0.4 / sigma / 0.5, -0.4 / sigma / 1.5
  failed = -(5**-0.5)
  value, slopes, _ = run("vm_av_grpo", make_batch())
  close(value, -(1.2 * right + short + long - 3.5 + 4 * failed) / 8)
  expected = [[0.0, -short, -long, 3.5], [-failed] * 4]
  close(slopes, np.array(expected) / 8)


def test_vm_av_grpo_keeps_invalid_below_every_valid_failure():
  # Three of four right under a Beta(1/4, 1/4) prior: μ = 13/18 and the
  # failure gets -13/sqrt(65) = -1.61, doubled for its length to -3.22, and is
  # cut to -3, above the invalid -3.5.
  batch = make_batch(
      rewards=jnp.array([[1.0, 1.0, 1.0, 0.0]] * 2),
      format_valid=jnp.ones((2, 4)),
      lengths=jnp.array([[9.0, 9.0, 9.0, 1.0]] * 2),
  )
  prior = {"alpha": 0.25, "beta": 0.25}
  _, slopes, _ = run("vm_av_grpo", batch, **prior)
  close(slopes[:, 3], [3.0 / 8] * 2)
  _, slopes, _ = run("vm_av_grpo", batch, advantage_clip=9.0, **prior)
  close(slopes[:, 3], [26.0 / 65**0.5 / 8] * 2)


@pytest.mark.parametrize("length_low", [0.25, 0.5])
def test_vm_av_grpo_length_bounds(length_low):
  # One of two right: A = -1 for the failure, of relative length 1/5.
  batch = make_batch(
      rewards=jnp.array([[1.0, 0.0] * 2] * 2),
      format_valid=jnp.ones((2, 4)),
      lengths=jnp.array([[9.0, 1.0] * 2] * 2),
  )
  _, slopes, _ = run("vm_av_grpo", batch, length_low=length_low)
  close(slopes[:, [1, 3]], np.full((2, 2), min(1 / length_low, 3.0) / 8))


def test_vm_av_grpo_leaves_groups_without_a_valid_answer_alone():
  batch = make_batch(format_valid=jnp.zeros((2, 4)))
  _, slopes, _ = run("vm_av_grpo", batch)
  np.testing.assert_array_equal(slopes, np.zeros((2, 4)))
