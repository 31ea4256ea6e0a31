"""Weights that correct for a sampler that is not quite the trained policy.

The engine that draws the tokens and the trainer that scores them disagree,
by kernels, precision, or because the weights are some updates old. With

  w_t = π_old(y_t) / π_sampler(y_t)

the weights below multiply the loss of each token. They are constants: the
gradient of everything is stopped. log w_t is clamped to ±20, as is its sum
over a completion. All are [P, G, T]; a masked slot counts as w = 1, whatever
it holds, and so does a completion without tokens.

Apply one of them, once, to the policy term only; a KL penalty is added after.
If the ratio of the surrogate is already π / π_sampler, w is in it. Do not use
them with top-p or top-k sampling, where the probabilities of the sampler are
renormalised and the mean of w is the mass kept, not 1.

"Sequence" means the product of w over a completion here, in TRL and in verl; in
the filters of ms-swift and OpenRLHF it means the geometric mean, which is
`geometric_filter`. A product drifts from 1 exponentially with the length:
0.01 nats a token are a factor of e after 100 tokens.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from poise_jax.algorithms import ratios
from poise_jax.shapes import Array, Float


def truncated_token(
    old_logprobs: Float[Array, "P G T"],
    sampler_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    *,
    cap: ArrayLike,
) -> Float[Array, "P G T"]:
  """Caps the weight of each token: min(w_t, cap) (TIS).

  See "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training"
  by Yao et al. (https://fengyao.notion.site/off-policy-rl).

  Args:
    old_logprobs: of π_old, as the trainer computes them.
    sampler_logprobs: as reported by the sampler.
    mask: 1.0 on tokens that count.
    cap: largest weight, >= 1.
  """
  return jnp.minimum(_token_weight(old_logprobs, sampler_logprobs, mask), cap)


def truncated_sequence(
    old_logprobs: Float[Array, "P G T"],
    sampler_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    *,
    cap: ArrayLike,
) -> Float[Array, "P G T"]:
  """Caps the weight of each completion: min(Π_t w_t, cap), at every token.

  As `truncated_token`, with the product over the completion.
  """
  return jnp.minimum(
      _sequence_weight(old_logprobs, sampler_logprobs, mask), cap
  )


def icepop(
    old_logprobs: Float[Array, "P G T"],
    sampler_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    *,
    low: ArrayLike,
    high: ArrayLike,
) -> Float[Array, "P G T"]:
  """Drops tokens with a weight out of bounds: w_t in [low, high], else 0.

  Both bounds are allowed themselves. Dropped tokens stay in the denominator
  of a mean over the completion mask.

  See IcePop in "Every Step Evolves" by the Ling team
  (https://arxiv.org/abs/2510.18855), where the bounds are 0.5 and 5.

  Args:
    old_logprobs: of π_old, as the trainer computes them.
    sampler_logprobs: as reported by the sampler.
    mask: 1.0 on tokens that count.
    low: smallest weight that is kept, <= 1.
    high: largest weight that is kept, >= 1.
  """
  weight = _token_weight(old_logprobs, sampler_logprobs, mask)
  return jnp.where((weight >= low) & (weight <= high), weight, 0.0)


def sequence_mask(
    old_logprobs: Float[Array, "P G T"],
    sampler_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    *,
    cap: ArrayLike,
) -> Float[Array, "P G T"]:
  """Drops completions of a large weight: Π_t w_t if that is <= cap, else 0.

  The weight stands at every token of the completion. The default of TRL, with
  a cap of 3. Only one side is bounded: completions that the sampler found far
  likelier keep their small weight.

  See sequence-level MIS in "Defeating the Training-Inference Mismatch via
  FP16" by Qi et al. (https://arxiv.org/abs/2510.26788).

  Args:
    old_logprobs: of π_old, as the trainer computes them.
    sampler_logprobs: as reported by the sampler.
    mask: 1.0 on tokens that count.
    cap: largest weight that is kept, >= 1.
  """
  weight = _sequence_weight(old_logprobs, sampler_logprobs, mask)
  return jnp.where(weight <= cap, weight, 0.0)


def geometric_filter(
    old_logprobs: Float[Array, "P G T"],
    sampler_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
    *,
    low: ArrayLike,
    high: ArrayLike,
) -> Float[Array, "P G T"]:
  """Keeps completions whose mean weight is in bounds, without weighting them.

    1 if low <= exp( (1/L_i) Σ_t log w_t ) <= high, else 0

  A filter only, which does not grow stricter with length. verl calls it
  `seq_mean_k1`, with bounds on the reciprocal; it takes the dropped tokens out
  of the mask, and has presets of about [0.999, 1.001].

  Args:
    old_logprobs: of π_old, as the trainer computes them.
    sampler_logprobs: as reported by the sampler.
    mask: 1.0 on tokens that count.
    low: smallest geometric mean that is kept, <= 1.
    high: largest geometric mean that is kept, >= 1.
  """
  mean = jax.lax.stop_gradient(
      ratios.sequence_ratio(old_logprobs, sampler_logprobs, mask)
  )
  return ((mean >= low) & (mean <= high)).astype(mean.dtype)


def _token_weight(
    old_logprobs: Float[Array, "P G T"],
    sampler_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Computes w_t, and 1 where masked."""
  return jax.lax.stop_gradient(
      ratios.token_ratio(old_logprobs, sampler_logprobs, mask)
  )


def _sequence_weight(
    old_logprobs: Float[Array, "P G T"],
    sampler_logprobs: Float[Array, "P G T"],
    mask: Float[Array, "P G T"],
) -> Float[Array, "P G T"]:
  """Computes Π_t w_t, repeated along T."""
  return jax.lax.stop_gradient(
      ratios.sequence_product_ratio(old_logprobs, sampler_logprobs, mask)
  )
