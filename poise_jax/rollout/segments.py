"""Long completions in stretches: rows that have ended leave the batch.

A batch whose completions have 800 tokens on average and 3000 at most would cost
3000 steps of all rows. So it is decoded in stretches of some tokens; between
two of them the batch is halved for as long as the rows that go on fit, and the
cache grows as it fills up. Each size of batch and cache is a program of its
own, compiled when it is first met; there are few, for sizes double.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from poise_jax import sharding
from poise_jax.rollout import decoding as decoding_lib
from poise_jax.rollout import prompt_batches


class Text(NamedTuple):
  """What has been written so far, all rows of a batch.

  Attributes:
    tokens: as in `generate.Completions`, as the others are.
    logprobs: of the tokens.
    mask: of the tokens.
    finished: whether a row has ended.
  """

  tokens: Int[Array, "N T"]
  logprobs: Float[Array, "N T"]
  mask: Float[Array, "N T"]
  finished: Float[Array, "N"]


StartFn = Callable[..., decoding_lib.Decoding]
AdvanceFn = Callable[..., tuple[decoding_lib.Decoding, decoding_lib.Written]]


def smaller(rows: int, alive: int, shards: int) -> int:
  """Rows of the batch in which those that go on fit: halved while they do.

  Args:
    rows: of the batch, a multiple of `shards`.
    alive: rows that go on, in the shard that has most.
    shards: parts that stay equal.
  """
  part = rows // shards
  while part % 2 == 0 and alive <= part // 2:
    part //= 2
  return part * shards


def larger(capacity: int, needed: int, most: int) -> int:
  """Tokens for which the cache has room: doubled until it is enough."""
  while capacity < needed:
    capacity *= 2
  return min(capacity, most)


def make_write(
    start: StartFn,
    advance: AdvanceFn,
    *,
    max_length: int,
    segment: int,
    pad_id: int,
) -> Callable[
    [nnx.State, prompt_batches.Prompts, Int[Array, "N"], Key[Array, ""]], Text
]:
  """Makes the loop over stretches.

  Args:
    start: (params, prompts, rows, key, room) to the state before the first
      token; `room` is static.
    advance: (params, decoding, length, prompt length) to the state `length`
      tokens later and those tokens; both numbers are static.
    max_length: most tokens of a completion.
    segment: tokens of a stretch.
    pad_id: fills the rest of a completion.
  """

  def write(
      params: nnx.State,
      prompts: prompt_batches.Prompts,
      rows: Int[Array, "N"],
      key: Key[Array, ""],
  ) -> Text:
    width = prompts.tokens.shape[1]
    room = min(segment, max_length)
    state = start(params, prompts, rows, key, room)
    text = _blank(state.alive, max_length, pad_id)
    shards = _shards(state.alive)
    for first in range(0, max_length, segment):
      if first:
        alive = int(_most_alive(state.alive, shards))
        if not alive:
          break
        needed = min(first + segment, max_length)
        room = larger(room, needed, max_length)
        count = smaller(state.alive.shape[0], alive, shards)
        slots = width + room
        if (count, slots) != _sizes(state):
          state = _resize(state, count, slots, shards)
      length = min(segment, max_length - first)
      state, written = advance(params, state, length, width)
      text = _record(text, written, state, jnp.int32(first), shards)
    return text

  return write


_resize = jax.jit(decoding_lib.resize, static_argnums=(1, 2, 3))


def _sizes(state: decoding_lib.Decoding) -> tuple[int, int]:
  """Rows, and slots of the cache."""
  return state.alive.shape[0], state.cache[0].keys.shape[2]


def _shards(rows: jax.Array) -> int:
  """Over how many devices rows are split."""
  return rows.shape[0] // rows.sharding.shard_shape(rows.shape)[0]


@functools.partial(jax.jit, static_argnums=(1, 2))
def _blank(alive: Float[Array, "N"], length: int, pad_id: int) -> Text:
  # Made from an array of rows, to lie where its rows lie.
  empty = jnp.zeros((1, length)) * alive[:, None]
  return Text(
      jnp.full_like(empty, pad_id, jnp.int32), empty, empty, 1.0 - alive
  )


@functools.partial(jax.jit, static_argnums=1)
def _most_alive(alive: Float[Array, "B"], shards: int) -> Float[Array, ""]:
  """Rows that go on, in the shard that has most of them."""
  return jnp.max(jnp.sum(alive.reshape(shards, -1), axis=1))


@functools.partial(jax.jit, static_argnums=4, donate_argnums=0)
def _record(
    text: Text,
    written: decoding_lib.Written,
    state: decoding_lib.Decoding,
    first: Int[Array, ""],
    shards: int,
) -> Text:
  """Puts a stretch, which may be of some rows only, where it belongs."""
  length = written.tokens.shape[0]
  size = text.finished.shape[0] // shards
  places = state.rows.reshape(shards, -1) - size * jnp.arange(shards)[:, None]

  def put(whole: Array, part: Array) -> Array:
    parts = part.reshape(shards, -1, *part.shape[1:])
    whole = whole.reshape(shards, size, *whole.shape[1:])
    whole = jax.vmap(lambda w, i, p: w.at[i].set(p))(whole, places, parts)
    whole = whole.reshape(-1, *whole.shape[2:])
    return sharding.constrain(whole, "completion")

  def put_stretch(whole: Array, part: Array) -> Array:
    stretch = jax.lax.dynamic_slice_in_dim(whole, first, length, axis=1)
    return jax.lax.dynamic_update_slice_in_dim(
        whole, put(stretch, part.T), first, axis=1
    )

  stretches = (
      put_stretch(whole, part)
      for whole, part in zip(text[:3], written, strict=True)
  )
  return Text(*stretches, put(text.finished, 1.0 - state.alive))
