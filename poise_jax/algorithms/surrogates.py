"""Surrogates: the loss of each token from its ratio and its advantage.

Ratios are [P, G, T] with 1 where masked, as `ratios` gives them; advantages
are [P, G], repeated over the tokens, or [P, G, T]. The result still has to be
aggregated with the mask. Advantages are constants. "Gradient" means with
respect to log π.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from poise_jax.algorithms import aggregation
from poise_jax.shapes import Array, Float


def per_token(
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
) -> Float[Array, "P G _"]:
  """Adds the token axis to advantages that have none; stops the gradient."""
  adv = jax.lax.stop_gradient(advantages)
  return adv if adv.ndim == 3 else adv[..., None]


def policy_gradient(
    logprobs: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Weighs the log-probability of each token by its advantage: ℓ = -A log π.

  Gradient -A on every live token. 0 where masked, whatever stands there.

  See "Simple Statistical Gradient-Following Algorithms" by Williams
  (https://doi.org/10.1007/BF00992696).

  Args:
    logprobs: log π, in nats.
    advantages: one per completion [P, G], repeated over its tokens, or one
      per token [P, G, T].
    mask: 1.0 on tokens that count.
  """
  adv = per_token(advantages)
  live = mask > 0
  return -jnp.where(live, adv, 0.0) * jnp.where(live, logprobs, 0.0)


def clipped(
    ratio: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    *,
    clip_eps_low: ArrayLike,
    clip_eps_high: ArrayLike,
) -> Float[Array, "P G T"]:
  """Computes the loss of each token, pessimistic outside the trust region.

    ℓ = -min( r A, clip(r, 1 - clip_eps_low, 1 + clip_eps_high) A )

  No gradient where A > 0 and r > 1 + clip_eps_high, nor where A < 0 and
  r < 1 - clip_eps_low. At exactly those two ratios the branches tie, for which
  jax gives a gradient between theirs.

  See "Proximal Policy Optimization Algorithms" by Schulman et al.
  (https://arxiv.org/abs/1707.06347).

  Args:
    ratio: π / π_old, per token.
    advantages: one per completion [P, G], repeated over its tokens, or one
      per token [P, G, T].
    clip_eps_low: how far below 1 the ratio may go.
    clip_eps_high: how far above 1 the ratio may go.
  """
  adv = per_token(advantages)
  clipped = jnp.clip(ratio, 1.0 - clip_eps_low, 1.0 + clip_eps_high)
  return -jnp.minimum(ratio * adv, clipped * adv)


def dual_clipped(
    ratio: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    *,
    clip_eps_low: ArrayLike,
    clip_eps_high: ArrayLike,
    dual_clip: ArrayLike = 3.0,
) -> Float[Array, "P G T"]:
  """Bounds the clipped surrogate where a bad token became far more likely.

    ℓ' = min( ℓ, -dual_clip A )   where A < 0,   ℓ' = ℓ elsewhere

  with ℓ from `clipped`. No gradient where A < 0 and r > dual_clip.

  See "Mastering Complex Control in MOBA Games" by Ye et al.
  (https://arxiv.org/abs/1912.09729).

  Args:
    ratio: π / π_old, per token.
    advantages: [P, G] or [P, G, T], as for `clipped`.
    clip_eps_low: how far below 1 the ratio may go.
    clip_eps_high: how far above 1 the ratio may go.
    dual_clip: largest ratio that counts against a bad token, > 1.
  """
  adv = per_token(advantages)
  loss = clipped(
      ratio, adv, clip_eps_low=clip_eps_low, clip_eps_high=clip_eps_high
  )
  return jnp.where(adv < 0, jnp.minimum(loss, -dual_clip * adv), loss)


def two_sided(
    ratio: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    *,
    clip_eps_low: ArrayLike,
    clip_eps_high: ArrayLike,
    delta: ArrayLike = 4.0,
) -> Float[Array, "P G T"]:
  """Bounds the unclipped branch of the clipped surrogate as well.

    ℓ = -min( min(r, delta) A, clip(r, 1 - clip_eps_low, 1 + clip_eps_high) A )

  With delta > 1 + clip_eps_high this equals `dual_clipped` with
  dual_clip = delta: no gradient where A < 0 and r > delta, that of `clipped`
  elsewhere.

  See "INTELLECT-2" by Prime Intellect Team
  (https://arxiv.org/abs/2505.07291).

  Args:
    ratio: π / π_old, per token.
    advantages: [P, G] or [P, G, T], as for `clipped`.
    clip_eps_low: how far below 1 the ratio may go.
    clip_eps_high: how far above 1 the ratio may go.
    delta: largest ratio that counts against a bad token.
  """
  adv = per_token(advantages)
  bounded = jnp.minimum(ratio, delta)
  clipped = jnp.clip(ratio, 1.0 - clip_eps_low, 1.0 + clip_eps_high)
  return -jnp.minimum(bounded * adv, clipped * adv)


def cispo(
    logprobs: Float[Array, "P G T"],
    ratio: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    mask: Float[Array, "P G T"],
    *,
    ratio_cap: ArrayLike,
    ratio_floor: ArrayLike = 0.0,
) -> Float[Array, "P G T"]:
  """Clips the importance weight instead of the update: no token is dropped.

    ℓ = -stop_gradient( clip(r, ratio_floor, ratio_cap) ) A log π

  Gradient -clip(r) A on every live token, whatever its ratio. The value has
  no meaning of its own. 0 where masked.

  Both bounds are ratios, on policy inside them if ratio_floor <= 1 and
  ratio_cap >= 1. TRL's `epsilon_high` is this cap, yet shares its default of
  0.2 with PPO, which would scale every token down; verl's is the distance of
  the cap from 1.

  See "MiniMax-M1" by MiniMax (https://arxiv.org/abs/2506.13585).

  Args:
    logprobs: log π, in nats.
    ratio: π / π_old, per token.
    advantages: [P, G] or [P, G, T], as for `clipped`.
    mask: 1.0 on tokens that count.
    ratio_cap: largest weight.
    ratio_floor: smallest weight.
  """
  weight = jax.lax.stop_gradient(jnp.clip(ratio, ratio_floor, ratio_cap))
  return weight * policy_gradient(logprobs, advantages, mask)


def soft_gate(
    ratio: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    *,
    tau_positive: ArrayLike,
    tau_negative: ArrayLike,
) -> Float[Array, "P G T"]:
  """Lets the gradient fade with the distance of the ratio from 1.

    ℓ = -A (4/τ) σ( τ (r - 1) ),   τ = tau_positive where A > 0,
                                   τ = tau_negative elsewhere

  Gradient -A r 4 σ (1 - σ): exactly that of -r A at r = 1, smaller and never
  0 on either side. A larger τ fades faster.

  See "Soft Adaptive Policy Optimization" by Gao et al.
  (https://arxiv.org/abs/2511.20347).

  Args:
    ratio: π / π_old, per token.
    advantages: [P, G] or [P, G, T], as for `clipped`.
    tau_positive: temperature of good tokens, > 0.
    tau_negative: temperature of bad tokens, > 0.
  """
  adv = per_token(advantages)
  tau = jnp.where(adv > 0, tau_positive, tau_negative)
  return -adv * (4.0 / tau) * jax.nn.sigmoid(tau * (ratio - 1.0))


def aspo(
    logprobs: Float[Array, "P G T"],
    ratio: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    mask: Float[Array, "P G T"],
    *,
    clip_eps_low: ArrayLike,
    clip_eps_high: ArrayLike,
    dual_clip: ArrayLike = 3.0,
) -> Float[Array, "P G T"]:
  """Inverts the ratio of good tokens, so that rare ones weigh the most.

    A > 0:   ℓ = -A u / sg(u)²,  u = min(r, 1 + clip_eps_high)
             ℓ = -A dual_clip log π              where 1/u > dual_clip
    A <= 0:  ℓ = -A max(r, 1 - clip_eps_low)
             ℓ = -A dual_clip log π              where r > dual_clip

  with sg the stopped gradient. Gradient, for A > 0: -A/r; 0 where
  r > 1 + clip_eps_high; -A dual_clip where r < 1/dual_clip. For A < 0: -A r;
  0 where r < 1 - clip_eps_low; -A dual_clip where r > dual_clip. So the
  weight is bounded by dual_clip without losing the token. The value jumps
  between the branches; only its gradient has a meaning.

  See "ASPO" by Wang et al. (https://arxiv.org/abs/2510.06062).

  Args:
    logprobs: log π, in nats.
    ratio: π / π_old, per token.
    advantages: [P, G] or [P, G, T], as for `clipped`.
    mask: 1.0 on tokens that count.
    clip_eps_low: how far below 1 the ratio of a bad token may go.
    clip_eps_high: how far above 1 the ratio of a good token may go.
    dual_clip: largest weight, > 1.
  """
  adv = per_token(advantages)
  capped = dual_clip * jnp.where(mask > 0, logprobs, 0.0)
  upper = jnp.minimum(ratio, 1.0 + clip_eps_high)
  constant = jax.lax.stop_gradient(upper)
  flipped = jnp.where(
      dual_clip * constant < 1.0, capped, upper / (constant * constant)
  )
  lower = jnp.maximum(ratio, 1.0 - clip_eps_low)
  plain = jnp.where(ratio > dual_clip, capped, lower)
  return -adv * jnp.where(adv > 0, flipped, plain)


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
  binding = (per_token(advantages) < 0) & (ratio < 1.0 - clip_eps_low)
  return aggregation.token_mean(binding.astype(mask.dtype), mask)


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
  binding = (per_token(advantages) > 0) & (ratio > 1.0 + clip_eps_high)
  return aggregation.token_mean(binding.astype(mask.dtype), mask)


def clip_fraction_dual(
    ratio: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    mask: Float[Array, "P G T"],
    *,
    bound: ArrayLike,
) -> Float[Array, ""]:
  """Measures the fraction of tokens whose gradient a second clip removes.

  Counts A < 0 and r > bound, which is `dual_clip` of `dual_clipped` and
  `delta` of `two_sided`. 0 if everything is masked.
  """
  binding = (per_token(advantages) < 0) & (ratio > bound)
  return aggregation.token_mean(binding.astype(mask.dtype), mask)


def clip_metrics(
    ratio: Float[Array, "P G T"],
    advantages: Float[Array, "P G"] | Float[Array, "P G #T"],
    mask: Float[Array, "P G T"],
    *,
    clip_eps_low: ArrayLike,
    clip_eps_high: ArrayLike,
) -> dict[str, Float[Array, ""]]:
  """Gathers what is worth logging of a clipped surrogate, by canonical name.

  Returns:
    `advantages/mean_abs`, `clip_ratio/low_mean`, `clip_ratio/high_mean`.
  """
  return {
      "advantages/mean_abs": jnp.mean(jnp.abs(advantages)),
      "clip_ratio/low_mean": clip_fraction_low(
          ratio, advantages, mask, clip_eps_low=clip_eps_low
      ),
      "clip_ratio/high_mean": clip_fraction_high(
          ratio, advantages, mask, clip_eps_high=clip_eps_high
      ),
  }
