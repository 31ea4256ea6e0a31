"""Sampling by inverse distribution function, and greedy choice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.rollout import sampling


def test_thresholds_by_hand():
  logits = jnp.log(jnp.array([[0.2, 0.5, 0.3]] * 5))
  uniforms = jnp.array([0.0, 0.19, 0.21, 0.69, 0.71])
  tokens = sampling.sample(logits, uniforms)
  np.testing.assert_array_equal(tokens, [0, 0, 1, 1, 2])


def test_the_largest_uniform_stays_in_the_vocabulary():
  logits = jnp.zeros((1, 7))
  below_one = jnp.array([np.nextafter(np.float32(1), np.float32(0))])
  assert int(sampling.sample(logits, below_one)[0]) == 6


def test_a_token_of_probability_zero_is_never_drawn():
  logits = jnp.array([[-jnp.inf, 0.0, -jnp.inf, 0.0]] * 4)
  tokens = sampling.sample(logits, jnp.array([0.0, 0.4999, 0.5, 0.9999]))
  assert set(tokens.tolist()) <= {1, 3}


def test_frequencies_follow_the_distribution():
  probabilities = np.array([0.05, 0.15, 0.5, 0.3])
  rows = jnp.arange(20_000)
  uniforms = sampling.row_uniforms(jax.random.key(0), rows, 1)[:, 0]
  logits = jnp.broadcast_to(jnp.log(probabilities), (20_000, 4))
  tokens = np.asarray(sampling.sample(logits, uniforms))
  found = np.bincount(tokens, minlength=4) / 20_000
  # Four standard errors of a share.
  error = 4 * np.sqrt(probabilities * (1 - probabilities) / 20_000)
  assert (np.abs(found - probabilities) < error).all()


def test_a_row_does_not_depend_on_its_neighbours():
  key = jax.random.key(3)
  whole = sampling.row_uniforms(key, jnp.arange(10), 4)
  part = sampling.row_uniforms(key, jnp.array([7, 2]), 4)
  np.testing.assert_array_equal(part, whole[jnp.array([7, 2])])
  assert len(np.unique(whole)) == 40


@pytest.mark.parametrize("uniform", [0.0, 0.99])
def test_greedy_takes_the_first_of_equals(uniform):
  logits = jnp.array([[0.0, 2.0, 2.0], [3.0, 1.0, 2.0]])
  tokens = sampling.greedy(logits, jnp.full(2, uniform))
  np.testing.assert_array_equal(tokens, [1, 0])
