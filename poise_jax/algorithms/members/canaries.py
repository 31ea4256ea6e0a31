"""Losses whose outcome is known before training: alarms for the measurement.

One must score exactly like the policy that training started from, the other
must ride to the bottom of the ranking. If either does not, something between
the loss and the score is broken.
"""

import jax
import jax.numpy as jnp

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    ratios,
    surrogates,
)
from poise_jax.shapes import Array, Float

ZERO_GRADIENT_HPARAMS = {"clip_eps_low": 0.2, "clip_eps_high": 0.2}

SIGN_FLIPPED_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
}


def zero_gradient_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """Zero gradient: a clipped surrogate whose gradient is stopped.

    loss = stop_gradient( token_mean( ℓ_clip(r - μ) ) )

  The value moves with the batch; the gradient is exactly 0, so the policy
  must stay where it was.

  Source: an alarm; it must score exactly like the base policy.
  """
  mask = batch.completion_mask
  adv = advantages.group_centered(batch.rewards)
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  loss = jax.lax.stop_gradient(aggregation.token_mean(surrogate, mask))
  metrics = {"advantages/mean_abs": jnp.mean(jnp.abs(adv))}
  return loss, state, metrics


def sign_flipped_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """Sign flipped: GRPO with every advantage negated.

    A = -(r - μ) / (σ + epsilon),   loss = token_mean( ℓ_clip(A) )

  Descends on reward, so the policy must get worse. The clip still binds on
  the harmful side: this is not the negated GRPO loss.

  Source: an alarm; it must rank last.
  """
  mask = batch.completion_mask
  adv = -advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  loss = aggregation.token_mean(surrogate, mask)
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  return loss, state, metrics
