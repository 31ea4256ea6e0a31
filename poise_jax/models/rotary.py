"""Rotary positions, plain or stretched to longer contexts."""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Linear(NamedTuple):
  """Every position counts 1 / `factor`: f / factor.

  See "Extending Context Window via Positional Interpolation" by Chen et al.
  (https://arxiv.org/abs/2306.15595).
  """

  factor: float

  def __call__(self, frequencies: Float[Array, "F"]) -> Float[Array, "F"]:
    """Stretched frequencies."""
    return frequencies / self.factor


class Llama3(NamedTuple):
  """Slow features are stretched, fast ones are kept, in between they mix.

    turns(f) = original_max_position_embeddings · f / 2π
    kept(f) = clip((turns - low) / (high - low), 0, 1)
    f · (kept + (1 - kept) / factor)

  See "The Llama 3 Herd of Models" (https://arxiv.org/abs/2407.21783); field
  names are those of `rope_scaling` in a config.json.
  """

  factor: float
  low_freq_factor: float
  high_freq_factor: float
  original_max_position_embeddings: int

  def __call__(self, frequencies: Float[Array, "F"]) -> Float[Array, "F"]:
    """Stretched frequencies."""
    low, high = self.low_freq_factor, self.high_freq_factor
    turns = self.original_max_position_embeddings * frequencies / (2 * math.pi)
    kept = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
    return frequencies * (kept + (1 - kept) / self.factor)


Scaling = Linear | Llama3


def rotary_angles(
    positions: Int[Array, "*B S"],
    head_dim: int,
    theta: float,
    scaling: Scaling | None = None,
) -> Float[Array, "*B S D"]:
  """Angle by which each position turns each pair of features.

    angle[s, j] = s · theta^(-2j/D) for j < D/2, repeated for the upper half.

  See "RoFormer" by Su et al. (https://arxiv.org/abs/2104.09864); halves are
  paired as in Hugging Face checkpoints.

  Args:
    positions: from 0, the same in all rows or one list a row.
    head_dim: D, even.
    theta: base of the frequencies.
    scaling: changes the frequencies, if given.
  """
  exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
  frequencies = theta**-exponents
  if scaling is not None:
    frequencies = scaling(frequencies)
  angles = positions[..., None].astype(jnp.float32) * frequencies
  return jnp.concatenate([angles, angles], axis=-1)


def rotate(
    x: Float[Array, "B H S D"],
    angles: Float[Array, "S D"] | Float[Array, "B S D"],
) -> Float[Array, "B H S D"]:
  """Turns feature pairs (j, j + D/2) of every head by `angles`, in f32."""
  if angles.ndim == 3:
    angles = angles[:, None]
  low, high = jnp.split(x, 2, axis=-1)
  turned = jnp.concatenate([-high, low], axis=-1)
  return (x * jnp.cos(angles) + turned * jnp.sin(angles)).astype(x.dtype)
