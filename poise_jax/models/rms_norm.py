"""Root-mean-square normalisation."""

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class RMSNorm(nnx.Module):
  """x / rms(x) · weight, computed in f32.

  See "Root Mean Square Layer Normalization" by Zhang and Sennrich
  (https://arxiv.org/abs/1910.07467).
  """

  def __init__(self, width: int, epsilon: float):
    self.weight = nnx.Param(jnp.ones(width))
    self.epsilon = epsilon

  def __call__(self, x: Float[Array, "*B N"]) -> Float[Array, "*B N"]:
    """Normalises the last axis."""
    wide = x.astype(jnp.float32)
    mean_square = jnp.mean(wide * wide, axis=-1, keepdims=True)
    scaled = wide * jax.lax.rsqrt(mean_square + self.epsilon)
    return (scaled * self.weight[...]).astype(x.dtype)
