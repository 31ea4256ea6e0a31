import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import aggregation, ratios, surrogates

# Compiles faster, runs slower.
fast_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)
# One group of two completions, of three and one tokens.
MASK = jnp.array([[[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]])
OLD = jnp.array([[[-1.0, -2.0, -0.5], [-3.0, 0.0, 0.0]]])
RATIOS = [
    ratios.log_ratio,
    ratios.token_ratio,
    ratios.sequence_ratio,
    ratios.gspo_token_ratio,
    ratios.sequence_log_ratio,
    ratios.sequence_product_ratio,
]


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-7)


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


@pytest.mark.parametrize("ratio_fn", RATIOS)
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


@pytest.mark.parametrize("size", [1e8, 1e9, 1e30])
def test_however_far_the_clamp_holds(size):
  # Adding the distance to the clamp instead rounds to 16 at 1e8, then to 0.
  new = jnp.array([[[size, 0.0, 0.0], [-size, 0.0, 0.0]]])
  zeros = jnp.zeros((1, 2, 3))
  x, pullback = jax.vjp(lambda n: ratios.log_ratio(n, zeros, MASK), new)
  close(x, [[[20.0, 0.0, 0.0], [-20.0, 0.0, 0.0]]])
  close(pullback(jnp.ones((1, 2, 3)))[0], MASK)
  product = ratios.sequence_product_ratio(new, zeros, MASK)
  expected = np.exp([[[20.0] * 3, [-20.0] * 3]])
  np.testing.assert_allclose(product, expected, rtol=1e-5)


@pytest.mark.parametrize("ratio_fn", RATIOS)
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
    surrogate = surrogates.clipped(
        ratio, adv, clip_eps_low=0.5, clip_eps_high=0.5
    )
    return aggregation.seq_mean(surrogate, MASK)

  new = OLD + jnp.array([[[0.3, -0.9, 0.3], [0.2, 0.0, 0.0]]])
  first, second = -np.exp(-0.1) / (2 * 3), 2.0 * np.exp(0.2) / 2
  close(fast_jit(jax.grad(loss))(new), [[[first] * 3, [second, 0.0, 0.0]]])


def test_sequence_ratio_is_finite_at_the_limit():
  # Each log-ratio is cut at 20, hence the mean too.
  ratio = ratios.sequence_ratio(OLD + 45.0, OLD, MASK)
  np.testing.assert_allclose(ratio, np.full((1, 2, 3), np.exp(20.0)), rtol=1e-5)


def test_gspo_token_ratio_has_the_value_of_the_sequence_ratio():
  new = OLD + jnp.array([[[0.3, -0.9, 0.3], [0.2, 5.0, 5.0]]])
  low, high = np.exp(-0.1), np.exp(0.2)
  ratio_fn = fast_jit(ratios.gspo_token_ratio)
  close(ratio_fn(new, OLD, MASK), [[[low] * 3, [high] * 3]])
  # ds_t/dlogprob_t = s_i at the same token, 0 elsewhere: weighing the tokens
  # by 1, 2, 3 and 4 brings out each.
  weights = jnp.array([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])
  total = lambda x: jnp.sum(weights * ratios.gspo_token_ratio(x, OLD, MASK))
  expected = [[[low, 2 * low, 3 * low], [4 * high, 0.0, 0.0]]]
  close(fast_jit(jax.grad(total))(new), expected)


def test_gspo_token_has_the_gradient_of_gspo_for_scalar_advantages():
  rng = np.random.default_rng(1)
  adv = jnp.asarray(rng.normal(size=(1, 2)), jnp.float32)
  new = OLD + jnp.asarray(rng.normal(0, 0.3, OLD.shape), jnp.float32)

  def loss(new, ratio_fn):
    surrogate = surrogates.clipped(
        ratio_fn(new, OLD, MASK), adv, clip_eps_low=0.1, clip_eps_high=0.5
    )
    return aggregation.seq_mean(surrogate, MASK)

  grads = {
      f: fast_jit(jax.grad(functools.partial(loss, ratio_fn=f)))(new)
      for f in (ratios.sequence_ratio, ratios.gspo_token_ratio)
  }
  close(*grads.values())
  assert np.any(grads[ratios.sequence_ratio] != 0)


def test_sequence_log_ratio_and_product_ratio():
  # .3 - .9 + .5 = -.1, and .2 alone: 5 is masked.
  new = OLD + jnp.array([[[0.3, -0.9, 0.5], [0.2, 5.0, 5.0]]])
  close(ratios.sequence_log_ratio(new, OLD, MASK), [[-0.1, 0.2]])
  low, high = np.exp(-0.1), np.exp(0.2)
  ratio = ratios.sequence_product_ratio(new, OLD, MASK)
  close(ratio, [[[low] * 3, [high] * 3]])
  # Summed over its three copies: dR/dlogprob = 3 R at each live token.
  total = lambda x: jnp.sum(ratios.sequence_product_ratio(x, OLD, MASK))
  expected = [[[3 * low] * 3, [3 * high, 0.0, 0.0]]]
  close(fast_jit(jax.grad(total))(new), expected)
  empty = jnp.zeros_like(MASK)
  close(ratios.sequence_log_ratio(new, OLD, empty), [[0.0, 0.0]])
  close(ratios.sequence_product_ratio(new, OLD, empty), np.ones((1, 2, 3)))


def test_product_ratio_clamps_the_sum_but_not_its_gradient():
  # 3 x 10 = 30 and -45: cut to 20 and, per token already, -20.
  new = jnp.array([[[10.0, 10.0, 10.0], [-45.0, 0.0, 0.0]]])
  zeros = jnp.zeros((1, 2, 3))
  ratio_fn = lambda x: ratios.sequence_product_ratio(x, zeros, MASK)
  high, low = np.exp(20.0), np.exp(-20.0)
  expected = [[[high] * 3, [low] * 3]]
  np.testing.assert_allclose(ratio_fn(new), expected, rtol=1e-5)
  close(ratios.sequence_log_ratio(new, zeros, MASK), [[30.0, -20.0]])
  grads = fast_jit(jax.grad(lambda x: jnp.sum(ratio_fn(x))))(new)
  expected = [[[3 * high] * 3, [3 * low, 0.0, 0.0]]]
  np.testing.assert_allclose(grads, expected, rtol=1e-5)
