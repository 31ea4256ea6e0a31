"""Token by token: the state of a batch of completions, and what changes it.

Three pure functions of the policy and a `Decoding`: `prefill` makes it from
prompts, `advance` writes some tokens to every row, `resize` leaves out rows
that have ended and makes room for more tokens. All rows write to one slot of
the cache at a time, so padding is at the left of prompts.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from poise_jax import sharding
from poise_jax.models import kv_cache, transformer
from poise_jax.rollout import prompt_batches, sampling


class Decoding(NamedTuple):
  """Rows between two tokens.

  Attributes:
    step: tokens that each row has been given.
    logits: of the next token, f32.
    cache: keys and values, prompts and completions.
    starts: padding at the left of each row; None where there is none.
    uniforms: one number for each token that may come.
    rows: place of each row in the batch that was prefilled.
    alive: 1.0 while a row has not ended.
    enough: `advance` returns once no more rows than these go on.
  """

  step: Int[Array, ""]
  logits: Float[Array, "B V"]
  cache: transformer.Cache
  starts: Int[Array, "B"] | None
  uniforms: Float[Array, "B T"]
  rows: Int[Array, "B"]
  alive: Float[Array, "B"]
  enough: Int[Array, ""]


class Written(NamedTuple):
  """Tokens of a stretch of steps; see `generate.Completions`."""

  tokens: Int[Array, "L B"]
  logprobs: Float[Array, "L B"]
  mask: Float[Array, "L B"]


def prefill(
    model: transformer.Transformer,
    prompts: prompt_batches.Prompts,
    rows: Int[Array, "B"],
    key: Key[Array, ""],
    *,
    room: int,
    max_length: int,
) -> Decoding:
  """Reads each prompt once, for all its completions.

  Args:
    model: the policy.
    prompts: P of them.
    rows: numbers of the completions, B / P consecutive ones a prompt. They
      decide, with the key, what is sampled.
    key: for sampling.
    room: tokens for which the cache has slots.
    max_length: tokens that may be sampled in all.
  """
  copies = rows.shape[0] // prompts.tokens.shape[0]
  hidden, cache = model.hidden(prompts.tokens, starts=prompts.starts)
  tile = lambda x: jnp.repeat(x, copies, axis=0)
  decoding = Decoding(
      step=jnp.int32(0),
      logits=tile(model.logits(hidden[:, -1])),
      cache=tuple(
          kv_cache.extend(kv_cache.tile(layer, copies), room) for layer in cache
      ),
      starts=None if prompts.starts is None else tile(prompts.starts),
      uniforms=sampling.row_uniforms(key, rows, max_length),
      rows=jnp.arange(rows.shape[0]),
      alive=jnp.ones(rows.shape[0]),
      enough=jnp.int32(0),
  )
  return _split_by_rows(decoding)


def advance(
    model: transformer.Transformer,
    decoding: Decoding,
    sampler: sampling.Sampler,
    *,
    length: int,
    prompt_length: int,
    temperature: float,
    eos_ids: tuple[int, ...],
    pad_id: int,
) -> tuple[Decoding, Written]:
  """Writes tokens to every row, until one of these is so.

  `length` tokens are written, the cache is full, or no more than `enough` rows
  go on. What is left of the stretch is padding, with a mask of 0.

  Args:
    model: the policy.
    decoding: rows and their cache.
    sampler: chooses from logits that are divided by the temperature.
    length: most tokens.
    prompt_length: slots that the prompts take.
    temperature: see `generate.make_generate`.
    eos_ids: tokens that end a row.
    pad_id: stands in rows that have ended.
  """
  shape = (length, decoding.alive.shape[0])
  first, room = decoding.step, decoding.cache[0].keys.shape[2] - prompt_length
  # Where fewer tokens than a stretch are left, it starts before the first.
  start = jnp.minimum(first, decoding.uniforms.shape[1] - length)
  # Time goes first: XLA keeps the columns of one step contiguous.
  uniforms = jax.lax.dynamic_slice_in_dim(
      decoding.uniforms, start, length, axis=1
  ).T
  written = Written(
      jnp.full(shape, pad_id, jnp.int32), jnp.zeros(shape), jnp.zeros(shape)
  )

  def unfinished(carry: tuple[Decoding, Written]) -> Bool[Array, ""]:
    decoding, _ = carry
    end = jnp.minimum(first + length, room)
    return (decoding.step < end) & (jnp.sum(decoding.alive) > decoding.enough)

  def one(carry: tuple[Decoding, Written]) -> tuple[Decoding, Written]:
    decoding, written = carry
    alive, index = decoding.alive, decoding.step - first
    logits = decoding.logits
    if temperature != 1.0:
      logits = logits / temperature
    chosen = sampler(logits, uniforms[decoding.step - start])
    chosen = jnp.where(alive > 0, chosen, pad_id).astype(jnp.int32)
    logprobs = jax.nn.log_softmax(logits)
    logprob = jnp.take_along_axis(logprobs, chosen[:, None], 1)[:, 0]
    slot = prompt_length + decoding.step
    seen = _seen(decoding, slot)
    logits, cache = model.decode(chosen, slot, decoding.cache, *seen)
    ended = jnp.isin(chosen, jnp.array(eos_ids, jnp.int32))
    return decoding._replace(
        step=decoding.step + 1,
        logits=logits,
        cache=cache,
        alive=alive * ~ended,
    ), Written(
        written.tokens.at[index].set(chosen),
        written.logprobs.at[index].set(jnp.where(alive > 0, logprob, 0.0)),
        written.mask.at[index].set(alive),
    )

  return jax.lax.while_loop(unfinished, one, (decoding, written))


def _seen(
    decoding: Decoding, slot: Int[Array, ""]
) -> tuple[Int[Array, "B"] | None, Bool[Array, "B U"] | None]:
  """Positions of the next tokens and the slots they see, where not all do."""
  if decoding.starts is None:
    return None, None
  slots = jnp.arange(decoding.cache[0].keys.shape[2])
  visible = (slots >= decoding.starts[:, None]) & (slots <= slot)
  return slot - decoding.starts, visible


def resize(
    decoding: Decoding,
    count: int,
    capacity: int,
    shards: int = 1,
    move: bool = False,
) -> Decoding:
  """Keeps `count` rows, those that go on before those that have ended.

  Args:
    decoding: B rows.
    count: rows to keep, B or fewer; rows that go on must not be more.
    capacity: slots of the new cache, at least those of the old one.
    shards: equal parts of the rows that lie on different devices. Each keeps
      as many as the others.
    move: whether rows may go from one part to another. Then those that go on
      are dealt evenly, else none in a part may be more than its share.
  """
  if count < decoding.alive.shape[0]:
    take = _deal_rows if move else _take_rows
    choose = functools.partial(take, alive=decoding.alive, shards=shards)
    by_row = lambda x: choose(x, count) if x.ndim else x
    decoding = jax.tree.map(by_row, decoding)
  room = capacity - decoding.cache[0].keys.shape[2]
  cache = tuple(kv_cache.extend(layer, room) for layer in decoding.cache)
  return _split_by_rows(decoding._replace(cache=cache))


def _take_rows(
    x: Array, count: int, alive: Float[Array, "B"], shards: int
) -> Array:
  """Rows that go on before others, from each part its share."""
  parts = alive.reshape(shards, -1)
  kept = jnp.argsort(-parts, axis=1, stable=True)[:, : count // shards]
  x = x.reshape(shards, -1, *x.shape[1:])
  chosen = jax.vmap(lambda part, index: part[index])(x, kept)
  return chosen.reshape(-1, *x.shape[2:])


def _deal_rows(
    x: Array, count: int, alive: Float[Array, "B"], shards: int
) -> Array:
  """Rows that go on before others, to each part one in turn."""
  kept = jnp.argsort(-alive, stable=True)[:count]
  return x[kept.reshape(-1, shards).T.reshape(-1)]


def _split_by_rows(decoding: Decoding) -> Decoding:
  """Rows, and heads of the cache, stay on the devices they are on."""
  by_row = lambda x: sharding.constrain(x, "completion") if x.ndim else x
  cache = tuple(
      kv_cache.LayerCache(
          *(sharding.constrain(x, "completion", "kv_heads") for x in layer)
      )
      for layer in decoding.cache
  )
  rest = jax.tree.map(by_row, decoding._replace(cache=()))
  return rest._replace(cache=cache)
