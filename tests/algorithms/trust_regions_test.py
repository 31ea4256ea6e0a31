import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.algorithms import trust_regions

# Compiles faster, runs slower.
fast_jit = functools.partial(
    jax.jit, compiler_options={"xla_backend_optimization_level": 0}
)
kth_largest = fast_jit(trust_regions.kth_largest)
high_covariance = fast_jit(trust_regions.high_covariance)
covariance = fast_jit(trust_regions.covariance)
token_quota = fast_jit(trust_regions.token_quota)
total_variation = fast_jit(trust_regions.total_variation)
bernoulli_kl = fast_jit(trust_regions.bernoulli_kl)


def close(actual, expected):
  np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=1e-6)


def row(*values):
  """One completion: shape [1, 1, T], float32."""
  return jnp.array([[values]], jnp.float32)


# Columns: A, π_old, π, whether total variation with thresholds .25 below and
# .35 above keeps the token.
MOVES = [
    (1.0, 0.5, 0.8, 1.0),
    (1.0, 0.5, 0.9, 0.0),
    (1.0, 0.5, 0.1, 1.0),
    (-1.0, 0.5, 0.3, 1.0),
    (-1.0, 0.5, 0.2, 0.0),
    (-1.0, 0.5, 0.9, 1.0),
    (0.0, 0.5, 0.2, 0.0),
    (0.0, 0.5, 0.9, 1.0),
    # A hundred times as likely, yet only .1 away.
    (1.0, 0.001, 0.1, 1.0),
]


def test_total_variation():
  adv, old, new, keep = np.array(MOVES, np.float32).T[:, :, None, None]
  kept = total_variation(
      jnp.log(new),
      jnp.log(old),
      jnp.array(adv[..., 0]),
      jnp.ones_like(new),
      threshold_low=0.25,
      threshold_high=0.35,
  )
  np.testing.assert_array_equal(kept, keep)


# KL of (.5, .5) from (.9, .1) is .5 log(1/1.8) + .5 log 5 = .5108; from
# (.7, .3) it is .5 log(1/1.4) + .5 log(1/.6) = .0872.
@pytest.mark.parametrize(
    "adv, new, threshold, keep",
    [
        (1.0, 0.9, 0.5, 0.0),
        (1.0, 0.9, 0.52, 1.0),
        (1.0, 0.7, 0.08, 0.0),
        (1.0, 0.7, 0.09, 1.0),
        (-1.0, 0.1, 0.5, 0.0),
        (0.0, 0.1, 0.5, 0.0),
        # Moved against the push: never stopped.
        (1.0, 0.1, 0.01, 1.0),
        (-1.0, 0.9, 0.01, 1.0),
        # Certain: (1 - q) log of .5 / 1e-8 is 8.86, minus .5 log 2.
        (1.0, 1.0, 8.5, 0.0),
        (1.0, 1.0, 8.6, 1.0),
    ],
)
def test_bernoulli_kl(adv, new, threshold, keep):
  kept = bernoulli_kl(
      jnp.log(row(new)),
      jnp.log(row(0.5)),
      jnp.array([[adv]]),
      row(1.0),
      threshold=threshold,
  )
  assert float(kept[0, 0, 0]) == keep


def test_bernoulli_kl_of_certain_tokens():
  # π_old = 1 - 1e-6 and π = 1/2: q log(q/p) = log 2 = .693.
  for threshold, keep in ((0.69, 0.0), (0.7, 1.0)):
    kept = bernoulli_kl(
        jnp.log(row(0.5)),
        row(-1e-6),
        jnp.array([[-1.0]]),
        row(1.0),
        threshold=threshold,
    )
    assert float(kept[0, 0, 0]) == keep


def tv(logp, old, adv, mask):
  return trust_regions.total_variation(
      logp, old, adv, mask, threshold_low=0.1, threshold_high=0.1
  )


def bernoulli(logp, old, adv, mask):
  return trust_regions.bernoulli_kl(logp, old, adv, mask, threshold=0.1)


@pytest.mark.parametrize("region", [tv, bernoulli])
def test_regions_ignore_junk_and_have_no_gradient(region):
  junk = row(-0.1, jnp.nan, jnp.inf, -3.0)
  old = row(-2.0, -jnp.inf, jnp.nan, -3.0)
  mask = row(1.0, 0.0, 0.0, 1.0)

  def total(logp):
    kept = region(logp, old, jnp.array([[1.0]]), mask)
    return jnp.sum(kept), kept

  (_, kept), grads = fast_jit(jax.value_and_grad(total, has_aux=True))(junk)
  np.testing.assert_array_equal(kept, row(0.0, 0.0, 0.0, 1.0))
  np.testing.assert_array_equal(grads, jnp.zeros_like(junk))


@pytest.mark.parametrize("region", [tv, bernoulli])
@pytest.mark.parametrize("new, old", [(-200.0, 0.0), (0.0, -200.0)])
def test_regions_stop_impossible_moves(region, new, old):
  adv = jnp.array([[1.0 if new > old else -1.0]])
  kept = region(row(new), row(old), adv, row(1.0))
  assert float(kept[0, 0, 0]) == 0.0


def test_covariance():
  # Live: A = 1, 1, -1 (mean 1/3), log π = -1, -2, -6 (mean -3). Centred:
  # 2/3, 2/3, -4/3 and 2, 1, -3.
  cov = covariance(
      jnp.array([[[-1.0, -2.0], [-6.0, jnp.nan]]]),
      jnp.array([[1.0, -1.0]]),
      jnp.array([[[1.0, 1.0], [1.0, 0.0]]]),
  )
  close(cov, [[[4 / 3, 2 / 3], [4.0, 0.0]]])


def test_covariance_takes_advantages_per_token():
  # A = 2, 0 (mean 1), log π = -1, -3 (mean -2).
  cov = covariance(row(-1.0, -3.0, jnp.nan), row(2, 0, jnp.inf), row(1, 1, 0))
  close(cov, [[[1.0, 1.0, 0.0]]])


def test_covariance_without_signal_or_tokens_is_zero():
  logp = row(-1.0, -2.0)
  for adv, mask in ((0.0, 1.0), (3.0, 0.0)):
    cov = covariance(logp, jnp.array([[adv]]), jnp.full_like(logp, mask))
    np.testing.assert_array_equal(cov, jnp.zeros_like(logp))


def test_covariance_is_a_constant():
  def total(logp, adv):
    cov = trust_regions.covariance(logp, adv, jnp.ones_like(logp))
    return jnp.sum(cov**2)

  logp = jnp.array([[[-1.0], [-2.0]]])
  gradient = fast_jit(jax.grad(total, argnums=(0, 1)))
  for grads in gradient(logp, jnp.array([[1.0, 0.0]])):
    np.testing.assert_array_equal(grads, jnp.zeros_like(grads))


def test_covariance_band_is_open():
  band = trust_regions.covariance_band(
      row(0.9, 1.0, 1.1, 4.9, 5.0, 3.0, jnp.nan),
      row(1, 1, 1, 1, 1, 0, 0),
      low=1.0,
      high=5.0,
  )
  np.testing.assert_array_equal(band, row(0, 0, 1, 1, 0, 0, 0))


@pytest.mark.parametrize(
    "live, fraction, quota",
    [
        (8, 0.25, 2.0),
        (7, 0.5, 3.0),
        (8, 0.01, 1.0),
        (8, 0.0, 0.0),
        (8, 1.0, 8.0),
        (8, 2.0, 8.0),
        (0, 0.5, 0.0),
    ],
)
def test_token_quota(live, fraction, quota):
  mask = (jnp.arange(10) < live).astype(jnp.float32).reshape(1, 2, 5)
  assert float(token_quota(mask, fraction=fraction)) == quota


VALUES = np.array([3.0, -1.5, 0.0, 2.0, -np.inf, 2.0, -1e-40, 1e30, -7.0, 0.5])


@pytest.mark.parametrize("count", range(1, 11))
def test_kth_largest_of_everything(count):
  values = jnp.array(VALUES, jnp.float32).reshape(1, 5, 2)
  found = kth_largest(values, jnp.ones_like(values), float(count))
  expected = np.sort(VALUES.astype(np.float32))[-count]
  # Bit for bit: subnormal numbers, which XLA may flush, keep their place.
  assert np.asarray(found).tobytes() == expected.tobytes()


def test_kth_largest_agrees_with_sorting():
  rng = np.random.default_rng(0)
  values = rng.normal(0, 1, (3, 5, 41)) * 10.0 ** rng.integers(-20, 20, 41)
  values = values.astype(np.float32)
  mask = rng.uniform(size=values.shape) < 0.7
  ordered = np.sort(values[mask])[::-1]
  junk = jnp.array(np.where(mask, values, np.nan))
  for count in (1, 2, 17, 200, len(ordered)):
    found = kth_largest(junk, jnp.array(mask, jnp.float32), float(count))
    assert float(found) == ordered[count - 1]


def test_kth_largest_at_the_limits():
  values = row(4.0, jnp.inf, 2.0, jnp.nan)
  mask = row(1.0, 0.0, 1.0, 0.0)
  for count, expected in (
      (0.0, np.inf),
      (-1.0, np.inf),
      (0.5, 4.0),
      (1.0, 4.0),
      (1.5, 2.0),
      (2.0, 2.0),
      (3.0, -np.inf),
  ):
    assert float(kth_largest(values, mask, count)) == expected
  empty = jnp.zeros_like(mask)
  assert float(kth_largest(values, empty, 1.0)) == -np.inf


def test_kth_largest_is_a_constant():
  values = row(4.0, 1.0, 2.0)
  gradient = fast_jit(jax.grad(trust_regions.kth_largest))
  grads = gradient(values, jnp.ones_like(values), 2.0)
  np.testing.assert_array_equal(grads, jnp.zeros_like(values))


def test_high_covariance_selects_the_largest():
  # Six live tokens: floor(.4 * 6) = 2.
  cov = row(1.0, 9.0, -3.0, 5.0, 2.0, 0.0, 99.0, jnp.nan)
  mask = row(1, 1, 1, 1, 1, 1, 0, 0)
  selected = high_covariance(cov, mask, fraction=0.4)
  np.testing.assert_array_equal(selected, row(0, 1, 0, 1, 0, 0, 0, 0))
  # At least one.
  selected = high_covariance(cov, mask, fraction=1e-6)
  np.testing.assert_array_equal(selected, row(0, 1, 0, 0, 0, 0, 0, 0))
  selected = high_covariance(cov, mask, fraction=0.0)
  np.testing.assert_array_equal(selected, jnp.zeros_like(mask))
  selected = high_covariance(cov, jnp.zeros_like(mask), fraction=0.4)
  np.testing.assert_array_equal(selected, jnp.zeros_like(mask))


def test_high_covariance_shares_between_ties():
  # k = 2: one place for the largest, one for the three that tie.
  cov = row(3.0, 7.0, 3.0, 3.0, 1.0)
  selected = high_covariance(cov, jnp.ones_like(cov), fraction=0.4)
  close(selected, [[[1 / 3, 1.0, 1 / 3, 1 / 3, 0.0]]])


def test_works_for_sizes_that_are_not_known():
  p, g, t = jax.export.symbolic_shape("P, G, T")
  spec = jax.ShapeDtypeStruct((p, g, t), jnp.float32)
  exported = jax.export.export(
      jax.jit(functools.partial(trust_regions.high_covariance, fraction=0.5))
  )(spec, spec)
  cov = jnp.arange(6.0).reshape(1, 2, 3)
  selected = exported.call(cov, jnp.ones_like(cov))
  np.testing.assert_array_equal(selected, [[[0, 0, 0], [1, 1, 1]]])
