"""Which parts of a batch count: float masks, 1.0 to keep, 0.0 to drop.

Masks of completions are [P, G], masks of groups [P, 1]; they combine by
multiplication and reach the tokens through `apply`. `high_entropy` makes a mask
of tokens, [P, G, T]. Masks are constants to the loss.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from poise_jax.algorithms import ratios, trust_regions
from poise_jax.shapes import Array, Float


def apply(
    completion_mask: Float[Array, "P G T"], keep: Float[Array, "P #G"]
) -> Float[Array, "P G T"]:
  """Removes the tokens of the completions or groups that are not kept.

  Pass the result to the aggregation, so that numerator and denominator leave
  out the same tokens.

  Args:
    completion_mask: token mask of the batch.
    keep: 1.0 for each completion [P, G] or group [P, 1] to keep.
  """
  return jnp.where(keep[..., None] > 0, completion_mask, 0.0)


def valid_completions(
    format_valid: Float[Array, "P G"],
) -> Float[Array, "P G"]:
  """Keeps completions from which an answer could be parsed."""
  return (format_valid > 0).astype(format_valid.dtype)


def untruncated(truncated: Float[Array, "P G"]) -> Float[Array, "P G"]:
  """Keeps completions that ended by themselves (overlong filtering).

  See "DAPO" by Yu et al. (https://arxiv.org/abs/2503.14476).
  """
  return (truncated <= 0).astype(truncated.dtype)


def mixed_groups(correct: Float[Array, "P G"]) -> Float[Array, "P 1"]:
  """Keeps groups with 0 < #correct < G, the only ones GRPO learns from.

  See dynamic sampling in "DAPO" (https://arxiv.org/abs/2503.14476).
  """
  return 1.0 - failed_groups(correct) - solved_groups(correct)


def failed_groups(correct: Float[Array, "P G"]) -> Float[Array, "P 1"]:
  """Keeps groups in which no completion is correct."""
  return (jnp.max(correct, axis=1, keepdims=True) <= 0).astype(correct.dtype)


def solved_groups(correct: Float[Array, "P G"]) -> Float[Array, "P 1"]:
  """Keeps groups in which every completion is correct."""
  return (jnp.min(correct, axis=1, keepdims=True) > 0).astype(correct.dtype)


def nonzero_spread(rewards: Float[Array, "P G"]) -> Float[Array, "P 1"]:
  """Keeps groups whose rewards are not all equal."""
  highest = jnp.max(rewards, axis=1, keepdims=True)
  lowest = jnp.min(rewards, axis=1, keepdims=True)
  return (highest > lowest).astype(rewards.dtype)


def off_policy_negatives(
    advantages: Float[Array, "P G"],
    logprobs: Float[Array, "P G T"],
    sampler_logprobs: Float[Array, "P G T"],
    completion_mask: Float[Array, "P G T"],
    *,
    threshold: ArrayLike,
) -> Float[Array, "P G"]:
  """Drops bad completions that the policy has moved away from (OPSM).

    keep_i = 0   if A_i < 0 and (1/L_i) Σ_t (log π_sampler - log π) > threshold
    keep_i = 1   otherwise

  The mean estimates KL(π_sampler || π), with what became of the policy and the
  mismatch of the sampler in it. Good completions stay however old they are.
  A completion without tokens has mean 0. Differences of tokens are clamped to
  ±20.

  See "DeepSeek-V3.2" (https://arxiv.org/abs/2512.02556).

  Args:
    advantages: one per completion.
    logprobs: of the current policy; its gradient is stopped.
    sampler_logprobs: as reported by the sampler that drew the tokens.
    completion_mask: token mask of the batch.
    threshold: in nats per token.
  """
  total = ratios.sequence_log_ratio(sampler_logprobs, logprobs, completion_mask)
  lengths = jnp.sum(completion_mask > 0, axis=2, dtype=total.dtype)
  divergence = jax.lax.stop_gradient(total) / jnp.maximum(lengths, 1.0)
  drop = (advantages < 0) & (divergence > threshold)
  return 1.0 - drop.astype(total.dtype)


def high_entropy(
    entropy: Float[Array, "P G T"],
    completion_mask: Float[Array, "P G T"],
    *,
    fraction: ArrayLike,
) -> Float[Array, "P G T"]:
  """Keeps the tokens of the highest entropy, over the whole batch.

    m_t = 1   if H_t >= τ,   τ = the ceil(fraction n)-th largest of n entropies

  n counts the unmasked tokens, and ceil(fraction n) is computed in f32. All
  tokens of entropy τ are kept, so more than the fraction may be: all of them
  if all entropies are equal. A fraction of 1 keeps every token, of 0 none.

  TRL takes `torch.quantile` at 1 - fraction, which interpolates between two
  entropies, and keeps what is >= that: the floor(fraction (n - 1)) + 1 largest.
  That is as many, or one less: of four tokens at 0.3 we keep two, TRL one. At
  0.2 it is as many.

  See "Beyond the 80/20 Rule" by Wang et al.
  (https://arxiv.org/abs/2506.01939).

  Args:
    entropy: of the next-token distribution, in nats.
    completion_mask: token mask of the batch.
    fraction: of the tokens to keep, in [0, 1].
  """
  entropy = jax.lax.stop_gradient(entropy)
  live = completion_mask > 0
  count = jnp.ceil(fraction * jnp.sum(live, dtype=entropy.dtype))
  threshold = trust_regions.kth_largest(entropy, completion_mask, count)
  return (live & (entropy >= threshold)).astype(completion_mask.dtype)
