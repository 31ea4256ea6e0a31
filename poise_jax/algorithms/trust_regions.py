"""Trust regions other than a clipped ratio: which tokens may still move.

Log-probabilities and masks are [P, G, T], advantages [P, G], repeated over the
tokens, or [P, G, T]. Selections are float masks over tokens, 0 where masked;
they are constants: no gradient passes through them. Covariance statistics are
of all live tokens of the batch that is passed, which should be a whole one.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from poise_jax.algorithms import aggregation, ratios, surrogates
from poise_jax.shapes import Array, Float

# Keeps log(1 - π) finite where π = 1; the value that the peers use.
_GUARD = 1e-8
# Below every float in the integer order of `_ordered`.
_LOWEST = -(2**31)


def total_variation(
    logprobs: Float[Array, "P G T"],
    old_logprobs: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    mask: Float[Array, "P G T"],
    *,
    threshold_low: ArrayLike,
    threshold_high: ArrayLike,
) -> Float[Array, "P G T"]:
  """Keeps tokens whose probability has not yet moved too far their way.

    M = 0  where A > 0  and π - π_old > threshold_high
    M = 0  where A <= 0 and π_old - π > threshold_low
    M = 1  elsewhere

  |π - π_old| is the total variation between the two policies if all other
  tokens count as one. A ratio is stricter with rare tokens and laxer with
  frequent ones than this. Moves back towards π_old are always kept.

  See "DPPO" (https://arxiv.org/abs/2602.04879).

  Args:
    logprobs: log π, in nats.
    old_logprobs: log π_old, in nats.
    advantages: [P, G] or [P, G, T]; only the sign matters.
    mask: 1.0 on tokens that count.
    threshold_low: how much probability a bad token may lose.
    threshold_high: how much probability a good token may gain.
  """
  live = mask > 0
  probability = jnp.exp(_constant(logprobs, live))
  moved = probability - jnp.exp(_constant(old_logprobs, live))
  good = surrogates.per_token(advantages) > 0
  left = jnp.where(good, moved > threshold_high, -moved > threshold_low)
  return (live & ~left).astype(mask.dtype)


def bernoulli_kl(
    logprobs: Float[Array, "P G T"],
    old_logprobs: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    mask: Float[Array, "P G T"],
    *,
    threshold: ArrayLike,
) -> Float[Array, "P G T"]:
  """Keeps tokens whose probability is still close by, measured as a KL.

    D = q (log q - log p) + (1 - q) log( (1 - q + 1e-8) / (1 - p + 1e-8) )
    M = 0  where D > threshold and p has moved the way that A pushes it:
           p > q for A > 0, p < q for A <= 0;  M = 1 elsewhere

  with p = π, q = π_old, D in nats: the divergence between the two policies if
  all other tokens count as one. log q - log p is clamped as in
  `ratios.log_ratio`.

  See "DPPO" (https://arxiv.org/abs/2602.04879).

  Args:
    logprobs: log π, in nats.
    old_logprobs: log π_old, in nats.
    advantages: [P, G] or [P, G, T]; only the sign matters.
    mask: 1.0 on tokens that count.
    threshold: largest divergence, in nats, that may still grow.
  """
  live = mask > 0
  log_ratio = ratios.log_ratio(logprobs, old_logprobs, mask)
  log_p, log_q = _constant(logprobs, live), _constant(old_logprobs, live)
  # 1 - exp(x), without the cancellation near x = 0.
  rest_p, rest_q = -jnp.expm1(log_p), -jnp.expm1(log_q)
  divergence = -jnp.exp(log_q) * log_ratio + rest_q * jnp.log(
      (rest_q + _GUARD) / (rest_p + _GUARD)
  )
  good = surrogates.per_token(advantages) > 0
  away = jnp.where(good, log_ratio > 0, log_ratio < 0)
  left = away & (divergence > threshold)
  return (live & ~left).astype(mask.dtype)


def covariance(
    logprobs: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Computes the share of each token in the covariance of A and log π.

    c_t = (A_t - mean A) (log π_t - mean log π)   means over live tokens

  Large where a likely token was good or an unlikely one bad: the updates that
  cost most entropy. 0 where masked.

  See "The Entropy Mechanism of Reinforcement Learning for Reasoning Language
  Models" by Cui et al. (https://arxiv.org/abs/2505.22617).
  """
  live = mask > 0
  logp = jax.lax.stop_gradient(jnp.where(live, logprobs, 0.0))
  adv = jnp.where(live, surrogates.per_token(advantages), 0.0)
  mean = aggregation.token_mean
  product = (adv - mean(adv, mask)) * (logp - mean(logp, mask))
  return jnp.where(live, product, 0.0)


def covariance_band(
    cov: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    *,
    low: ArrayLike,
    high: ArrayLike,
) -> Float[Array, "P G T"]:
  """Selects the live tokens with low < covariance < high.

  See Clip-Cov in "The Entropy Mechanism of Reinforcement Learning for
  Reasoning Language Models" (https://arxiv.org/abs/2505.22617).
  """
  return ((mask > 0) & (cov > low) & (cov < high)).astype(mask.dtype)


def high_covariance(
    cov: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    *,
    fraction: ArrayLike,
) -> Float[Array, "P G T"]:
  """Selects the k live tokens of largest covariance, k from `token_quota`.

  Exact. Weights sum to k: 1 above the k-th largest value, 0 below it, and
  where several tokens have that very value they share what is left equally,
  which is the mean over all ways to choose among them.

  See KL-Cov in "The Entropy Mechanism of Reinforcement Learning for
  Reasoning Language Models" (https://arxiv.org/abs/2505.22617).

  Args:
    cov: from `covariance`; not NaN on live tokens.
    mask: 1.0 on tokens that count.
    fraction: of the live tokens, in [0, 1].
  """
  quota = token_quota(mask, fraction=fraction)
  threshold = kth_largest(cov, mask, quota)
  above = (mask > 0) & (cov > threshold)
  tied = (mask > 0) & (cov == threshold)
  share = (quota - _count(above)) / jnp.maximum(_count(tied), 1.0)
  return jnp.where(above, 1.0, jnp.where(tied, share, 0.0))


def token_quota(
    mask: Float[Array, "P G T"], *, fraction: ArrayLike
) -> Float[Array, ""]:
  """Counts how many tokens a fraction of the batch is.

    k = max(1, floor(fraction n))   n live tokens, product in float32

  The rule of verl, so that a small batch selects one token. No more than n;
  0 where fraction <= 0 or nothing is live.
  """
  live = _count(mask > 0)
  quota = jnp.clip(jnp.floor(fraction * live), 1.0, jnp.maximum(live, 1.0))
  return jnp.where((live > 0) & (jnp.asarray(fraction) > 0), quota, 0.0)


def kth_largest(
    values: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    count: ArrayLike,
) -> Float[Array, ""]:
  """Finds the `count`-th largest live value, exactly, without sorting.

  The largest x with #{values >= x} >= count, by bisection over the bits of
  float32: 32 passes, no matter what the values are. Equal values count as
  often as they occur. count <= 0 gives inf, above which there is nothing;
  more than there are live values gives -inf. Live values must not be NaN.

  Args:
    values: any statistic of tokens.
    mask: 1.0 on tokens that count.
    count: rank from the top, 1 for the maximum; a fraction is rounded up.
  """
  values = jax.lax.stop_gradient(jnp.where(mask > 0, values, 0.0))
  keys = jnp.where(mask > 0, _ordered(values), _LOWEST)

  def bisect(step: jax.Array, found: jax.Array) -> jax.Array:
    candidate = found + (jnp.int32(1) << (31 - step))  # wraps to 0 at first
    return jnp.where(_count(keys >= candidate) >= count, candidate, found)

  found = jax.lax.fori_loop(0, 32, bisect, jnp.int32(_LOWEST))
  flipped = jnp.where(found < 0, found ^ 0x7FFFFFFF, found)
  value = jax.lax.bitcast_convert_type(flipped, jnp.float32)
  value = jnp.where(found == _LOWEST, -jnp.inf, value)
  return jnp.where(jnp.asarray(count) > 0, value, jnp.inf)


def _ordered(values: Float[Array, "P G T"]) -> jax.Array:
  """Maps float32 to int32 so that the order is the same."""
  bits = jax.lax.bitcast_convert_type(values, jnp.int32)
  return jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def _count(flags: jax.Array) -> Float[Array, ""]:
  """Counts true flags, one axis at a time."""
  # XLA merges the sums without the barriers, and then uses one core: 6x slower.
  total = jax.lax.optimization_barrier(jnp.sum(flags, axis=1, dtype=jnp.int32))
  total = jax.lax.optimization_barrier(jnp.sum(total, axis=1))
  return jnp.sum(total).astype(jnp.float32)


def _constant(
    logprobs: Float[Array, "P G T"], live: jax.Array
) -> Float[Array, "P G T"]:
  """Stops the gradient of log-probabilities; at most 0, and 0 where masked."""
  selected = jnp.where(live, logprobs, 0.0)
  return jnp.minimum(jax.lax.stop_gradient(selected), 0.0)
