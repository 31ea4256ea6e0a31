"""GRPO with a regulariser whose weight steers itself, kept in the state.

A step uses the weight that the state brings and returns the next one.
"""

import jax.numpy as jnp

from poise_jax import types
from poise_jax.algorithms import (
    advantages,
    aggregation,
    controllers,
    kl,
    ratios,
    surrogates,
)
from poise_jax.shapes import Array, Float

GRPO_ADAPTIVE_ENTROPY_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "entropy_coef": 0.0,
    "entropy_coef_delta": 0.005,
    "entropy_coef_max": 1.0,
    "entropy_target": 0.2,
}
GRPO_ADAPTIVE_KL_HPARAMS = {
    "clip_eps_low": 0.2,
    "clip_eps_high": 0.2,
    "epsilon": 1e-6,
    "kl_coef": 0.001,
    "kl_target": 0.1,
    "kl_horizon": 10000.0,
}


def grpo_adaptive_entropy_init(hparams: types.HParams) -> types.State:
  """Starts with the weight `entropy_coef`."""
  return {"entropy_coef": jnp.asarray(hparams["entropy_coef"], jnp.float32)}


def grpo_adaptive_entropy_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GRPO with an entropy bonus that acts only while entropy is low.

    A = (r - μ) / (σ + epsilon)                  μ, σ over the group
    h = token_mean(H)
    loss = token_mean( ℓ_clip(A) ) - c [h <= entropy_target] h
    c' = clip(c ± entropy_coef_delta, 0, entropy_coef_max)

  c is the weight that the state brings, c' the one that it takes on: plus if
  h <= entropy_target, minus otherwise. In the bonus h is differentiated, in
  the test and for the state it is a constant. The target of 0.2 nats is close
  to collapse; set it to what the policy has early in training.

  Reconstructed: entropy_coef, the weight at the start, entropy_coef_delta,
  entropy_coef_max and entropy_target, which are TRL's; clip_eps_low,
  clip_eps_high and epsilon.
  Peers: TRL (`use_adaptive_entropy`) has the same step and bounds; its test
  uses the entropy of the step before. verl has a fixed weight.
  Source: Skywork Open Reasoner 1 (https://arxiv.org/abs/2505.22312).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  target = hparams["entropy_target"]
  entropy = aggregation.token_mean(batch.entropy, mask)
  coefficient = state["entropy_coef"]
  weight = coefficient * controllers.entropy_gate(entropy, target=target)
  loss = aggregation.token_mean(surrogate, mask) - weight * entropy
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  metrics["entropy"] = entropy
  metrics["entropy_coef"] = weight
  updated = controllers.stepped_entropy(
      coefficient,
      entropy,
      target=target,
      step=hparams["entropy_coef_delta"],
      maximum=hparams["entropy_coef_max"],
  )
  state = {
      "entropy_coef": controllers.kept_if_empty(updated, coefficient, mask)
  }
  return loss, state, metrics


def grpo_adaptive_kl_init(hparams: types.HParams) -> types.State:
  """Starts with the weight `kl_coef`."""
  return {"kl_coef": jnp.asarray(hparams["kl_coef"], jnp.float32)}


def grpo_adaptive_kl_loss(
    hparams: types.HParams, state: types.State, batch: types.RolloutBatch
) -> tuple[Float[Array, ""], types.State, types.Metrics]:
  """GRPO with a KL penalty whose weight seeks a target divergence.

    A = (r - μ) / (σ + epsilon)                  μ, σ over the group
    d = token_mean(k3)
    loss = token_mean( ℓ_clip(A) ) + c d
    c' = c (1 + clip(d / kl_target - 1, ±0.2) N / kl_horizon)

  c is the weight that the state brings, c' the one that it takes on, N the
  number of completions in the batch. For the state d is a constant. A weight
  of 0 stays 0.

  Reconstructed: kl_coef, the weight at the start, kl_target and kl_horizon,
  which are verl's; clip_eps_low, clip_eps_high and epsilon; the penalty in the
  loss, as k3, where the source has it in the reward, as k1.
  Peers: verl (`kl_ctrl.type=adaptive`) has the same rule, constants and count,
  with k1 in the reward and the mean over tokens taken in each completion
  first. TRL has no controller in GRPO.
  Source: Fine-Tuning Language Models from Human Preferences
  (https://arxiv.org/abs/1909.08593).
  """
  mask = batch.completion_mask
  adv = advantages.group_normalized(batch.rewards, epsilon=hparams["epsilon"])
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  surrogate = surrogates.clipped(
      ratio,
      adv,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  divergence = aggregation.token_mean(
      kl.k3(batch.logprobs, batch.ref_logprobs, mask), mask
  )
  coefficient = state["kl_coef"]
  loss = aggregation.token_mean(surrogate, mask) + coefficient * divergence
  metrics = surrogates.clip_metrics(
      ratio,
      adv,
      mask,
      clip_eps_low=hparams["clip_eps_low"],
      clip_eps_high=hparams["clip_eps_high"],
  )
  metrics["kl"] = divergence
  metrics["kl_coef"] = coefficient
  updated = controllers.proportional_kl(
      coefficient,
      divergence,
      target=hparams["kl_target"],
      horizon=hparams["kl_horizon"],
      count=jnp.sum(jnp.ones_like(batch.rewards)),
  )
  state = {"kl_coef": controllers.kept_if_empty(updated, coefficient, mask)}
  return loss, state, metrics
