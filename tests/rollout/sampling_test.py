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


def test_blocks_find_the_token_of_the_exact_distribution_function():
  rng = np.random.default_rng(0)
  logits = rng.normal(0, 3, (6, 2500)).astype(np.float32)
  logits[:, 1024:2048] = -np.inf  # An empty block is skipped.
  # Thresholds in the middle of a token's share, which rounding cannot leave.
  exact = np.exp(logits.astype(np.float64))
  exact /= exact.sum(1, keepdims=True)
  above = np.cumsum(exact, axis=1)
  wanted = np.argsort(-exact, axis=1)[:, :20]
  middle = np.take_along_axis(above - exact / 2, wanted, 1)
  for column in range(20):
    tokens = sampling.sample(
        jnp.asarray(logits), jnp.asarray(middle[:, column], "float32")
    )
    np.testing.assert_array_equal(tokens, wanted[:, column])


def test_blocks_at_the_ends():
  logits = jnp.full((3, 3000), -jnp.inf).at[:, 1500].set(0.0)
  below_one = np.nextafter(np.float32(1), np.float32(0))
  tokens = sampling.sample(logits, jnp.array([0.0, 0.5, below_one]))
  np.testing.assert_array_equal(tokens, 1500)
  tokens = sampling.sample(jnp.zeros((1, 3000)), jnp.array([below_one]))
  assert 2990 <= int(tokens[0]) < 3000


LOGITS = jnp.log(jnp.array([[0.1, 0.4, 0.25, 0.05, 0.2]]))


def _support(sampler, logits=LOGITS):
  uniforms = (jnp.arange(400) + 0.5) / 400
  rows = jnp.broadcast_to(logits, (400, logits.shape[1]))
  tokens = np.asarray(sampler(rows, uniforms))
  return np.bincount(tokens, minlength=logits.shape[1]) / 400


@pytest.mark.parametrize(
    "top_k, top_p, expected",
    [
        (2, 1.0, [0, 0.4 / 0.65, 0.25 / 0.65, 0, 0]),
        (0, 0.6, [0, 0.4 / 0.65, 0.25 / 0.65, 0, 0]),
        # The token that reaches the total is in: 0.4 + 0.25 + 0.2 >= 0.66.
        (0, 0.66, [0, 0.4 / 0.85, 0.25 / 0.85, 0, 0.2 / 0.85]),
        # Of the three most probable ones, renormalised, 0.47 + 0.29 >= 0.75.
        (3, 0.75, [0, 0.4 / 0.65, 0.25 / 0.65, 0, 0]),
        (0, 1e-6, [0, 1, 0, 0, 0]),
        (9, 1.0, [0.1, 0.4, 0.25, 0.05, 0.2]),
    ],
)
def test_filters_by_hand(top_k, top_p, expected):
  found = _support(sampling.filtered(top_k, top_p))
  np.testing.assert_allclose(found, expected, atol=0.0026)


def test_ties_at_the_border_stay():
  found = _support(sampling.filtered(top_k=1), jnp.zeros((1, 4)))
  np.testing.assert_allclose(found, 0.25, atol=0.0026)


def test_no_filter_is_plain_sampling():
  assert sampling.filtered() is sampling.sample


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(top_k=-1), "`top_k` must be >= 0 tokens, got -1"),
        (dict(top_p=0.0), "`top_p` must be in"),
        (dict(top_p=1.5), "`top_p` must be in"),
    ],
)
def test_filters_out_of_range(settings, message):
  with pytest.raises(ValueError, match=message):
    sampling.filtered(**settings)
