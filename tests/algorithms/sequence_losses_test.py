import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import sequence_losses

# Compiles faster, runs slower.
fast_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)
# One group of three completions, of two, one and no tokens.
MASK = jnp.array([[[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]])
OLD = jnp.array([[[-1.0, -2.0], [-1.5, 0.0], [0.0, 0.0]]])
SIGNAL = jnp.array([[2.0, -1.0, 5.0]])
CONSTANTS = {
    "geometric_clipped": {"clip_eps_low": 0.5, "clip_eps_high": 0.4},
    "vespo": {
        "k_pos": 2.0,
        "lambda_pos": 3.0,
        "k_neg": 3.0,
        "lambda_neg": 2.0,
    },
    "gvpo": {"beta": 0.5},
    "target_policy": {"eta": 2.0},
}


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-7)


def loss_fn(name):
  return functools.partial(getattr(sequence_losses, name), **CONSTANTS[name])


@functools.cache
def compiled(name):
  """The values, and their gradients when summed over live slots."""

  def total(new, old, mask, signal):
    values = loss_fn(name)(new, old, mask, signal)
    live = {3: mask > 0, 2: jnp.any(mask > 0, axis=2), 1: True}[values.ndim]
    return jnp.sum(jnp.where(live, values, 0.0)), values

  return fast_jit(jax.value_and_grad(total, argnums=(0, 1, 3), has_aux=True))


def run(name, new, old=OLD, mask=MASK, signal=SIGNAL):
  """The values and their gradient at log π."""
  (_, values), (grads, *_) = compiled(name)(new, old, mask, signal)
  return values, grads


@pytest.mark.parametrize("name", CONSTANTS)
def test_masked_slots_never_leak(name):
  shift = jnp.array([[[0.3, -0.2], [-0.4, 0.0], [0.0, 0.0]]])
  (clean, _), (clean_grads, *_) = compiled(name)(OLD + shift, OLD, MASK, SIGNAL)
  assert np.any(clean_grads != 0)
  for junk in (np.nan, np.inf, -np.inf, 1e38):
    new = jnp.where(MASK > 0, OLD + shift, junk)
    old = jnp.where(MASK > 0, OLD, -junk)
    (value, _), (grads, *_) = compiled(name)(new, old, MASK, SIGNAL)
    np.testing.assert_array_equal(value, clean)
    np.testing.assert_array_equal(grads, clean_grads)
    np.testing.assert_array_equal(grads[MASK == 0], 0.0)


@pytest.mark.parametrize("name", CONSTANTS)
def test_only_the_policy_is_differentiated(name):
  _, (_, old, signal) = compiled(name)(OLD + 0.1, OLD, MASK, SIGNAL)
  np.testing.assert_array_equal(old, np.zeros(OLD.shape))
  np.testing.assert_array_equal(signal, np.zeros(SIGNAL.shape))


@pytest.mark.parametrize("name", CONSTANTS)
@pytest.mark.parametrize("shift", [0.0, 50.0, -50.0])
def test_extremes_are_finite(name, shift):
  for mask in (MASK, jnp.zeros_like(MASK), jnp.ones_like(MASK)):
    values, grads = run(name, OLD + shift, mask=mask)
    assert np.all(np.isfinite(values))
    assert np.all(np.isfinite(grads))
    if not np.any(mask):
      np.testing.assert_array_equal(grads, np.zeros(OLD.shape))


def test_completion_mean():
  # (1 + 3) / 2: the third has no token.
  mean = fast_jit(jax.value_and_grad(sequence_losses.completion_mean))
  for junk in (7.0, np.nan, np.inf):
    value, grads = mean(jnp.array([[1.0, 3.0, junk]]), MASK)
    close(value, 2.0)
    close(grads, [[0.5, 0.5, 0.0]])
  value, grads = mean(jnp.array([[1.0, 3.0, np.nan]]), jnp.zeros_like(MASK))
  assert value == 0.0
  np.testing.assert_array_equal(grads, np.zeros((1, 3)))


def test_prompt_mean():
  # Two prompts with tokens, one without: (2 + 4) / 2.
  mask = jnp.concatenate([MASK, jnp.zeros_like(MASK), MASK])
  mean = fast_jit(jax.value_and_grad(sequence_losses.prompt_mean))
  for junk in (7.0, np.nan, np.inf):
    value, grads = mean(jnp.array([2.0, junk, 4.0]), mask)
    close(value, 3.0)
    close(grads, [0.5, 0.0, 0.5])
  value, grads = mean(jnp.full(3, np.nan), jnp.zeros_like(mask))
  assert value == 0.0
  np.testing.assert_array_equal(grads, np.zeros(3))


def test_geometric_clipped():
  # A = 2: .3 stays and 1 becomes .4, mean .35; A = -1: -2 becomes -.5.
  new = OLD + jnp.array([[[0.3, 1.0], [-2.0, 0.0], [0.0, 0.0]]])
  values, grads = run("geometric_clipped", new)
  close(values[0, :2], [-2 * np.exp(0.35), np.exp(-0.5)])
  # A clipped token has no gradient, the other ℓ / 2.
  close(grads[0], [[-np.exp(0.35), 0.0], [0.0, 0.0], [0.0, 0.0]])


def test_geometric_clipped_keeps_the_gradient_on_the_other_side():
  # A = 2 at -1 and 0, mean -.5; A = -1 at 3: neither is clipped.
  new = OLD + jnp.array([[[-1.0, 0.0], [3.0, 0.0], [0.0, 0.0]]])
  values, grads = run("geometric_clipped", new)
  close(values[0, :2], [-2 * np.exp(-0.5), np.exp(3.0)])
  first = -np.exp(-0.5)
  close(grads[0], [[first, first], [np.exp(3.0), 0.0], [0.0, 0.0]])


def test_geometric_clipped_starts_as_reinforce():
  # One token at ratio 1: the slope is -A.
  _, grads = run("geometric_clipped", OLD)
  close(grads[0, 1], [1.0, 0.0])


def test_vespo_weight_is_one_on_policy():
  # ℓ = -A log π and slope -A at each token.
  values, grads = run("vespo", OLD)
  close(values[0], [[2.0, 4.0], [-1.5, 0.0], [0.0, 0.0]])
  np.testing.assert_array_equal(
      grads[0], [[-2.0, -2.0], [1.0, 0.0], [0.0, 0.0]]
  )


def test_vespo():
  # W = 2 · 1.5 = 3 with (k, λ) = (2, 3): 9 e^-6; W = 1/2 with (3, 2): e / 8.
  shift = np.log([[[2.0, 1.5], [0.5, 1.0], [1.0, 1.0]]])
  new = OLD + jnp.asarray(shift, jnp.float32)
  good, bad = 9 * np.exp(-6), np.e / 8
  values, grads = run("vespo", new)
  expected = [
      [2 * good * (1 - np.log(2)), 2 * good * (2 - np.log(1.5))],
      [-bad * (1.5 + np.log(2)), 0.0],
      [0.0, 0.0],
  ]
  np.testing.assert_allclose(values[0], expected, rtol=1e-5)
  expected = [[-2 * good, -2 * good], [bad, 0.0], [0.0, 0.0]]
  np.testing.assert_allclose(grads[0], expected, rtol=1e-5)


@pytest.mark.parametrize("shift", [0.1, -0.1])
def test_vespo_peaks_at_k_over_lambda(shift):
  # One token of A = 2: the largest weight is at W = 2/3.
  slope = lambda x: -run(
      "vespo",
      jnp.array([[[-1.0 + x]]], jnp.float32),
      jnp.array([[[-1.0]]]),
      jnp.ones((1, 1, 1)),
      jnp.array([[1.0]]),
  )[1][0, 0, 0]
  peak = slope(np.log(2 / 3))
  np.testing.assert_allclose(peak, 4 / 9 * np.e, rtol=1e-5)
  assert slope(np.log(2 / 3) + shift) < peak


def test_vespo_bounds_the_weight_whatever_its_constants():
  # k = 100 at log W = 10: exp(1000) without the bound.
  loss = functools.partial(
      sequence_losses.vespo,
      k_pos=100.0,
      lambda_pos=1e-3,
      k_neg=1.0,
      lambda_neg=1.0,
  )
  ones = jnp.ones((1, 1, 1))
  value = loss(-ones, -11.0 * ones, ones, jnp.ones((1, 1)))
  np.testing.assert_allclose(value, np.full((1, 1, 1), np.exp(20)), rtol=1e-5)


def test_gvpo():
  # Two live completions: S = .5 and -.5, r = 2 and -1, the 5 is left out.
  # d = .5 · (±.5) ∓ 1.5 = ∓1.25; loss 1.25²; slope beta d.
  new = OLD + jnp.array([[[0.2, 0.3], [-0.5, 0.0], [0.0, 0.0]]])
  values, grads = run("gvpo", new)
  close(values, [1.25**2])
  slope = 0.5 * 1.25
  close(grads[0], [[-slope, -slope], [slope, 0.0], [0.0, 0.0]])


def test_gvpo_has_the_covariance_gradient():
  # That of -beta Cov(S, r) + beta²/2 Var(S), with sample moments.
  rng = np.random.default_rng(2)
  x = jnp.asarray(rng.normal(size=(3, 5, 1)), jnp.float32)
  rewards = jnp.asarray(rng.normal(size=(3, 5)), jnp.float32)
  zeros, ones = jnp.zeros_like(x), jnp.ones_like(x)

  def covariance_form(x):
    s = x[..., 0] - jnp.mean(x[..., 0], axis=1, keepdims=True)
    r = rewards - jnp.mean(rewards, axis=1, keepdims=True)
    return jnp.sum(-0.5 * s * r + 0.125 * s**2) / 4

  _, grads = run("gvpo", x, zeros, ones, rewards)
  np.testing.assert_allclose(
      grads, fast_jit(jax.grad(covariance_form))(x), rtol=1e-5, atol=1e-6
  )


def test_gvpo_of_equal_rewards_on_policy_is_exactly_zero():
  rewards = jnp.full((1, 7), 1000.1)
  old = jnp.asarray(-np.random.default_rng(3).exponential(1.0, (1, 7, 4)))
  old = old.astype(jnp.float32)
  values, grads = run("gvpo", old, old, jnp.ones_like(old), rewards)
  np.testing.assert_array_equal(values, [0.0])
  np.testing.assert_array_equal(grads, np.zeros(old.shape))


@pytest.mark.parametrize("name", ["gvpo", "target_policy"])
def test_a_group_of_one_gives_zero(name):
  only_first = MASK.at[0, 1:].set(0.0)
  values, grads = run(name, OLD + 0.5, mask=only_first)
  np.testing.assert_array_equal(values, [0.0])
  np.testing.assert_array_equal(grads, np.zeros(OLD.shape))
  first = slice(0, 1)
  values, grads = run(
      name,
      OLD[:, first] + 0.5,
      OLD[:, first],
      MASK[:, first],
      SIGNAL[:, first],
  )
  np.testing.assert_array_equal(values, [0.0])
  np.testing.assert_array_equal(grads, np.zeros((1, 1, 2)))


def test_target_policy():
  # l_old = -3 and -1.5; l = -2 + log 3 and -2: p = 3/4, 1/4. u/eta = 1 and
  # -.5, so q ∝ e^-2, e^-2: 1/2 each. The third completion has neither.
  new = jnp.array([[[np.log(3.0) - 1, -1.0], [-2.0, 0.0], [0.0, 0.0]]])
  values, grads = run("target_policy", new.astype(jnp.float32))
  close(values, [-0.5 * np.log(3 / 4) - 0.5 * np.log(1 / 4)])
  close(grads[0], [[0.25, 0.25], [-0.25, 0.0], [0.0, 0.0]])


def test_target_policy_gradient_is_p_minus_q():
  rng = np.random.default_rng(4)
  old = rng.normal(-3, 1, (2, 5, 1)).astype(np.float32)
  new = old + rng.normal(0, 0.5, old.shape).astype(np.float32)
  scores = rng.normal(size=(2, 5)).astype(np.float32)
  softmax = lambda x: np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
  _, grads = run("target_policy", new, old, np.ones_like(old), scores)
  expected = softmax(new[..., 0]) - softmax(old[..., 0] + scores / 2)
  np.testing.assert_allclose(grads[..., 0], expected, rtol=1e-5, atol=1e-6)


def test_target_policy_of_equal_scores():
  # On-policy exactly no gradient, then a pull back to the old policy.
  rng = np.random.default_rng(5)
  old = -rng.exponential(1.0, (3, 7, 9)).astype(np.float32)
  ones, scores = np.ones_like(old), np.full((3, 7), 0.3, np.float32)
  _, grads = run("target_policy", old, old, ones, scores)
  np.testing.assert_array_equal(grads, np.zeros(old.shape))
  moved = old.copy()
  moved[:, 0] += 0.1
  _, grads = run("target_policy", moved, old, ones, scores)
  assert np.all(grads[:, 0] > 0)
  assert np.all(grads[:, 1:] < 0)


@pytest.mark.parametrize("drift", [1e-5, 1e-4, 1e-3, 1e-1])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_target_policy_feels_small_drifts_of_long_completions(drift, scale):
  # Sums of about -1500, which float32 knows to 1e-4.
  rng = np.random.default_rng(6)
  old = rng.exponential(0.5, (2, 8, 3000))
  old *= -1500 / old.sum(axis=2, keepdims=True)
  old = old.astype(np.float32)
  new = (old + drift * rng.normal(size=old.shape)).astype(np.float32)
  scores = (scale * rng.normal(size=(2, 8))).astype(np.float32)

  def softmax(x):
    weights = np.exp(x - x.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)

  _, grads = run("target_policy", new, old, np.ones_like(old), scores)
  p, before = (softmax(x.sum(axis=2, dtype=np.float64)) for x in (new, old))
  tilted = before * np.exp(scores.astype(np.float64) / 2)
  expected = p - tilted / tilted.sum(axis=1, keepdims=True)
  atol = 1e-5 * np.abs(expected).max()
  np.testing.assert_allclose(grads[..., 0], expected, atol=atol)
  np.testing.assert_array_equal(grads, grads[..., :1] * np.ones(old.shape))


def test_target_policy_of_long_completions():
  # Sums of -1000 and -1100: p is one-hot, the loss finite. q_1 - p_1 of
  # exp(-100) is 0 in f32.
  old = np.full((1, 2, 1000), -1.0, np.float32)
  old[0, 1] = -1.1
  scores = np.array([[0.0, 2.0]], np.float32)
  values, grads = run("target_policy", old, old, np.ones_like(old), scores)
  np.testing.assert_allclose(values, [0.0], atol=1e-6)
  np.testing.assert_allclose(grads, np.zeros(old.shape), atol=1e-6)
