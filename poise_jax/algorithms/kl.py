"""Estimators of KL(π || π_ref) from the sampled tokens, for use in a loss.

With x = log π - log π_ref at the sampled token. All three are unbiased or
nearly so as *values*; they differ in the gradient that they have when placed
in the loss, which is what a policy feels. Statements about gradients are in
expectation over tokens drawn from π itself. The gradient of π_ref is stopped;
x is clamped as in `ratios.log_ratio`; masked tokens give 0.

See "Approximating KL Divergence" by Schulman
(http://joschu.net/blog/kl-approx.html).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from poise_jax.algorithms import ratios


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
  return jnp.expm1(-x) + x
