import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import kl

# Compiles faster, runs slower.
fast_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)


def on_policy_unbiased_k3(new, ref, mask):
  return kl.unbiased_k3(new, jax.lax.stop_gradient(new), ref, mask)


ESTIMATORS = [
    kl.k1,
    kl.k2,
    kl.k3,
    kl.absolute,
    on_policy_unbiased_k3,
    kl.k3_value_k2_gradient,
]
LOGITS = np.array([0.3, -1.2, 0.8, 0.1])
REF_LOGITS = np.array([-0.4, 0.2, 0.5, -0.9])
OLD_LOGITS = np.array([0.9, -0.5, -0.2, 0.4])


def softmax(logits):
  weights = np.exp(logits - logits.max())
  return weights / weights.sum()


@pytest.mark.parametrize(
    "estimator, expected",
    [
        (kl.k1, [0.5, -1.0, 0.0]),
        (kl.k2, [0.125, 0.5, 0.0]),
        (kl.k3, [0.10653066, 0.71828183, 0.0]),
        (kl.absolute, [0.5, 1.0, 0.0]),
        (on_policy_unbiased_k3, [0.10653066, 0.71828183, 0.0]),
        (kl.k3_value_k2_gradient, [0.10653066, 0.71828183, 0.0]),
    ],
)
def test_values(estimator, expected):
  ref = jnp.array([[[-1.0, -2.0, 0.0]]])
  new = jnp.array([[[-0.5, -3.0, np.nan]]])
  mask = jnp.array([[[1.0, 1.0, 0.0]]])
  actual = fast_jit(estimator)(new, ref, mask)
  np.testing.assert_allclose(actual, [[expected]], rtol=2e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS[1:])
def test_nothing_pulls_where_the_policies_agree(estimator):
  # So does jnp.abs, whose derivative at 0 is 1.
  new, mask = jnp.full((1, 1, 1), -0.7), jnp.ones((1, 1, 1))
  values, slopes = fast_jit(
      jax.value_and_grad(lambda x: jnp.sum(estimator(x, new, mask)))
  )(new)
  assert (float(values), float(slopes[0, 0, 0])) == (0.0, 0.0)


@pytest.mark.parametrize(
    "estimator, slope",
    [
        (kl.k3, lambda x: -np.expm1(-x)),
        (on_policy_unbiased_k3, lambda x: x),
        (kl.k3_value_k2_gradient, lambda x: x),
    ],
)
def test_k3_keeps_its_digits(estimator, slope):
  # Σ_{n>=2} (-x)^n / n! near 0, exp(-x) - 1 + x elsewhere. As the latter
  # stands, float32 is off by 6e-4 at 1e-4, and has nothing left at 1e-7.
  sizes = np.logspace(-8, np.log10(19.9), 2001)
  x = np.concatenate([sizes, -sizes]).astype(np.float32)
  exact = x.astype(np.float64)
  series = sum((-exact) ** n / math.factorial(n) for n in range(2, 9))
  far = np.expm1(-exact) + exact
  expected = np.where(np.abs(x) < 0.01, series, far)
  zeros, ones = jnp.zeros((1, 1, x.size)), jnp.ones((1, 1, x.size))

  def both(new):
    values, pullback = jax.vjp(lambda n: estimator(n, zeros, ones), new)
    return values, pullback(ones)[0]

  values, slopes = fast_jit(both)(jnp.asarray(x)[None, None])
  np.testing.assert_allclose(values[0, 0], expected, rtol=1e-6)
  np.testing.assert_allclose(slopes[0, 0], slope(exact), rtol=1e-6)


def expected_gradient(estimator):
  """Averages the loss gradient over tokens drawn from the policy itself."""
  probs = jnp.asarray(softmax(LOGITS), jnp.float32)
  ref = jnp.asarray(np.log(softmax(REF_LOGITS)), jnp.float32)[None, None]

  def loss(logits):
    logprobs = jax.nn.log_softmax(logits)[None, None]
    return jnp.sum(probs * estimator(logprobs, ref, jnp.ones((1, 1, 4))))

  return fast_jit(jax.grad(loss))(jnp.asarray(LOGITS, jnp.float32))


def exact_gradient(divergence):
  """Differentiates a divergence of the softmax by central differences."""
  step = 1e-6
  return np.array(
      [
          (divergence(LOGITS + e) - divergence(LOGITS - e)) / (2 * step)
          for e in step * np.eye(4)
      ]
  )


def reverse_kl(logits):
  p, q = softmax(logits), softmax(REF_LOGITS)
  return np.sum(p * np.log(p / q))


def forward_kl(logits):
  p, q = softmax(logits), softmax(REF_LOGITS)
  return np.sum(q * np.log(q / p))


def twice_total_variation(logits):
  return np.sum(np.abs(softmax(logits) - softmax(REF_LOGITS)))


@pytest.mark.parametrize(
    "estimator, divergence",
    [
        (kl.k1, lambda _: 0.0),
        (kl.k2, reverse_kl),
        (kl.k3, forward_kl),
        (kl.absolute, twice_total_variation),
        (on_policy_unbiased_k3, reverse_kl),
        (kl.k3_value_k2_gradient, reverse_kl),
    ],
)
def test_gradient_in_the_loss_is_what_the_docstring_says(estimator, divergence):
  np.testing.assert_allclose(
      expected_gradient(estimator), exact_gradient(divergence), atol=1e-6
  )


def test_unbiased_k3_allows_for_tokens_of_another_policy():
  # Value and gradient, averaged over tokens drawn from π_old.
  old = jnp.asarray(np.log(softmax(OLD_LOGITS)), jnp.float32)[None, None]
  ref = jnp.asarray(np.log(softmax(REF_LOGITS)), jnp.float32)[None, None]

  def loss(logits, old):
    new = jax.nn.log_softmax(logits)[None, None]
    estimate = kl.unbiased_k3(new, old, ref, jnp.ones((1, 1, 4)))
    return jnp.sum(jax.lax.stop_gradient(jnp.exp(old)) * estimate)

  value, (slopes, to_old) = fast_jit(jax.value_and_grad(loss, argnums=(0, 1)))(
      jnp.asarray(LOGITS, jnp.float32), old
  )
  np.testing.assert_allclose(value, reverse_kl(LOGITS), rtol=1e-6)
  np.testing.assert_allclose(slopes, exact_gradient(reverse_kl), atol=1e-6)
  np.testing.assert_array_equal(to_old, np.zeros((1, 1, 4)))


def test_unbiased_k3_by_hand():
  # r = 2 and x = log 4: ℓ = 2 (1/4 - 1 + log 4), slope r x = 2 log 4. The
  # masked slot gives 0 whatever it holds.
  new = jnp.array([[[-1.0, np.nan]]])
  old = jnp.array([[[-1.0 - np.log(2), np.inf]]], jnp.float32)
  ref = jnp.array([[[-1.0 - np.log(4), np.nan]]], jnp.float32)
  mask = jnp.array([[[1.0, 0.0]]])

  def total(new):
    estimate = kl.unbiased_k3(new, old, ref, mask)
    return jnp.sum(estimate), estimate

  slopes, values = fast_jit(jax.grad(total, has_aux=True))(new)
  expected = 2 * (0.25 - 1 + np.log(4))
  np.testing.assert_allclose(values, [[[expected, 0.0]]], rtol=1e-6)
  np.testing.assert_allclose(slopes, [[[2 * np.log(4), 0.0]]], rtol=1e-6)


def test_corrected_gradient_survives_a_far_reference():
  # At x = -19, exp(-x) is 1.8e8, of which f32 knows no more than 16.
  new, mask = jnp.array([[[-20.0]]]), jnp.ones((1, 1, 1))

  def total(new):
    return jnp.sum(on_policy_unbiased_k3(new, jnp.array([[[-1.0]]]), mask))

  np.testing.assert_allclose(fast_jit(jax.grad(total))(new), [[[-19.0]]])


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_reference_is_a_constant_and_masked_slots_never_leak(estimator):
  mask = jnp.array([[[1.0, 0.0]]])
  new = jnp.array([[[-1.0, np.inf]]])
  ref = jnp.array([[[-2.0, np.nan]]])

  def total(new, ref):
    return jnp.sum(estimator(new, ref, mask))

  to_new, to_ref = fast_jit(jax.grad(total, argnums=(0, 1)))(new, ref)
  np.testing.assert_array_equal(to_ref, np.zeros((1, 1, 2)))
  assert float(to_new[0, 0, 1]) == 0.0
  assert float(to_new[0, 0, 0]) > 0.0


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_far_apart_stays_finite_and_keeps_pulling(estimator):
  new, mask = jnp.array([[[-80.0, 80.0]]]), jnp.ones((1, 1, 2))

  def estimate(new):
    return estimator(new, jnp.zeros((1, 1, 2)), mask)

  values, slopes = fast_jit(
      lambda new: (estimate(new), jax.grad(lambda n: estimate(n).sum())(new))
  )(new)
  assert np.isfinite(values).all()
  assert np.isfinite(slopes).all()
  pull = [1, 1] if estimator is kl.k1 else [-1, 1]
  np.testing.assert_array_equal(np.sign(slopes[0, 0]), pull)
