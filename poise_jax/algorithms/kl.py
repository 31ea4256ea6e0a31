"""Estimators of KL(π || π_ref) from the sampled tokens, for use in a loss.

With x = log π - log π_ref at the sampled token, in nats. The estimators differ
as *values*, and more in the gradient that they have when placed in the loss,
which is what a policy feels. Statements about both are in expectation over
tokens drawn from π itself; only `unbiased_k3` allows for another sampler. The
gradient of π_ref is stopped; x is clamped as in `ratios.log_ratio`; masked
tokens give 0.

See "Approximating KL Divergence" by Schulman
(http://joschu.net/blog/kl-approx.html).
"""

import math

import jax
import jax.numpy as jnp

from poise_jax.algorithms import ratios
from poise_jax.shapes import Array, Float


def k1(
    logprobs: Float[Array, "P G T"],
    ref_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Estimates the divergence by x itself: unbiased, of either sign.

  In the loss its expected gradient is **zero**: E[∇ log π] = 0. It regularises
  nothing there; it belongs, detached, in the reward.
  """
  return ratios.log_ratio(logprobs, ref_logprobs, mask)


def k2(
    logprobs: Float[Array, "P G T"],
    ref_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Estimates the divergence by x²/2: biased, never negative.

  In the loss its expected gradient is exactly that of KL(π || π_ref).
  """
  return 0.5 * ratios.log_ratio(logprobs, ref_logprobs, mask) ** 2


def k3(
    logprobs: Float[Array, "P G T"],
    ref_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Estimates the divergence by exp(-x) - 1 + x: unbiased, never negative.

  In the loss its expected gradient is that of the opposite divergence
  KL(π_ref || π), which is what GRPO as published descends. Near π = π_ref the
  two agree.
  """
  x = ratios.log_ratio(logprobs, ref_logprobs, mask)
  # Differentiating the value would lose the digits of a small x.
  slope = jax.lax.stop_gradient(-jnp.expm1(-x))
  return _value_and_gradient(_k3_value(x), slope * x)


def absolute(
    logprobs: Float[Array, "P G T"],
    ref_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Estimates the divergence by |x|: biased upwards, never negative.

  In the loss its expected gradient is E[sign(x) ∇ log π], that of E|x| without
  the score term E[|x| ∇ log π]. It is exactly the gradient of another
  distance, Σ_y |π - π_ref|, twice the total variation: of the same size however
  far the policies are apart, and 0 at a token with x = 0. verl calls it "abs".
  """
  x = ratios.log_ratio(logprobs, ref_logprobs, mask)
  return x * jnp.sign(x)  # the gradient of jnp.abs at 0 is 1


def unbiased_k3(
    logprobs: Float[Array, "P G T"],
    old_logprobs: Float[Array, "P G T"],
    ref_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Estimates the divergence by r k3, for tokens that were drawn from π_old.

    r = π / π_old,   ℓ = r (exp(-x) - 1 + x)

  The gradient flows through r as well, which makes it r x ∇ log π. For tokens
  drawn from π_old the value is unbiased, and in the loss its expected gradient
  is exactly that of KL(π || π_ref): where π = π_old, where the value is that of
  `k3`, and away from it. r is not clipped: a token that became far more
  likely weighs much.

  See "DeepSeek-V3.2" (https://arxiv.org/abs/2512.02556); TRL has it as
  `use_bias_correction_kl`, on by default in 1.16.

  Args:
    logprobs: of π.
    old_logprobs: of π_old, the policy that drew the tokens; a constant.
    ref_logprobs: of π_ref.
    mask: 1.0 on tokens that count.
  """
  # Differentiating r k3 as it stands gives r (k3 + 1 - exp(-x)), in which
  # nothing of x is left in f32 once exp(-x) is large.
  ratio = jax.lax.stop_gradient(
      ratios.token_ratio(logprobs, old_logprobs, mask)
  )
  x = ratios.log_ratio(logprobs, ref_logprobs, mask)
  return _value_and_gradient(ratio * _k3_value(x), ratio * (0.5 * x**2))


def k3_value_k2_gradient(
    logprobs: Float[Array, "P G T"],
    ref_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Estimates the divergence by the value of `k3`, with the gradient of `k2`.

    ℓ = sg(k3) + k2 - sg(k2)                     sg stops the gradient

  The value is unbiased and never negative, and in the loss its expected
  gradient is exactly that of KL(π || π_ref), as long as the tokens come from
  π. verl calls it "k3+".
  """
  x = ratios.log_ratio(logprobs, ref_logprobs, mask)
  return _value_and_gradient(_k3_value(x), 0.5 * x**2)


def _k3_value(x: Float[Array, "P G T"]) -> Float[Array, "P G T"]:
  """Computes exp(-x) - 1 + x to all digits; its gradient is not to be used."""
  # As it stands the terms cancel near 0: 6e-4 of the value at x = 1e-4.
  series = 0.0
  for order in range(8, 1, -1):  # Σ (-x)^n / n!, cut off at 5e-8 of it
    series = 1.0 / math.factorial(order) - x * series
  return jnp.where(jnp.abs(x) < 0.5, x**2 * series, jnp.expm1(-x) + x)


def _value_and_gradient(
    value: Float[Array, "P G T"], differentiated: Float[Array, "P G T"]
) -> Float[Array, "P G T"]:
  """Joins the value of one array and the gradient of another."""
  nothing = differentiated - jax.lax.stop_gradient(differentiated)
  return jax.lax.stop_gradient(value) + nothing
