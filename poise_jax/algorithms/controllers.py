"""Coefficients that steer themselves: from what was measured to the next step.

A controller keeps a coefficient in the state of an algorithm. A loss uses the
coefficient that the state brings, measures its own batch, and returns the
coefficient for the next step; so nothing depends on the order of work inside
a step, and a checkpoint of the state resumes exactly. All values are scalars
and constants to the loss. A batch without tokens measures nothing: pass what
a controller returns through `kept_if_empty`.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from poise_jax.shapes import Array, Float


def stepped_entropy(
    coefficient: Float[Array, ""],
    entropy: Float[Array, ""],
    *,
    target: ArrayLike,
    step: ArrayLike,
    maximum: ArrayLike = 1.0,
) -> Float[Array, ""]:
  """Moves the weight of an entropy bonus by a fixed amount.

    c' = clip(c + step, 0, maximum)   if H <= target
    c' = clip(c - step, 0, maximum)   otherwise

  See "Skywork Open Reasoner 1" by He et al.
  (https://arxiv.org/abs/2505.22312).

  Args:
    coefficient: c, weight of the entropy bonus.
    entropy: H, mean over the tokens of the batch, in nats.
    target: in nats.
    step: how far the coefficient moves, > 0.
    maximum: largest coefficient.
  """
  coefficient, entropy = jax.lax.stop_gradient((coefficient, entropy))
  moved = coefficient + jnp.where(entropy <= target, step, -step)
  return jnp.clip(moved, 0.0, maximum)


def entropy_gate(
    entropy: Float[Array, ""], *, target: ArrayLike
) -> Float[Array, ""]:
  """Switches the entropy bonus: 1.0 while H <= target, else 0.0.

  See "Skywork Open Reasoner 1" (https://arxiv.org/abs/2505.22312).
  """
  entropy = jax.lax.stop_gradient(entropy)
  return (entropy <= target).astype(entropy.dtype)


def proportional_entropy(
    coefficient: Float[Array, ""],
    entropy: Float[Array, ""],
    *,
    target: ArrayLike,
    rate: ArrayLike,
    maximum: ArrayLike,
) -> Float[Array, ""]:
  """Scales the weight of an entropy bonus by the distance to the target.

    c' = clip(c exp(rate (target - H)), 0, maximum)

  Our reconstruction of the controller that POISE names without a formula
  (https://arxiv.org/abs/2603.23951). A coefficient of 0 stays 0.

  Args:
    coefficient: c > 0, weight of the entropy bonus.
    entropy: H, mean over the tokens of the batch, in nats.
    target: in nats; may follow a schedule.
    rate: per nat.
    maximum: largest coefficient.
  """
  coefficient, entropy = jax.lax.stop_gradient((coefficient, entropy))
  scaled = coefficient * jnp.exp(rate * (target - entropy))
  return jnp.clip(scaled, 0.0, maximum)


def proportional_kl(
    coefficient: Float[Array, ""],
    divergence: Float[Array, ""],
    *,
    target: ArrayLike,
    horizon: ArrayLike,
    count: ArrayLike = 1.0,
) -> Float[Array, ""]:
  """Scales the weight of a KL penalty towards a target divergence.

    c' = c (1 + clip(KL / target - 1, ±0.2) count / horizon)

  See "Fine-Tuning Language Models from Human Preferences" by Ziegler et al.
  (https://arxiv.org/abs/1909.08593); verl has target 0.1, horizon 10,000.

  Args:
    coefficient: c, weight of the KL penalty.
    divergence: mean over the tokens of the batch, in nats.
    target: in nats, > 0.
    horizon: > 0, in the unit of `count`; larger is slower. c changes at most
      by a factor of 1 ± 0.2 count / horizon in a step.
    count: what a step counts for; 1, or the number of completions in it.
  """
  coefficient, divergence = jax.lax.stop_gradient((coefficient, divergence))
  error = jnp.clip(divergence / target - 1.0, -0.2, 0.2)
  return coefficient * (1.0 + error * count / horizon)


def kept_if_empty(
    updated: Float[Array, ""],
    current: Float[Array, ""],
    mask: Float[Array, "P G T"],
) -> Float[Array, ""]:
  """Gives `updated`, or `current` if the batch has no token.

  The mean of nothing is 0, which a controller would take for collapse.
  """
  return jnp.where(jnp.any(mask > 0), updated, current)


def linear_schedule(
    progress: Float[Array, ""], *, start: ArrayLike, end: ArrayLike
) -> Float[Array, ""]:
  """Moves from `start` to `end` with the progress of training in [0, 1]."""
  return start + (end - start) * progress
