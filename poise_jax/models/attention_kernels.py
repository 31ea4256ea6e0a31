"""Attention functions for accelerators, and which platform takes which."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from poise_jax.models import attention


def fits_cudnn(
    queries: jax.ShapeDtypeStruct | Array, keys: jax.ShapeDtypeStruct | Array
) -> bool:
  """Whether cuDNN's flash attention takes these on any GPU since Ampere.

  Half precision, and heads of at most 128 features and a multiple of 8. Single
  queries (decoding) are left out: there is nothing to save, and the cache would
  be transposed.
  """
  _, _, length, dim = queries.shape
  return (
      queries.dtype in (jnp.bfloat16, jnp.float16)
      and keys.dtype == queries.dtype
      and dim <= 128
      and dim % 8 == 0
      and length > 1
  )


def _dot_product(
    implementation: str,
    queries: Array,
    keys: Array,
    values: Array,
    mask: Array,
    causal: int | None,
) -> Array:
  """`jax.nn.dot_product_attention` in our layout."""
  # Its own causal mask starts at the first key: with an offset it is no use.
  whole = causal == 0 and queries.shape[2] == keys.shape[2]
  mask = mask[:, None] if mask.ndim == 3 else mask[None, None]
  mixed = jax.nn.dot_product_attention(
      *(x.transpose(0, 2, 1, 3) for x in (queries, keys, values)),
      mask=None if whole else mask,
      is_causal=whole,
      implementation=implementation,
  )
  return mixed.transpose(0, 2, 1, 3)


def attend_xla(
    queries: Float[Array, "B H S D"],
    keys: Float[Array, "B K U D"],
    values: Float[Array, "B K U D"],
    mask: attention.Mask,
    causal: int | None = None,
) -> Float[Array, "B H S D"]:
  """`attention.Attend` by XLA, all scores at once; runs everywhere."""
  return _dot_product("xla", queries, keys, values, mask, causal)


def _attend_cudnn(
    queries: Float[Array, "B H S D"],
    keys: Float[Array, "B K U D"],
    values: Float[Array, "B K U D"],
    mask: attention.Mask,
    causal: int | None = None,
) -> Float[Array, "B H S D"]:
  return _dot_product("cudnn", queries, keys, values, mask, causal)


def attend_gpu(
    queries: Float[Array, "B H S D"],
    keys: Float[Array, "B K U D"],
    values: Float[Array, "B K U D"],
    mask: attention.Mask,
    causal: int | None = None,
) -> Float[Array, "B H S D"]:
  """`attention.Attend` by cuDNN where it fits, else by XLA.

  cuDNN reads no mask where rows are whole and unpadded; otherwise it takes
  one as a bias. Its gradient with a mask asks for even lengths. Not run on a
  GPU by the tests of this project: they check which calls cuDNN is given, and
  the XLA path on CPU.
  """
  if fits_cudnn(queries, keys):
    attend = at_even_lengths(_attend_cudnn)
  else:
    attend = in_query_blocks(attend_xla)
  return attend(queries, keys, values, mask, causal)


def at_even_lengths(attend: attention.Attend) -> attention.Attend:
  """An `attention.Attend` that adds a query or a key where they are odd.

  No query sees the added key; what the added query finds is cut off.

  Args:
    attend: for even numbers of queries and keys.
  """

  def attend_any(
      queries: Float[Array, "B H S D"],
      keys: Float[Array, "B K U D"],
      values: Float[Array, "B K U D"],
      mask: attention.Mask,
      causal: int | None = None,
  ) -> Float[Array, "B H S D"]:
    length, others = queries.shape[2], keys.shape[2]
    if causal is not None and others != length + causal:
      causal = None  # the added ones break the rule, else they follow it
    add = lambda x, count, **fill: jnp.pad(
        x, [(0, 0)] * (x.ndim - 2) + [(0, count % 2), (0, 0)], **fill
    )
    keys, values = add(keys, others), add(values, others)
    mask = jnp.swapaxes(add(jnp.swapaxes(mask, -1, -2), others), -1, -2)
    mask = add(mask, length, constant_values=True)
    mixed = attend(add(queries, length), keys, values, mask, causal)
    return mixed[:, :, :length]

  return attend_any


def in_query_blocks(
    attend: attention.Attend, size: int = 512
) -> attention.Attend:
  """An `attention.Attend` that has scores of `size` queries at a time.

  Rows up to that length are attended to at once. Longer ones cost the scores
  of a block again in the backward pass, and memory for one block alone.

  Args:
    attend: for a block of queries and all keys.
    size: queries of a block.
  """

  def attend_blocks(
      queries: Float[Array, "B H S D"],
      keys: Float[Array, "B K U D"],
      values: Float[Array, "B K U D"],
      mask: attention.Mask,
      causal: int | None = None,
  ) -> Float[Array, "B H S D"]:
    length = queries.shape[2]
    if length <= size:
      return attend(queries, keys, values, mask, causal)
    count = -(-length // size)

    def cut(x: Array, fill: float | bool) -> Array:
      widths = [(0, 0)] * x.ndim
      widths[-2] = (0, count * size - length)
      x = jnp.pad(x, widths, constant_values=fill)
      x = x.reshape(*x.shape[:-2], count, size, x.shape[-1])
      return jnp.moveaxis(x, -3, 0)

    one = jax.checkpoint(lambda q, m: attend(q, keys, values, m))
    mixed = jax.lax.map(
        lambda part: one(*part), (cut(queries, 0.0), cut(mask, True))
    )
    mixed = jnp.moveaxis(mixed, 0, 2)
    return mixed.reshape(*queries.shape[:2], count * size, -1)[:, :, :length]

  return attend_blocks


def for_platform(platform: str) -> attention.Attend:
  """The attention function for "cpu", "gpu" or "tpu"; XLA's for any other.

  On TPU the scores of 512 queries exist at once. jax's splash kernel would keep
  none, but it needs a `shard_map` over the mesh and could not be run here:
  whoever can run it gives it to `transformer.structure` as `attend`; `causal`
  tells it the mask.
  """
  if platform == "gpu":
    return attend_gpu
  plain = attention.attend if platform == "cpu" else attend_xla
  return in_query_blocks(plain)
