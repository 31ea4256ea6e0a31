"""Completions whose random numbers belong to the problem, not to the batch.

`generate` numbers its rows by their place. Here each row brings a number of
its own, made from the name of its problem: a completion stays the same when
problems before it are left out, done already, or batched otherwise, except
where rounding tips the balance between two tokens.
"""

from collections.abc import Callable
import functools
import hashlib

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from poise_jax.rollout import (
    decoding,
    generate,
    prompt_batches,
    sampling,
    segments,
)

# (params, prompts, numbers of the rows, key) to completions.
KeyedFn = Callable[
    [nnx.State, prompt_batches.Prompts, Int[Array, "N"], Key[Array, ""]],
    generate.Completions,
]

_NUMBERS = 1 << 31


def number(name: str) -> int:
  """A number from 0 to 2^31 - 1 for a name, the same in every process."""
  data = hashlib.sha256(name.encode()).digest()
  return int.from_bytes(data[:8]) % _NUMBERS


def numbers(name: str, copies: int) -> list[int]:
  """Row numbers of the copies of one problem: distinct, i.e. consecutive."""
  first = number(name)
  return [(first + copy) % _NUMBERS for copy in range(copies)]


def key_of(seed: int, name: str) -> Key[Array, ""]:
  """The key of a set: all policies meet the same random numbers in it."""
  return jax.random.fold_in(jax.random.key(seed), number(name))


def make(
    graphdef: nnx.GraphDef,
    sampler: sampling.Sampler,
    *,
    max_length: int,
    eos_ids: tuple[int, ...],
    pad_id: int,
    temperature: float = 1.0,
    segment: int = 128,
) -> KeyedFn:
  """Compiles a generator of rows with numbers of their own.

  Args:
    graphdef: structure of the policy.
    sampler: how to choose a token.
    max_length: most tokens of a completion.
    eos_ids: tokens that end a completion.
    pad_id: token that fills the rest.
    temperature: of sampling.
    segment: tokens between two moments at which rows that have ended leave.

  Returns:
    A function of (params, prompts, numbers, key); the N / P numbers of the
    rows of one prompt are consecutive entries.
  """
  start = jax.jit(
      functools.partial(_start, graphdef, max_length), static_argnums=4
  )
  advance = functools.partial(
      decoding.advance,
      sampler=sampler,
      temperature=temperature,
      eos_ids=eos_ids,
      pad_id=pad_id,
  )
  write = segments.make_write(
      start,
      jax.jit(
          functools.partial(_advance, graphdef, advance),
          static_argnums=(2, 3),
          donate_argnums=1,
      ),
      max_length=max_length,
      segment=min(segment, max_length),
      pad_id=pad_id,
  )

  def run(
      params: nnx.State,
      prompts: prompt_batches.Prompts,
      numbers: Int[Array, "N"],
      key: Key[Array, ""],
  ) -> generate.Completions:
    on_device = jax.tree.map(jnp.asarray, prompts)
    return generate.Completions(*write(params, on_device, numbers, key))

  return run


def _start(
    graphdef: nnx.GraphDef,
    max_length: int,
    params: nnx.State,
    prompts: prompt_batches.Prompts,
    rows: Int[Array, "N"],
    key: Key[Array, ""],
    room: int,
) -> decoding.Decoding:
  """Reads the prompts; see `segments.make_write`."""
  model = nnx.merge(graphdef, params)
  return decoding.prefill(
      model, prompts, rows, key, room=room, max_length=max_length
  )


def _advance(
    graphdef: nnx.GraphDef,
    advance: Callable[..., tuple[decoding.Decoding, decoding.Written]],
    params: nnx.State,
    state: decoding.Decoding,
    length: int,
    width: int,
) -> tuple[decoding.Decoding, decoding.Written]:
  """Writes a stretch; see `segments.make_write`."""
  model = nnx.merge(graphdef, params)
  return advance(model, state, length=length, prompt_length=width)
