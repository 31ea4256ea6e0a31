"""Completions whose random numbers belong to the problem, not to the batch.

`generate` numbers its rows by their place. Here each row brings a number of
its own, made from the name of its problem: a completion stays the same when
problems before it are left out, done already, or batched otherwise, except
where rounding tips the balance between two tokens.
"""

from collections.abc import Callable
import hashlib

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from poise_jax.rollout import (
    generate,
    programs,
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
    shardings: programs.Shardings | None = None,
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
    shardings: of params, prompts and completions; if None, as they come.

  Returns:
    A function of (params, prompts, numbers, key); the N / P numbers of the
    rows of one prompt are consecutive entries.
  """
  writing = programs.Writing(sampler, max_length, eos_ids, pad_id, temperature)
  write = segments.make_write(
      programs.make_start(graphdef, writing, shardings),
      programs.make_advance(graphdef, writing, shardings),
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
