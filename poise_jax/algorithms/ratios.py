"""Importance ratios between two policies, of tokens and of completions.

Log-probabilities and masks are [P, G, T]. The second policy is a constant:
its gradient is stopped.
"""

import jax
import jax.numpy as jnp

from poise_jax.shapes import Array, Float

# exp(20) is 4.9e8: far outside any trust region, far inside float32.
LOG_RATIO_LIMIT = 20.0


def log_ratio(
    logprobs: Float[Array, "P G T"],
    old_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Subtracts log-probabilities: x = log π - log π_old, and 0 where masked.

  The value is clamped to ±20 so that exp(x) stays finite; the gradient passes
  through the clamp unchanged, because a KL penalty must keep pulling where
  the policies are furthest apart. Whatever stands in masked slots (NaN, inf)
  is replaced before the first operation. Infinity on a live token is not
  supported: there the result is NaN.

  Args:
    logprobs: of the differentiated policy.
    old_logprobs: of the policy to compare with; its gradient is stopped.
    mask: 1.0 on tokens that count.
  """
  live = mask > 0
  new = jnp.where(live, logprobs, 0.0)
  old = jax.lax.stop_gradient(jnp.where(live, old_logprobs, 0.0))
  return _clamped(new - old)


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
  each row with `aggregation.seq_mean` then gives the GSPO objective. The mean
  of clamped log-ratios is within ±20, so s is finite. A completion without
  tokens has s = 1.

  See "Group Sequence Policy Optimization" by Zheng et al.
  (https://arxiv.org/abs/2507.18071).
  """
  log_ratios = log_ratio(logprobs, old_logprobs, mask)
  live = (mask > 0).astype(log_ratios.dtype)
  lengths = jnp.maximum(jnp.sum(live, axis=2, keepdims=True), 1.0)
  mean = jnp.sum(log_ratios, axis=2, keepdims=True) / lengths
  return jnp.broadcast_to(jnp.exp(mean), log_ratios.shape)


def gspo_token_ratio(
    logprobs: Float[Array, "P G T"],
    old_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Gives each token the ratio of its completion and a gradient of its own.

    s_{i,t} = stop_gradient(s_i) π(y_t) / stop_gradient(π(y_t))

  The value is s_i of `sequence_ratio`; the gradient with respect to log π is
  s_i at the same token and 0 at the others. With one advantage for a
  completion, `aggregation.seq_mean` of the clipped surrogate has the gradient
  of GSPO; with an advantage for each token it weighs them apart.

  See GSPO-token in "Group Sequence Policy Optimization" by Zheng et al.
  (https://arxiv.org/abs/2507.18071).
  """
  ratio = sequence_ratio(logprobs, old_logprobs, mask)
  new = jnp.where(mask > 0, logprobs, 0.0)
  unit = jnp.exp(new - jax.lax.stop_gradient(new))
  return jax.lax.stop_gradient(ratio) * unit


def sequence_log_ratio(
    logprobs: Float[Array, "P G T"],
    old_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G"]:
  """Sums the log-ratios of a completion: S_i = Σ_t (log π - log π_old).

  In nats; each token is clamped as in `log_ratio`, the sum is not. It grows
  with the length. A completion without tokens has S = 0.
  """
  return jnp.sum(log_ratio(logprobs, old_logprobs, mask), axis=2)


def sequence_product_ratio(
    logprobs: Float[Array, "P G T"],
    old_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Computes the ratio of whole completions, at each of their tokens.

    R_i = Π_t π(y_t) / π_old(y_t) = exp(S_i)

  The exact importance weight of a completion, repeated along T like
  `sequence_ratio`. S is clamped to ±20 with the gradient passed through. A
  drift of .01 a token over 1000 tokens is already exp(10): expect a trust
  region to clip almost every long completion. One without tokens has R = 1.
  """
  total = sequence_log_ratio(logprobs, old_logprobs, mask)
  ratio = jnp.exp(_clamped(total))
  return jnp.broadcast_to(ratio[..., None], mask.shape)


def _clamped(x: Float[Array, "*N"]) -> Float[Array, "*N"]:
  """Clamps the value to ±20 and leaves the gradient alone."""
  clamped = jnp.clip(x, -LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
  # The zero carries the gradient; x + (clamped - x) would be 0 at x = 1e9.
  zero = x - jax.lax.stop_gradient(x)
  return jax.lax.stop_gradient(clamped) + zero
