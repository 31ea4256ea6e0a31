"""Losses of whole completions and groups, where tokens are not independent.

Log-probabilities and masks are [P, G, T]; what stands in masked slots is
ignored. The policy before the update, advantages, rewards and scores are
constants. A result of shape [P, G, T] goes to `aggregation`, one of [P, G] to
`completion_mean`, one of [P] to `prompt_mean`. A completion without tokens
counts nowhere. "Gradient" means with respect to log π.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from poise_jax.algorithms import aggregation, ratios
from poise_jax.shapes import Array, Float

# Stands for -inf in a softmax and for "no candidate" in a minimum; finite, so
# that no 0 * inf arises.
_HUGE = 1e30


def completion_mean(
    values: Float[Array, "P G"], mask: Float[Array, "P G T"]
) -> Float[Array, ""]:
  """Averages over the completions that have tokens: (1/N) Σ_i ℓ_i.

  The values of completions without tokens are left out, whatever they are
  (NaN, inf). A batch without tokens gives 0.
  """
  live = _has_tokens(mask)[..., None]
  return aggregation.token_mean(values[..., None], live.astype(mask.dtype))


def prompt_mean(
    values: Float[Array, "P"], mask: Float[Array, "P G T"]
) -> Float[Array, ""]:
  """Averages over the prompts that have tokens: (1/P) Σ_g ℓ_g.

  A prompt counts as soon as one completion of its group has a token. A batch
  without tokens gives 0.
  """
  live = jnp.any(mask > 0, axis=(1, 2), keepdims=True)
  return aggregation.token_mean(values[:, None, None], live.astype(mask.dtype))


def geometric_clipped(
    logprobs: Float[Array, "P G T"],
    old_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    advantages: Float[Array, "P G"],
    *,
    clip_eps_low: ArrayLike,
    clip_eps_high: ArrayLike,
) -> Float[Array, "P G"]:
  """Averages clipped log-ratios, then exponentiates: a loss per completion.

    z_t = min(x_t, clip_eps_high)  where A > 0,  x_t = log π - log π_old
    z_t = max(x_t, -clip_eps_low)  where A < 0
    ℓ_i = -A_i exp( (1/L_i) Σ_t z_t )

  Each token is clipped, in log space, on the side where it would overshoot;
  the geometric mean is then less moved by one outlier than the mean of
  ratios. Clipped tokens have no gradient, each other has ℓ_i / L_i. Returns
  [P, G], for `completion_mean`.

  See "Geometric-Mean Policy Optimization" by Zhao et al.
  (https://arxiv.org/abs/2507.20673).

  Args:
    logprobs: of the differentiated policy.
    old_logprobs: of the policy before the update.
    mask: 1.0 on tokens that count.
    advantages: one per completion.
    clip_eps_low: how far below 0 the log-ratio of a token may go.
    clip_eps_high: how far above 0 the log-ratio of a token may go.
  """
  adv = jax.lax.stop_gradient(advantages)
  x = ratios.log_ratio(logprobs, old_logprobs, mask)
  z = jnp.where(
      adv[..., None] > 0,
      jnp.minimum(x, clip_eps_high),
      jnp.maximum(x, -clip_eps_low),
  )
  live = mask > 0
  lengths = jnp.maximum(jnp.sum(live, axis=2, dtype=mask.dtype), 1.0)
  mean = jnp.sum(jnp.where(live, z, 0.0), axis=2) / lengths
  return -adv * jnp.exp(mean)


def vespo(
    logprobs: Float[Array, "P G T"],
    old_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    advantages: Float[Array, "P G"],
    *,
    k_pos: ArrayLike,
    lambda_pos: ArrayLike,
    k_neg: ArrayLike,
    lambda_neg: ArrayLike,
) -> Float[Array, "P G T"]:
  """Weighs each completion by a smooth function of its whole ratio W.

    W_i = exp(S_i),   φ_i = W_i^k exp(λ (1 - W_i))
    ℓ_t = -stop_gradient(φ_i) A_i log π(y_t)

  (k, λ) are (k_pos, lambda_pos) where A ≥ 0, (k_neg, lambda_neg) elsewhere.
  φ(1) = 1; it peaks at W = k/λ and vanishes at both ends, so no clip is
  needed. S is clamped to ±20, and φ to exp(20). The gradient is -φ A at each
  token. Returns [P, G, T], for `aggregation.token_mean`.

  See "VESPO" by Shen et al. (https://arxiv.org/abs/2602.10693).

  Args:
    logprobs: of the differentiated policy.
    old_logprobs: of the policy to compare with; that of the sampler makes W
      include the mismatch between sampler and trainer.
    mask: 1.0 on tokens that count.
    advantages: one per completion.
    k_pos: how fast the weight of a good completion falls towards W = 0, ≥ 0.
    lambda_pos: how fast it falls towards large W, > 0.
    k_neg: the same for bad completions, ≥ 0.
    lambda_neg: the same for bad completions, > 0.
  """
  adv = jax.lax.stop_gradient(advantages)
  total = ratios.sequence_log_ratio(logprobs, old_logprobs, mask)
  limit = ratios.LOG_RATIO_LIMIT
  total = jnp.clip(total, -limit, limit)
  k = jnp.where(adv >= 0, k_pos, k_neg)
  rate = jnp.where(adv >= 0, lambda_pos, lambda_neg)
  exponent = k * total - rate * jnp.expm1(total)
  weight = jnp.exp(jnp.minimum(exponent, limit))
  weight = jax.lax.stop_gradient(weight * adv)
  return -weight[..., None] * jnp.where(mask > 0, logprobs, 0.0)


def gvpo(
    logprobs: Float[Array, "P G T"],
    old_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    rewards: Float[Array, "P G"],
    *,
    beta: ArrayLike,
) -> Float[Array, "P"]:
  """Regresses centred log-ratios of a group on its centred rewards.

    d_i = beta (S_i - mean_j S_j) - (r_i - mean_j r_j)
    ℓ_g = 1/(2 (G - 1)) Σ_i d_i²,   S_i = Σ_t (log π - log π_old)

  The gradient is beta d_i / (G - 1) at each token of completion i: that of
  -beta Cov(S, r) + beta²/2 Var(S), sample moments over the group. The minimum
  is the policy that maximises reward minus beta KL(π || π_old), as far as the
  group shows it. Sums, means and G are over the completions that have
  tokens; fewer than two give 0. Returns [P], for `prompt_mean`.

  See "Group Variance Policy Optimization" by Zhang et al.
  (https://arxiv.org/abs/2504.19599).

  Args:
    logprobs: of the differentiated policy.
    old_logprobs: of the policy before the update.
    mask: 1.0 on tokens that count.
    rewards: scalar reward of each completion, not normalised.
    beta: strength of the pull to the old policy, in reward per nat.
  """
  live = _has_tokens(mask)
  total = ratios.sequence_log_ratio(logprobs, old_logprobs, mask)
  residual = beta * _centered(total, live) - _centered(
      jax.lax.stop_gradient(rewards), live
  )
  count = jnp.sum(live, axis=1, dtype=mask.dtype)
  squares = jnp.sum(residual**2, axis=1)
  return 0.5 * squares / jnp.maximum(count - 1.0, 1.0)


def target_policy(
    logprobs: Float[Array, "P G T"],
    old_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    scores: Float[Array, "P G"],
    *,
    eta: ArrayLike,
) -> Float[Array, "P"]:
  """Fits the policy over a group to the old one, tilted towards high scores.

    l_i = Σ_t log π(y_t),   p = softmax_i(l)
    q = stop_gradient( softmax_i(l_old + u / eta) ),   ℓ_g = -Σ_i q_i log p_i

  The gradient with respect to l_i, hence at each token of completion i, is
  exactly p_i - q_i: 0 where π = π_old and all scores are equal, and a pull
  back to π_old where only the scores are equal. Completions without tokens
  have neither p nor q; a group without a second completion gives 0. Returns
  [P], for `prompt_mean`.

  Sums of log-probabilities of hundreds of tokens differ by tens of nats
  inside a group, which makes p and q nearly one-hot at the same completion:
  hardly any then has a gradient. The loss suits short answers.

  See "Target Policy Optimization" by Kaddour
  (https://arxiv.org/abs/2604.06159).

  Args:
    logprobs: of the differentiated policy.
    old_logprobs: of the policy before the update.
    mask: 1.0 on tokens that count.
    scores: u, the higher the better; the paper standardises rewards.
    eta: temperature of the tilt, > 0.
  """
  live = _has_tokens(mask)
  old = jnp.sum(jnp.where(mask > 0, old_logprobs, 0.0), axis=2)
  old = jnp.where(live, jax.lax.stop_gradient(old), -_HUGE)
  # Beside a sum of -1500, f32 holds no change below 1e-4.
  old = old - jnp.max(old, axis=1, keepdims=True)
  # Old sum plus change, not a sum of its own, and centred scores: p and q then
  # share the rounding of the large part, and are equal where nothing changed.
  change = ratios.sequence_log_ratio(logprobs, old_logprobs, mask)
  constant = jax.lax.stop_gradient(change)
  log_p = _group_log_softmax(old + constant, live)
  p = jnp.where(live, jnp.exp(log_p), 0.0)
  tilt = _centered(jax.lax.stop_gradient(scores), live) / eta
  q = jnp.where(live, jnp.exp(_group_log_softmax(old + tilt, live)), 0.0)
  difference = _difference(p, q, _centered(constant - tilt, live))
  cross_entropy = -jnp.sum(jnp.where(live, q * log_p, 0.0), axis=1)
  # Differentiating the softmax would give p Σq - q, which rounding keeps from
  # being 0. The second term has value 0 and gradient p - q.
  return cross_entropy + jnp.sum(difference * (change - constant), axis=1)


def _has_tokens(mask: Float[Array, "P G T"]) -> jax.Array:
  """Marks the completions that have at least one token, [P, G]."""
  return jnp.any(mask > 0, axis=2)


def _centered(
    values: Float[Array, "P G"], live: jax.Array
) -> Float[Array, "P G"]:
  """Subtracts the mean of the live ones; exact where they are equal."""
  lowest = jnp.where(live, jax.lax.stop_gradient(values), _HUGE)
  lowest = jnp.min(lowest, axis=1, keepdims=True)
  shifted = jnp.where(live, values - lowest, 0.0)
  count = jnp.sum(live, axis=1, keepdims=True, dtype=values.dtype)
  mean = jnp.sum(shifted, axis=1, keepdims=True) / jnp.maximum(count, 1.0)
  return jnp.where(live, shifted - mean, 0.0)


def _difference(
    p: Float[Array, "P G"], q: Float[Array, "P G"], d: Float[Array, "P G"]
) -> Float[Array, "P G"]:
  """Computes p - q for p ∝ q exp(d), to all digits where d is small."""
  gain = q * jnp.expm1(jnp.clip(d, -1.0, 1.0))
  total = jnp.sum(gain, axis=1, keepdims=True)
  is_small = jnp.max(jnp.abs(d), axis=1, keepdims=True) <= 1.0
  return jnp.where(is_small, (gain - q * total) / (1.0 + total), p - q)


def _group_log_softmax(
    logits: Float[Array, "P G"], live: jax.Array
) -> Float[Array, "P G"]:
  """Normalises over the live completions of each group."""
  return jax.nn.log_softmax(jnp.where(live, logits, -_HUGE), axis=1)
