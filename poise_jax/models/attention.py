"""Grouped-query attention with rotary positions."""

from collections.abc import Callable

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from poise_jax.models import dense, kv_cache

AddToCache = Callable[
    [Float[Array, "B H S D"], Float[Array, "B H S D"]], kv_cache.LayerCache
]


def rotary_angles(
    positions: Int[Array, "S"], head_dim: int, theta: float
) -> Float[Array, "S D"]:
  """Angle by which each position turns each pair of features.

    angle[s, j] = s · theta^(-2j/D) for j < D/2, repeated for the upper half.

  See "RoFormer" by Su et al. (https://arxiv.org/abs/2104.09864); halves are
  paired as in Hugging Face checkpoints.
  """
  exponents = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
  angles = positions[:, None].astype(jnp.float32) * theta**-exponents
  return jnp.concatenate([angles, angles], axis=-1)


def rotate(
    x: Float[Array, "B H S D"], angles: Float[Array, "S D"]
) -> Float[Array, "B H S D"]:
  """Turns feature pairs (j, j + D/2) of every head by `angles`, in f32."""
  low, high = jnp.split(x, 2, axis=-1)
  turned = jnp.concatenate([-high, low], axis=-1)
  return (x * jnp.cos(angles) + turned * jnp.sin(angles)).astype(x.dtype)


def attend(
    queries: Float[Array, "B H S D"],
    keys: Float[Array, "B K U D"],
    values: Float[Array, "B K U D"],
    mask: Bool[Array, "S U"],
) -> Float[Array, "B H S D"]:
  """Scaled dot-product attention; H/K query heads share one key head.

    softmax(Q Kᵀ / √D + mask) V, with the softmax in f32.

  See "GQA" by Ainslie et al. (https://arxiv.org/abs/2305.13245).
  """
  batch, heads, length, dim = queries.shape
  groups = keys.shape[1]
  queries = queries.reshape(batch, groups, heads // groups * length, dim)
  scores = jnp.einsum("bgqd,bgud->bgqu", queries, keys) / jnp.sqrt(dim)
  scores = scores.reshape(batch, heads, length, -1).astype(jnp.float32)
  scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
  weights = weights.reshape(batch, groups, heads // groups * length, -1)
  mixed = jnp.einsum("bgqu,bgud->bgqd", weights, values)
  return mixed.reshape(batch, heads, length, dim)


class Attention(nnx.Module):
  """Projects to heads, turns queries and keys, attends, projects back."""

  def __init__(
      self,
      hidden: int,
      heads: int,
      kv_heads: int,
      head_dim: int,
      *,
      rope_theta: float,
      rngs: nnx.Rngs,
  ):
    self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
    self.rope_theta = rope_theta
    init = nnx.initializers.normal(0.02)

    def project(width_in: int, width_out: int, bias: bool) -> dense.Dense:
      return dense.Dense(
          width_in, width_out, use_bias=bias, kernel_init=init, rngs=rngs
      )

    self.q_proj = project(hidden, heads * head_dim, True)
    self.k_proj = project(hidden, kv_heads * head_dim, True)
    self.v_proj = project(hidden, kv_heads * head_dim, True)
    self.o_proj = project(heads * head_dim, hidden, False)

  def _split(self, x: Float[Array, "B S N"], heads: int) -> Array:
    batch, length, _ = x.shape
    x = x.reshape(batch, length, heads, self.head_dim)
    return x.transpose(0, 2, 1, 3)

  def __call__(
      self,
      x: Float[Array, "B S N"],
      positions: Int[Array, "S"],
      mask: Bool[Array, "S U"],
      add_to_cache: AddToCache,
  ) -> tuple[Float[Array, "B S N"], kv_cache.LayerCache]:
    """Attends from `x` to everything in the cache once `x` is added to it.

    Args:
      x: hidden states.
      positions: position of each token of `x`.
      mask: True where a query may see a key of the new cache.
      add_to_cache: makes the new cache from the keys and values of `x`.

    Returns:
      The output and the new cache.
    """
    angles = rotary_angles(positions, self.head_dim, self.rope_theta)
    queries = rotate(self._split(self.q_proj(x), self.heads), angles)
    keys = rotate(self._split(self.k_proj(x), self.kv_heads), angles)
    values = self._split(self.v_proj(x), self.kv_heads)
    cache = add_to_cache(keys, values)
    mixed = attend(queries, cache.keys, cache.values, mask)
    mixed = mixed.transpose(0, 2, 1, 3).reshape(*x.shape[:2], -1)
    return self.o_proj(mixed), cache
