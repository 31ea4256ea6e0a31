"""Grouped-query attention with rotary positions."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from poise_jax.models import dense, families, kv_cache, rms_norm, rotary

AddToCache = Callable[
    [Float[Array, "B H S D"], Float[Array, "B H S D"]], kv_cache.LayerCache
]
Mask = Bool[Array, "S U"] | Bool[Array, "B S U"]


@runtime_checkable
class Attend(Protocol):
  """Mixes values by what queries and keys have in common."""

  def __call__(
      self,
      queries: Float[Array, "B H S D"],
      keys: Float[Array, "B K U D"],
      values: Float[Array, "B K U D"],
      mask: Mask,
      causal: int | None = None,
  ) -> Float[Array, "B H S D"]:
    """Scaled dot-product attention; H/K query heads share one key head.

      softmax(Q Kᵀ / √D + mask) V, with the softmax in f32.

    Args:
      queries: turned by their positions.
      keys: likewise.
      values: to be mixed.
      mask: True where a query may see a key, the same in all rows or one a
        row; no query may see nothing.
      causal: if given, `mask` is exactly "key u <= query s + `causal`" in every
        row, so that a kernel need not read it.
    """


def attend(
    queries: Float[Array, "B H S D"],
    keys: Float[Array, "B K U D"],
    values: Float[Array, "B K U D"],
    mask: Mask,
    causal: int | None = None,
) -> Float[Array, "B H S D"]:
  """Plain `Attend`: all scores at once; best on CPU.

  See "GQA" by Ainslie et al. (https://arxiv.org/abs/2305.13245).
  """
  del causal  # the mask says as much
  batch, heads, length, dim = queries.shape
  groups = keys.shape[1]
  queries = queries.reshape(batch, groups, heads // groups * length, dim)
  scores = jnp.einsum("bgqd,bgud->bgqu", queries, keys) / jnp.sqrt(dim)
  scores = scores.reshape(batch, heads, length, keys.shape[2]).astype(
      jnp.float32
  )
  mask = mask[:, None] if mask.ndim == 3 else mask
  scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
  weights = weights.reshape(
      batch, groups, heads // groups * length, keys.shape[2]
  )
  mixed = jnp.einsum("bgqu,bgud->bgqd", weights, values)
  return mixed.reshape(batch, heads, length, dim)


class Attention(nnx.Module):
  """Projects to heads, turns queries and keys, attends, projects back."""

  def __init__(self, config: families.TransformerConfig, *, rngs: nnx.Rngs):
    self.heads = config.num_attention_heads
    self.kv_heads = config.num_key_value_heads
    self.head_dim = config.head_dim
    self.rope_theta, self.rope_scaling = config.rope_theta, config.rope_scaling
    self.qk_norm = config.family.qk_norm
    init = nnx.initializers.normal(0.02)

    def project(width_in: int, width_out: int, bias: bool) -> dense.Dense:
      return dense.Dense(
          width_in, width_out, use_bias=bias, kernel_init=init, rngs=rngs
      )

    hidden, bias = config.hidden_size, config.family.attention_bias
    self.q_proj = project(hidden, self.heads * self.head_dim, bias)
    self.k_proj = project(hidden, self.kv_heads * self.head_dim, bias)
    self.v_proj = project(hidden, self.kv_heads * self.head_dim, bias)
    self.o_proj = project(self.heads * self.head_dim, hidden, False)
    if self.qk_norm:
      self.q_norm = rms_norm.RMSNorm(self.head_dim, config.rms_norm_eps)
      self.k_norm = rms_norm.RMSNorm(self.head_dim, config.rms_norm_eps)

  def _split(self, x: Float[Array, "B S N"], heads: int) -> Array:
    batch, length, _ = x.shape
    x = x.reshape(batch, length, heads, self.head_dim)
    return x.transpose(0, 2, 1, 3)

  def __call__(
      self,
      x: Float[Array, "B S N"],
      positions: Int[Array, "S"] | Int[Array, "B S"],
      add_to_cache: AddToCache,
      attend: Callable[[Array, Array, Array], Array],
  ) -> tuple[Float[Array, "B S N"], kv_cache.LayerCache]:
    """Attends from `x` to everything in the cache once `x` is added to it.

    Args:
      x: hidden states.
      positions: of each token of `x`, the same in all rows or one list a row.
      add_to_cache: makes the new cache from the keys and values of `x`.
      attend: an `Attend` that knows its mask.

    Returns:
      The output and the new cache.
    """
    angles = rotary.rotary_angles(
        positions, self.head_dim, self.rope_theta, self.rope_scaling
    )
    queries = self._split(self.q_proj(x), self.heads)
    keys = self._split(self.k_proj(x), self.kv_heads)
    values = self._split(self.v_proj(x), self.kv_heads)
    if self.qk_norm:
      queries, keys = self.q_norm(queries), self.k_norm(keys)
    queries, keys = rotary.rotate(queries, angles), rotary.rotate(keys, angles)
    cache = add_to_cache(keys, values)
    mixed = attend(queries, cache.keys, cache.values)
    width = self.heads * mixed.shape[-1]
    mixed = mixed.transpose(0, 2, 1, 3).reshape(*x.shape[:2], width)
    return self.o_proj(mixed), cache
