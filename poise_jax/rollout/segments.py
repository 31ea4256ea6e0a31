"""Long completions in stretches: rows that have ended leave the batch.

A batch whose completions have 800 tokens on average and 3000 at most would cost
3000 steps of all rows. So it is decoded in stretches: one ends as soon as the
rows that go on fit a smaller batch, or its cache is full. Each size of batch
and cache is a program of its own, compiled when it is first met; there are few,
for caches double, and batches are powers of two or halfway between.
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


def sizes(part: int) -> list[int]:
  """Sizes that a part of a batch shrinks to, its own first.

  Each is at least a quarter smaller than the last. Below eight rows, halfway
  between powers of two is not worth a program.

  Args:
    part: rows of the batch on one device.
  """
  powers = [2**k for k in range(part.bit_length())]
  steps = {
      size for p in powers for size in (p, p // 2 * 3) if p > 4 or size == p
  }
  return [part] + sorted((s for s in steps if 4 * s <= 3 * part), reverse=True)


class Fit(NamedTuple):
  """A batch for the rows that go on.

  Attributes:
    rows: of the batch.
    move: whether rows go to other shards.
    enough: rows that go on once the next smaller batch will do.
  """

  rows: int
  move: bool
  enough: int


def fit(rows: int, most: int, total: int, shards: int) -> Fit:
  """The smallest batch that will do.

  Rows stay in their shard, unless to deal them anew makes a smaller batch. As
  a device may see all rows for that, they are then at most twice those that it
  had before.

  Args:
    rows: of the batch, a multiple of `shards`.
    most: rows that go on, in the shard that has most of them.
    total: rows that go on.
    shards: parts that stay equal.
  """
  part = rows // shards
  may_move = lambda size: size * shards <= 2 * part
  stay = min(size for size in sizes(part) if size >= most)
  dealt = [s for s in sizes(part) if s * shards >= total and may_move(s)]
  move = bool(dealt) and min(dealt) < stay
  part = min(dealt) if move else stay
  less = (s for s in sizes(part) if s < part and may_move(s))
  return Fit(part * shards, move, next(less, 0) * shards)


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
    advance: (params, decoding, length, prompt length) to the state at the end
      of a stretch of at most `length` tokens and those tokens, see
      `decoding.advance`; both numbers are static.
    max_length: most tokens of a completion.
    segment: most tokens of a stretch, and the first size of the cache; at most
      `max_length`.
    pad_id: fills the rest of a completion.
  """

  def write(
      params: nnx.State,
      prompts: prompt_batches.Prompts,
      rows: Int[Array, "N"],
      key: Key[Array, ""],
  ) -> Text:
    width = prompts.tokens.shape[1]
    state = start(params, prompts, rows, key, segment)
    text = _blank(state.alive, max_length + segment, pad_id)
    shards = _shards(state.alive)
    count, room = state.alive.shape[0], segment
    while True:
      most, total, step = map(int, jax.device_get(_progress(state, shards)))
      if not total or step == max_length:
        return _cut(text, max_length)
      wanted = fit(count, most, total, shards)
      larger_room = larger(room, step + 1, max_length)
      if (wanted.rows, larger_room) != (count, room):
        count, room = wanted.rows, larger_room
        state = _resize(state, count, width + room, shards, wanted.move)
      state = state._replace(enough=jnp.int32(wanted.enough))
      state, written = advance(params, state, segment, width)
      text = _record(text, written, state, jnp.int32(step))

  return write


_resize = jax.jit(decoding_lib.resize, static_argnums=(1, 2, 3, 4))


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
def _progress(
    state: decoding_lib.Decoding, shards: int
) -> tuple[Float[Array, ""], Float[Array, ""], Int[Array, ""]]:
  """Most rows of a shard that go on, all that do, and tokens of each."""
  parts = jnp.sum(state.alive.reshape(shards, -1), axis=1)
  return jnp.max(parts), jnp.sum(parts), state.step


@functools.partial(jax.jit, donate_argnums=0)
def _record(
    text: Text,
    written: decoding_lib.Written,
    state: decoding_lib.Decoding,
    first: Int[Array, ""],
) -> Text:
  """Puts a stretch, which may be of some rows only, where it belongs."""
  length = written.tokens.shape[0]

  def put(whole: Array, part: Array) -> Array:
    return sharding.constrain(whole.at[state.rows].set(part), "completion")

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


@functools.partial(jax.jit, static_argnums=1)
def _cut(text: Text, length: int) -> Text:
  """The text without the room for a stretch at its end."""
  *by_token, finished = text
  return Text(*(x[:, :length] for x in by_token), finished)
