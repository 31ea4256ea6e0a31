"""Importance ratios between two policies and the clipped surrogates on them.

Log-probabilities and masks are [P, G, T]. The second policy is a constant:
its gradient is stopped.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

# exp(20) is 4.9e8: far outside any trust region, far inside float32.
_LOG_RATIO_LIMIT = 20.0


def log_ratio(
    logprobs: Float[Array, "P G T"],
    old_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Subtracts log-probabilities: x = log π - log π_old, and 0 where masked.

  The value is clamped to ±20 so that exp(x) stays finite; the gradient passes
  through the clamp unchanged, because a KL penalty must keep pulling where
  the policies are furthest apart. Whatever stands in masked slots (NaN, inf)
  is replaced before the first operation.

  Args:
    logprobs: of the differentiated policy.
    old_logprobs: of the policy to compare with; its gradient is stopped.
    mask: 1.0 on tokens that count.
  """
  live = mask > 0
  new = jnp.where(live, logprobs, 0.0)
  old = jax.lax.stop_gradient(jnp.where(live, old_logprobs, 0.0))
  raw = new - old
  clamped = jnp.clip(raw, -_LOG_RATIO_LIMIT, _LOG_RATIO_LIMIT)
  return raw + jax.lax.stop_gradient(clamped - raw)


def token_ratio(
    logprobs: Float[Array, "P G T"],
    old_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Computes r_t = π(y_t) / π_old(y_t) for each token, and 1 where masked."""
  return jnp.exp(log_ratio(logprobs, old_logprobs, mask))


def sequence_ratio(
    logprobs: Float[Array, "P G T"],
    old_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Computes the geometric mean ratio of a completion, at each of its tokens.

    s_i = exp( (1/L_i) Σ_t (log π - log π_old) )

  Repeated along T, so that it takes the place of `token_ratio`; averaging
  each row with `aggregation.seq_mean` then gives the GSPO objective. A
  completion without tokens has s = 1.

  See "Group Sequence Policy Optimization" by Zheng et al.
  (https://arxiv.org/abs/2507.18071).
  """
  log_ratios = log_ratio(logprobs, old_logprobs, mask)
  live = (mask > 0).astype(log_ratios.dtype)
  lengths = jnp.maximum(jnp.sum(live, axis=2, keepdims=True), 1.0)
  mean = jnp.sum(log_ratios, axis=2, keepdims=True) / lengths
  return jnp.broadcast_to(jnp.exp(mean), log_ratios.shape)


def clipped_surrogate(
    ratio: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    *,
    clip_eps_low: ArrayLike,
    clip_eps_high: ArrayLike,
) -> Float[Array, "P G T"]:
  """Computes the loss of each token, pessimistic outside the trust region.

    ℓ = -min( r A, clip(r, 1 - clip_eps_low, 1 + clip_eps_high) A )

  No gradient where A > 0 and r > 1 + clip_eps_high, nor where A < 0 and
  r < 1 - clip_eps_low.

  See "Proximal Policy Optimization Algorithms" by Schulman et al.
  (https://arxiv.org/abs/1707.06347).

  Args:
    ratio: π / π_old, per token.
    advantages: one per completion [P, G], repeated over its tokens, or one
      per token [P, G, T].
    clip_eps_low: how far below 1 the ratio may go.
    clip_eps_high: how far above 1 the ratio may go.
  """
  adv = _per_token(advantages)
  clipped = jnp.clip(ratio, 1.0 - clip_eps_low, 1.0 + clip_eps_high)
  return -jnp.minimum(ratio * adv, clipped * adv)


def dual_clipped_surrogate(
    ratio: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    *,
    clip_eps_low: ArrayLike,
    clip_eps_high: ArrayLike,
    dual_clip: ArrayLike = 3.0,
) -> Float[Array, "P G T"]:
  """Bounds the clipped surrogate where a bad token became far more likely.

    ℓ' = min( ℓ, -dual_clip A )   where A < 0,   ℓ' = ℓ elsewhere

  with ℓ from `clipped_surrogate`. No gradient where A < 0 and r > dual_clip.

  See "Mastering Complex Control in MOBA Games" by Ye et al.
  (https://arxiv.org/abs/1912.09729).

  Args:
    ratio: π / π_old, per token.
    advantages: [P, G] or [P, G, T], as for `clipped_surrogate`.
    clip_eps_low: how far below 1 the ratio may go.
    clip_eps_high: how far above 1 the ratio may go.
    dual_clip: largest ratio that counts against a bad token, > 1.
  """
  adv = _per_token(advantages)
  loss = clipped_surrogate(
      ratio, adv, clip_eps_low=clip_eps_low, clip_eps_high=clip_eps_high
  )
  return jnp.where(adv < 0, jnp.minimum(loss, -dual_clip * adv), loss)


def clip_fraction_low(
    ratio: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    mask: Float[Array, "P G T"],
    *,
    clip_eps_low: ArrayLike,
) -> Float[Array, ""]:
  """Measures the fraction of tokens whose gradient the lower clip removes.

  Counts A < 0 and r < 1 - clip_eps_low; a ratio outside the interval on the
  side that still has a gradient does not count. 0 if everything is masked.
  """
  binding = (_per_token(advantages) < 0) & (ratio < 1.0 - clip_eps_low)
  return _live_fraction(binding, mask)


def clip_fraction_high(
    ratio: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    mask: Float[Array, "P G T"],
    *,
    clip_eps_high: ArrayLike,
) -> Float[Array, ""]:
  """Measures the fraction of tokens whose gradient the upper clip removes.

  Counts A > 0 and r > 1 + clip_eps_high. 0 if everything is masked.
  """
  binding = (_per_token(advantages) > 0) & (ratio > 1.0 + clip_eps_high)
  return _live_fraction(binding, mask)


def _per_token(
    advantages: Float[Array, "P G"] | Float[Array, "P G T"],
) -> Float[Array, "P G _"]:
  """Adds the token axis to advantages that have none."""
  return advantages if advantages.ndim == 3 else advantages[..., None]


def _live_fraction(
    flags: jax.Array, mask: Float[Array, "P G T"]
) -> Float[Array, ""]:
  """Averages boolean token flags over the unmasked tokens."""
  live = mask > 0
  count = jnp.sum(live, dtype=mask.dtype)
  return jnp.sum(flags & live, dtype=mask.dtype) / jnp.maximum(count, 1.0)
