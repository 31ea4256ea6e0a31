"""Length shaping: what the length of a completion does to its signal.

Lengths are tokens, [P, G]; everything is a constant to the loss. Correctness
comes first: what rewards brevity looks at correct completions only. The one
exception is the overlong penalty, which is part of a reward.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from poise_jax.shapes import Array, Float


def tempered_failures(
    advantages: Float[Array, "P G"],
    lengths: Float[Array, "P G"],
    format_valid: Float[Array, "P G"],
    *,
    low: ArrayLike = 0.5,
    high: ArrayLike = 2.0,
) -> Float[Array, "P G"]:
  """Softens the blame on long valid failures and sharpens it on short ones.

    ℓ_i = clip(L_i / mean_{j in V} L_j, low, high)
    A'_i = A_i / ℓ_i   if i in V and A_i < 0,   else A_i

  See VM-AV-GRPO in POISE (https://arxiv.org/abs/2603.23951), A.2.

  Args:
    advantages: before the correction.
    lengths: tokens of each completion.
    format_valid: 1.0 on V.
    low: smallest divisor, > 0.
    high: largest divisor.
  """
  advantages = jax.lax.stop_gradient(advantages)
  valid = jax.lax.stop_gradient(format_valid)
  lengths = jax.lax.stop_gradient(lengths)
  total = jnp.sum(lengths * valid, axis=1, keepdims=True)
  mean = total / jnp.maximum(jnp.sum(valid, axis=1, keepdims=True), 1.0)
  relative = jnp.clip(lengths / jnp.where(mean > 0, mean, 1.0), low, high)
  tempered = (valid > 0) & (advantages < 0)
  return jnp.where(tempered, advantages / relative, advantages)


def efficiency(
    lengths: Float[Array, "P G"], correct: Float[Array, "P G"]
) -> Float[Array, "P G"]:
  """Scores brevity among the correct completions of a group.

  The z-score of -L_i (population form) inside the correct subset: positive
  for a short correct answer. Exactly 0 for wrong completions, where fewer
  than two are correct, and where the correct ones are equally long.

  See DACE and CDA-GRPO in POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  subset = jax.lax.stop_gradient(correct) > 0
  lengths = jax.lax.stop_gradient(lengths)
  size = jnp.sum(subset, axis=1, keepdims=True, dtype=lengths.dtype)
  size = jnp.maximum(size, 1.0)
  shortest = jnp.min(jnp.where(subset, lengths, jnp.inf), axis=1, keepdims=True)
  excess = jnp.where(subset, lengths - shortest, 0.0)
  mean = jnp.sum(excess, axis=1, keepdims=True) / size
  saved = jnp.where(subset, mean - excess, 0.0)
  sigma = jnp.sqrt(jnp.sum(saved**2, axis=1, keepdims=True) / size)
  return saved / jnp.where(sigma > 0, sigma, 1.0)


def over_length(
    lengths: Float[Array, "P G"], correct: Float[Array, "P G"]
) -> Float[Array, "P G"]:
  """Scores only what a correct completion has too much.

    A_i = min((μ_L - L_i) / μ_L, 0)          μ_L: mean correct length

  In (-G, 0]; -0.5 is half as long again as the mean. Exactly 0 for wrong
  completions, for those no longer than the mean, and where μ_L is 0.

  See CAG in POISE (https://arxiv.org/abs/2603.23951), A.2.
  """
  lengths, correct = jax.lax.stop_gradient((lengths, correct))
  mean = _correct_mean(lengths, correct)
  saved = jnp.minimum(mean - lengths, 0.0) / jnp.where(mean > 0, mean, 1.0)
  return jnp.where(correct > 0, saved, 0.0)


def relative_length(
    lengths: Float[Array, "P G"],
    correct: Float[Array, "P G"],
    *,
    epsilon: ArrayLike = 1e-6,
) -> Float[Array, "P G"]:
  """Scores how much shorter than usual a correct completion is.

    RLI_i = (μ_L - L_i) / (μ_L + epsilon)    μ_L: mean correct length

  In (-G, 1]; unlike `efficiency` not scaled by the spread, so that lengths
  which hardly differ give hardly a signal. Sums to zero over the correct
  subset. Exactly 0 for wrong completions.

  See the relative length index of DCBE in POISE
  (https://arxiv.org/abs/2603.23951), A.2.

  Args:
    lengths: tokens of each completion.
    correct: 1.0 where the answer is right.
    epsilon: in tokens, > 0.
  """
  lengths, correct = jax.lax.stop_gradient((lengths, correct))
  mean = _correct_mean(lengths, correct)
  return jnp.where(correct > 0, (mean - lengths) / (mean + epsilon), 0.0)


def length_power(
    advantages: Float[Array, "P G"],
    lengths: Float[Array, "P G"],
    *,
    power: ArrayLike,
) -> Float[Array, "P G"]:
  """Scales advantages by a power of the relative length.

    ℓ_i = L_i / mean_j L_j                   over the whole group
    A'_i = A_i ℓ_i^power    if A_i > 0
    A'_i = A_i ℓ_i^-power   if A_i < 0,   0 stays 0

  power > 0 favours **long** completions on both sides: more credit where they
  succeed, less blame where they fail. A completion without tokens keeps its
  advantage.

  See MSA-GRPO in POISE (https://arxiv.org/abs/2603.23951), A.2.

  Args:
    advantages: before the correction.
    lengths: tokens of each completion.
    power: λ of the paper, which gives neither its value nor its sign.
  """
  advantages = jax.lax.stop_gradient(advantages)
  lengths = jax.lax.stop_gradient(lengths)
  mean = jnp.mean(lengths, axis=1, keepdims=True)
  relative = jnp.where(lengths > 0, lengths, 1.0) / jnp.where(
      lengths > 0, mean, 1.0
  )
  return advantages * relative ** (power * jnp.sign(advantages))


def soft_overlong(
    lengths: Float[Array, "P G"],
    *,
    max_length: ArrayLike,
    buffer: ArrayLike,
) -> Float[Array, "P G"]:
  """Penalises completions that come close to the length limit.

    0                                    if L <= L_max - L_c
    (L_max - L_c - L) / L_c              up to L_max
    -1                                   beyond

  To be added to a reward, correct or not. Lengths are tokens, as in verl and
  TRL; tunix counts the characters of the text. verl goes on below -1.

  See "DAPO" by Yu et al. (https://arxiv.org/abs/2503.14476); it uses L_max
  20480 and L_c 4096.

  Args:
    lengths: tokens of each completion.
    max_length: L_max, in tokens.
    buffer: L_c, over which the penalty grows, in tokens, > 0.
  """
  lengths = jax.lax.stop_gradient(lengths)
  return -jnp.clip((lengths - (max_length - buffer)) / buffer, 0.0, 1.0)


def _correct_mean(
    lengths: Float[Array, "P G"], correct: Float[Array, "P G"]
) -> Float[Array, "P 1"]:
  """Averages over the correct completions of each group; 0 without any."""
  subset = correct > 0
  total = jnp.sum(jnp.where(subset, lengths, 0.0), axis=1, keepdims=True)
  size = jnp.sum(subset, axis=1, keepdims=True, dtype=lengths.dtype)
  return total / jnp.maximum(size, 1.0)
