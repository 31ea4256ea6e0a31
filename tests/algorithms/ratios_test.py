import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import aggregation, ratios

# Compiles faster, runs slower.
fast_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)
# One group of two completions, of three and one tokens.
MASK = jnp.array([[[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]])
OLD = jnp.array([[[-1.0, -2.0, -0.5], [-3.0, 0.0, 0.0]]])
RATIO = jnp.array([[[0.5, 1.0, 1.5], [0.5, 1.0, 1.0]]])


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-7)


def value_and_slope(function, x):
  def both(x):
    values, pullback = jax.vjp(function, x)
    return values, pullback(jnp.ones_like(values))[0]

  return fast_jit(both)(x)


def test_log_ratio_and_token_ratio():
  new = OLD + jnp.array([[[0.25, -0.5, 0.0], [1.0, 7.0, 7.0]]])
  close(
      ratios.log_ratio(new, OLD, MASK),
      [[[0.25, -0.5, 0.0], [1.0, 0.0, 0.0]]],
  )
  close(
      ratios.token_ratio(new, OLD, MASK),
      [[[np.exp(0.25), np.exp(-0.5), 1.0], [np.e, 1.0, 1.0]]],
  )


@pytest.mark.parametrize(
    "ratio_fn", [ratios.log_ratio, ratios.token_ratio, ratios.sequence_ratio]
)
def test_masked_slots_never_leak(ratio_fn):
  def total(new, old):
    return jnp.sum(ratio_fn(new, old, MASK))

  value_and_grad = fast_jit(jax.value_and_grad(total))
  clean_value, clean_grads = value_and_grad(OLD + 0.1, OLD)
  assert np.all(clean_grads[MASK > 0] > 0)
  for junk in (np.nan, np.inf, -np.inf, 1e38):
    new = jnp.where(MASK > 0, OLD + 0.1, junk)
    value, grads = value_and_grad(new, jnp.where(MASK > 0, OLD, -junk))
    np.testing.assert_array_equal(value, clean_value)
    np.testing.assert_array_equal(grads, clean_grads)
    np.testing.assert_array_equal(grads[MASK == 0], 0.0)


def test_log_ratio_clamps_the_value_but_not_the_gradient():
  new = jnp.array([[[30.0, -45.0, 3.0]]])
  old = jnp.zeros((1, 1, 3))
  mask = jnp.ones((1, 1, 3))
  close(ratios.log_ratio(new, old, mask), [[[20.0, -20.0, 3.0]]])
  grads = jax.grad(lambda x: jnp.sum(ratios.log_ratio(x, old, mask)))(new)
  close(grads, [[[1.0, 1.0, 1.0]]])
  np.testing.assert_allclose(
      ratios.token_ratio(new, old, mask)[0, 0, 0], np.exp(20.0), rtol=1e-5
  )


@pytest.mark.parametrize("ratio_fn", [ratios.log_ratio, ratios.sequence_ratio])
def test_the_old_policy_is_a_constant(ratio_fn):
  grads = jax.grad(lambda old: jnp.sum(ratio_fn(OLD + 0.1, old, MASK)))(OLD)
  np.testing.assert_array_equal(grads, np.zeros(OLD.shape))


def test_sequence_ratio_is_the_geometric_mean():
  new = OLD + jnp.array([[[0.3, -0.9, 0.3], [0.2, 5.0, 5.0]]])
  low, high = np.exp(-0.1), np.exp(0.2)
  actual = ratios.sequence_ratio(new, OLD, MASK)
  close(actual, [[[low] * 3, [high] * 3]])
  empty = ratios.sequence_ratio(new, OLD, jnp.zeros_like(MASK))
  close(empty, np.ones((1, 2, 3)))


def test_sequence_ratio_has_the_gspo_gradient():
  # d/dlogprob of -(1/N) Σ s_i A_i is -s_i A_i / (N L_i) at each token.
  adv = jnp.array([[1.0, -2.0]])

  def loss(new):
    ratio = ratios.sequence_ratio(new, OLD, MASK)
    surrogate = ratios.clipped_surrogate(
        ratio, adv, clip_eps_low=0.5, clip_eps_high=0.5
    )
    return aggregation.seq_mean(surrogate, MASK)

  new = OLD + jnp.array([[[0.3, -0.9, 0.3], [0.2, 0.0, 0.0]]])
  first, second = -np.exp(-0.1) / (2 * 3), 2.0 * np.exp(0.2) / 2
  close(fast_jit(jax.grad(loss))(new), [[[first] * 3, [second, 0.0, 0.0]]])


def test_clipped_surrogate():
  # Columns: ratio, advantage, loss, slope in the ratio (0: the clip binds).
  ratio, adv, loss, slope = jnp.array(
      [
          (0.5, 1.0, -0.5, -1.0),
          (0.5, -1.0, 0.8, 0.0),
          (1.0, 1.0, -1.0, -1.0),
          (1.0, -1.0, 1.0, 1.0),
          (1.5, 1.0, -1.3, 0.0),
          (1.5, -1.0, 1.5, 1.0),
          (1.5, 0.0, 0.0, 0.0),
      ]
  ).T

  def surrogate(ratio):
    return ratios.clipped_surrogate(
        ratio, adv[None], clip_eps_low=0.2, clip_eps_high=0.3
    )

  losses, slopes = value_and_slope(surrogate, ratio[None, :, None])
  close(losses[0, :, 0], loss)
  close(slopes[0, :, 0], slope)


def test_advantages_may_be_given_per_token():
  eps = {"clip_eps_low": 0.2, "clip_eps_high": 0.2}
  adv = jnp.array([[1.0, -1.0]])
  per_token = jnp.broadcast_to(adv[..., None], RATIO.shape)
  expected = [[[-0.5, -1.0, -1.2], [0.8, 1.0, 1.0]]]
  for given in (adv, adv[..., None], per_token):
    close(ratios.clipped_surrogate(RATIO, given, **eps), expected)


def test_dual_clipped_surrogate():
  # Columns: ratio, advantage, loss, slope in the ratio (0: a clip binds).
  ratio, adv, loss, slope = jnp.array(
      [
          (2.9, -1.0, 2.9, 1.0),
          (5.0, -1.0, 3.0, 0.0),
          (5.0, -2.0, 6.0, 0.0),
          (0.5, -1.0, 0.8, 0.0),
          (5.0, 1.0, -1.2, 0.0),
      ]
  ).T

  def surrogate(ratio):
    return ratios.dual_clipped_surrogate(
        ratio, adv[None], clip_eps_low=0.2, clip_eps_high=0.2, dual_clip=3.0
    )

  losses, slopes = value_and_slope(surrogate, ratio[None, :, None])
  close(losses[0, :, 0], loss)
  close(slopes[0, :, 0], slope)


@pytest.mark.parametrize(
    "adv, low, high",
    # Live ratios: .5, 1, 1.5 in the first completion, .5 in the second.
    [
        ([[1.0, 1.0]], 0.0, 0.25),
        ([[-1.0, 1.0]], 0.25, 0.0),
        ([[-1.0, -1.0]], 0.5, 0.0),
        ([[0.0, 0.0]], 0.0, 0.0),
    ],
)
def test_clip_fractions_count_only_where_the_clip_binds(adv, low, high):
  adv = jnp.array(adv)
  # The masked slots hold ratios that would count if they were live.
  ratio = jnp.where(MASK > 0, RATIO, 0.1)
  close(ratios.clip_fraction_low(ratio, adv, MASK, clip_eps_low=0.2), low)
  ratio = jnp.where(MASK > 0, RATIO, 9.0)
  close(ratios.clip_fraction_high(ratio, adv, MASK, clip_eps_high=0.2), high)


def test_clip_fractions_of_nothing_are_zero():
  empty = jnp.zeros_like(MASK)
  adv = jnp.array([[1.0, -1.0]])
  low = ratios.clip_fraction_low(RATIO, adv, empty, clip_eps_low=0.2)
  high = ratios.clip_fraction_high(RATIO, adv, empty, clip_eps_high=0.2)
  assert float(low) == 0.0
  assert float(high) == 0.0
