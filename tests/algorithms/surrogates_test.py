import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import surrogates

# Compiles faster, runs slower.
fast_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)
# One group of two completions, of three and one tokens.
MASK = jnp.array([[[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]])
RATIO = jnp.array([[[0.5, 1.0, 1.5], [0.5, 1.0, 1.0]]])


def close(actual, expected, atol=2e-6):
  np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=atol)


def value_and_slope(function, x):
  def both(x):
    values, pullback = jax.vjp(function, x)
    return values, pullback(jnp.ones_like(values))[0]

  return fast_jit(both)(x)


def test_clipped():
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
    return surrogates.clipped(
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
    close(surrogates.clipped(RATIO, given, **eps), expected)


def test_dual_clipped():
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
    return surrogates.dual_clipped(
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
  close(surrogates.clip_fraction_low(ratio, adv, MASK, clip_eps_low=0.2), low)
  ratio = jnp.where(MASK > 0, RATIO, 9.0)
  close(
      surrogates.clip_fraction_high(ratio, adv, MASK, clip_eps_high=0.2), high
  )


def test_clip_fraction_dual_counts_bad_tokens_beyond_the_bound():
  # Live ratios: 5, 4, 3 in the first completion, 5 in the second.
  ratio = jnp.array([[[5.0, 4.0, 3.0], [5.0, 9.0, 9.0]]])
  for adv, expected in (
      ([[-1.0, -1.0]], 0.5),
      ([[-1.0, 1.0]], 0.25),
      ([[1.0, 0.0]], 0.0),
  ):
    found = surrogates.clip_fraction_dual(
        ratio, jnp.array(adv), MASK, bound=4.0
    )
    close(found, expected)


def test_clip_fractions_of_nothing_are_zero():
  empty = jnp.zeros_like(MASK)
  adv = jnp.array([[1.0, -1.0]])
  dual = surrogates.clip_fraction_dual(RATIO, adv, empty, bound=0.1)
  assert float(dual) == 0.0
  low = surrogates.clip_fraction_low(RATIO, adv, empty, clip_eps_low=0.2)
  high = surrogates.clip_fraction_high(RATIO, adv, empty, clip_eps_high=0.2)
  assert float(low) == 0.0
  assert float(high) == 0.0


def test_clip_metrics_gathers_the_fractions():
  found = surrogates.clip_metrics(
      RATIO,
      jnp.array([[-1.0, 3.0]]),
      MASK,
      clip_eps_low=0.2,
      clip_eps_high=0.2,
  )
  assert set(found) == {
      "advantages/mean_abs",
      "clip_ratio/low_mean",
      "clip_ratio/high_mean",
  }
  close(found["advantages/mean_abs"], 2.0)
  close(found["clip_ratio/low_mean"], 0.25)
  close(found["clip_ratio/high_mean"], 0.0)


# The slopes in log π of every surrogate at r = .5, 1, 1.5, then at r = 5 and
# r = .1, where the bounds below bind: delta 4, ratio_cap 3, dual_clip 3.
RATIOS = [0.5, 1.0, 1.5, 5.0, 0.1]
EPS = {"clip_eps_low": 0.2, "clip_eps_high": 0.3}


def _fade(tau):
  # -4 r σ(1 - σ), σ = 1 / (1 + exp(-tau (r - 1))).
  sigma = 1 / (1 + np.exp(-tau * (np.array(RATIOS) - 1)))
  return list(-4 * np.array(RATIOS) * sigma * (1 - sigma))


SLOPES = {
    "clipped": (
        lambda lp, ratio, adv, mask: surrogates.clipped(ratio, adv, **EPS),
        [-0.5, -1.0, 0.0, 0.0, -0.1],
        [0.0, 1.0, 1.5, 5.0, 0.0],
    ),
    "dual_clipped": (
        lambda lp, ratio, adv, mask: surrogates.dual_clipped(
            ratio, adv, dual_clip=4.0, **EPS
        ),
        [-0.5, -1.0, 0.0, 0.0, -0.1],
        [0.0, 1.0, 1.5, 0.0, 0.0],
    ),
    "two_sided": (
        lambda lp, ratio, adv, mask: surrogates.two_sided(
            ratio, adv, delta=4.0, **EPS
        ),
        [-0.5, -1.0, 0.0, 0.0, -0.1],
        [0.0, 1.0, 1.5, 0.0, 0.0],
    ),
    "policy_gradient": (
        lambda lp, ratio, adv, mask: surrogates.policy_gradient(lp, adv, mask),
        [-1.0] * 5,
        [1.0] * 5,
    ),
    "cispo": (
        lambda lp, ratio, adv, mask: surrogates.cispo(
            lp, ratio, adv, mask, ratio_cap=3.0, ratio_floor=0.2
        ),
        [-0.5, -1.0, -1.5, -3.0, -0.2],
        [0.5, 1.0, 1.5, 3.0, 0.2],
    ),
    "soft_gate": (
        lambda lp, ratio, adv, mask: surrogates.soft_gate(
            ratio, adv, tau_positive=1.0, tau_negative=2.0
        ),
        _fade(1.0),
        [-slope for slope in _fade(2.0)],
    ),
    "aspo": (
        lambda lp, ratio, adv, mask: surrogates.aspo(
            lp, ratio, adv, mask, dual_clip=3.0, **EPS
        ),
        # 1/r below 1.3; 1/.1 is cut to 3.
        [-2.0, -1.0, 0.0, 0.0, -3.0],
        [0.0, 1.0, 1.5, 3.0, 0.0],
    ),
}


@pytest.mark.parametrize("name", SLOPES)
def test_slopes(name):
  function, good, bad = SLOPES[name]
  # The first group is good, the second bad by 2; the last slot is junk.
  logp = jnp.log(jnp.array(RATIOS + [jnp.nan])) - 1.0
  mask = jnp.broadcast_to(jnp.array([1.0] * 5 + [0.0]), (2, 1, 6))
  adv = jnp.array([[1.0], [-2.0]])

  def loss(logp):
    ratio = jnp.exp(jnp.where(mask > 0, logp + 1.0, 0.0))
    return jnp.where(mask > 0, function(logp, ratio, adv, mask), 0.0)

  losses, slopes = value_and_slope(loss, jnp.broadcast_to(logp, (2, 1, 6)))
  assert np.all(np.isfinite(losses))
  np.testing.assert_allclose(
      slopes[:, 0],
      np.array([good + [0.0], bad + [0.0]]) * [[1.0], [2.0]],
      rtol=2e-6,
      atol=1e-6,
  )


@pytest.mark.parametrize("name", SLOPES)
def test_unit_slope_on_policy(name):
  function = SLOPES[name][0]
  logp = jnp.full((1, 2, 1), -0.7)
  mask = jnp.ones_like(logp)

  def loss(logp):
    return function(logp, jnp.exp(logp + 0.7), jnp.array([[1.0, -1.0]]), mask)

  _, slopes = value_and_slope(loss, logp)
  np.testing.assert_array_equal(slopes[0, :, 0], [-1.0, 1.0])


def test_two_sided_values():
  # A = -2 at r = 5: -min(4, 5) A = 8, not 10.
  losses = surrogates.two_sided(
      jnp.array([[[0.5, 1.5, 5.0]], [[0.5, 1.5, 5.0]]]),
      jnp.array([[1.0], [-2.0]]),
      delta=4.0,
      **EPS,
  )
  close(losses, [[[-0.5, -1.3, -1.3]], [[1.6, 3.0, 8.0]]])


def test_two_sided_is_dual_clipped():
  ratio = jnp.array([[[0.1, 0.9, 1.1, 2.0, 3.9, 4.1, 50.0]]] * 2)
  adv = jnp.array([[1.5], [-0.5]])
  close(
      surrogates.two_sided(ratio, adv, delta=4.0, **EPS),
      surrogates.dual_clipped(ratio, adv, dual_clip=4.0, **EPS),
  )


def test_policy_gradient_and_cispo_select_before_they_multiply():
  junk = jnp.array([[[jnp.nan, -jnp.inf, -2.0]]])
  mask = jnp.array([[[0.0, 0.0, 1.0]]])
  per_token = jnp.array([[[jnp.inf, jnp.nan, 3.0]]])

  def plain(logp):
    return surrogates.policy_gradient(logp, per_token, mask)

  def weighted(logp):
    return surrogates.cispo(
        logp, jnp.full_like(logp, 9.0), per_token, mask, ratio_cap=5.0
    )

  # 3 * 2, and five times that.
  for function, factor in ((plain, 1.0), (weighted, 5.0)):
    losses, slopes = value_and_slope(function, junk)
    close(losses, [[[0.0, 0.0, 6.0 * factor]]])
    close(slopes, [[[0.0, 0.0, -3.0 * factor]]])


@pytest.mark.parametrize("name", SLOPES)
def test_advantages_are_constants(name):
  logp = jnp.log(jnp.array([[RATIOS, RATIOS]])) - 1.0

  def loss(adv):
    mask = jnp.ones_like(logp)
    return jnp.sum(SLOPES[name][0](logp, jnp.exp(logp + 1.0), adv, mask))

  for adv in (jnp.array([[2.0, -1.0]]), logp):
    slopes = fast_jit(jax.grad(loss))(adv)
    np.testing.assert_array_equal(slopes, np.zeros(adv.shape))


def test_soft_gate_values():
  # τ = 1: 4 σ(0) = 2. τ = 2 and A = -3: σ(log 3) = 3/4, so (4/2) 3 (3/4), at
  # r = 1 + log(3)/2.
  losses = surrogates.soft_gate(
      jnp.array([[[1.0]], [[1.0 + np.log(3.0) / 2]]], jnp.float32),
      jnp.array([[1.0], [-3.0]]),
      tau_positive=1.0,
      tau_negative=2.0,
  )
  close(losses, [[[-2.0]], [[4.5]]])


def test_aspo_values():
  # Good: 1/.5; 1/1; 1.3/1.3²; then 3 log π. Bad: .8 (clipped), 1.5, 3 log π.
  ratio = jnp.array([[[0.5, 1.0, 1.5, 0.1]], [[0.5, 1.0, 1.5, 5.0]]])
  losses = surrogates.aspo(
      jnp.full_like(ratio, -0.5),
      ratio,
      jnp.array([[1.0], [-2.0]]),
      jnp.ones_like(ratio),
      dual_clip=3.0,
      **EPS,
  )
  close(losses, [[[-2.0, -1.0, -1 / 1.3, 1.5]], [[1.6, 2.0, 3.0, -3.0]]])


def test_aspo_stays_finite_at_extreme_ratios():
  ratio = jnp.exp(jnp.array([[[-20.0, 20.0]]] * 2))
  adv = jnp.array([[1.0], [-1.0]])
  mask = jnp.ones_like(ratio)

  def loss(logp):
    return surrogates.aspo(
        logp, ratio * jnp.exp(logp), adv, mask, dual_clip=3.0, **EPS
    )

  losses, slopes = value_and_slope(loss, jnp.zeros_like(ratio))
  assert np.all(np.isfinite(losses))
  close(slopes, [[[-3.0, 0.0]], [[0.0, 3.0]]])
