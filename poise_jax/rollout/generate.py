"""Completions of a batch of prompts: prefill once, then decode with a cache."""

from collections.abc import Callable
import dataclasses
import functools
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from poise_jax import sharding
from poise_jax.rollout import programs, prompt_batches, sampling, segments


class Completions(NamedTuple):
  """What a policy wrote after each prompt.

  Attributes:
    tokens: completion tokens, `pad_id` after the end.
    logprobs: of each token under the policy, before any filter, at the
      temperature it was sampled with; 0 after the end.
    mask: 1.0 on tokens of the completion, end-of-text included.
    finished: whether end-of-text came within the limit.
  """

  tokens: Int[Array, "N T"]
  logprobs: Float[Array, "N T"]
  mask: Float[Array, "N T"]
  finished: Float[Array, "N"]


GenerateFn = Callable[
    [nnx.State, prompt_batches.Prompts, Key[Array, ""]], Completions
]


@dataclasses.dataclass(frozen=True)
class Schedule:
  """How decoding trades memory, time and programs to compile.

  None of it changes what is sampled, beyond rounding.

  Attributes:
    segment: most tokens between two moments at which rows that have ended leave
      the batch, and the first size of the cache, see `segments`; 0 decodes all
      rows to the end of the longest in one program. For completions of some
      hundred tokens and more, 64 to 256.
    prompts_at_once: prompts whose completions are decoded together, to bound
      the memory of the cache; 0 is all.
  """

  segment: int = 0
  prompts_at_once: int = 0

  def __post_init__(self):
    for name in ("segment", "prompts_at_once"):
      if getattr(self, name) < 0:
        raise ValueError(f"`{name}` must be >= 0, got {getattr(self, name)}")


def make_generate(
    graphdef: nnx.GraphDef,
    sampler: sampling.Sampler,
    *,
    copies: int,
    max_length: int,
    eos_ids: tuple[int, ...],
    pad_id: int,
    temperature: float = 1.0,
    schedule: Schedule = Schedule(),
    shardings: programs.Shardings | None = None,
) -> GenerateFn:
  """Compiles a generator of `copies` completions for each prompt.

  A prompt is read once and its cache is tiled. All rows advance together, and
  decoding ends as soon as every row has. A row's completion depends on the key
  and on its number (prompt · copies + copy) alone: not on its neighbours, and
  not on the size of the batch or the `schedule`, except where rounding tips the
  balance between two tokens.

  Args:
    graphdef: structure of the policy.
    sampler: how to choose a token.
    copies: completions of each prompt.
    max_length: most tokens of a completion.
    eos_ids: tokens that end a completion; none never ends one.
    pad_id: token that fills the rest.
    temperature: logits are divided by it, before the sampler sees them and for
      log-probabilities.
    schedule: in which pieces.
    shardings: of params, prompts and completions; on several devices, call
      within `jax.set_mesh`. If None, as they come.

  Returns:
    A function of (params, prompts, key). Params are used where they are and in
    the type they have; logits are f32 in any case. Completions are split over
    devices as the prompts are.

  Raises:
    ValueError: if a number is out of its range; on a call, if
      `schedule.prompts_at_once` does not divide the prompts.
  """
  _check(copies, max_length, temperature)
  writing = programs.Writing(sampler, max_length, eos_ids, pad_id, temperature)
  if schedule.segment and schedule.segment < max_length:
    write = segments.make_write(
        programs.make_start(graphdef, writing, shardings),
        programs.make_advance(graphdef, writing, shardings),
        max_length=max_length,
        segment=schedule.segment,
        pad_id=pad_id,
    )
  else:
    write = programs.make_at_once(graphdef, writing, shardings)
  return functools.partial(_in_parts, write, schedule.prompts_at_once, copies)


def _check(copies: int, max_length: int, temperature: float) -> None:
  """Refuses numbers that are out of their range."""
  if copies < 1 or max_length < 1:
    raise ValueError(
        "`copies` and `max_length` must be at least 1, got"
        f" {copies} and {max_length}"
    )
  if not temperature > 0:
    raise ValueError(
        f"`temperature` must be positive, got {temperature}; for the most"
        " probable tokens pass `sampling.greedy`"
    )


def _in_parts(
    write: Callable[..., tuple[Array, ...]],
    at_once: int,
    copies: int,
    params: nnx.State,
    prompts: prompt_batches.Prompts,
    key: Key[Array, ""],
) -> Completions:
  """Completions of some prompts after the other, in the order of prompts."""
  parts = _parts(prompts.tokens.shape[0], at_once)
  found = [
      Completions(*write(params, *_deal(prompts, parts, part, copies), key))
      for part in map(jnp.int32, range(parts))
  ]
  return found[0] if parts == 1 else _gather(found, copies)


def _parts(prompts: int, at_once: int) -> int:
  """In how many parts prompts are decoded."""
  if not at_once or at_once >= prompts:
    return 1
  if prompts % at_once:
    raise ValueError(
        "`schedule.prompts_at_once` must divide the number of prompts, got"
        f" {at_once} for {prompts}"
    )
  return prompts // at_once


@functools.partial(jax.jit, static_argnums=(1, 3))
def _deal(
    prompts: prompt_batches.Prompts,
    parts: int,
    part: Int[Array, ""],
    copies: int,
) -> tuple[prompt_batches.Prompts, Int[Array, "N"]]:
  """One part of the prompts, dealt in turn, and the numbers of its rows.

  In turn, and not in blocks, so that prompts that are split over devices stay
  where they are.
  """
  count = prompts.tokens.shape[0]
  cut = lambda x: x.reshape(count // parts, parts, *x.shape[1:])[:, part]
  numbers = cut(jnp.arange(count))[:, None] * copies + jnp.arange(copies)
  dealt = jax.tree.map(cut, prompts), numbers.reshape(-1)
  return jax.tree.map(lambda x: sharding.constrain(x, "prompt"), dealt)


@functools.partial(jax.jit, static_argnums=1)
def _gather(found: list[Completions], copies: int) -> Completions:
  """Undoes `_deal`."""

  def join(*parts: Array) -> Array:
    stacked = jnp.stack([x.reshape(-1, copies, *x.shape[1:]) for x in parts], 1)
    return stacked.reshape(-1, *stacked.shape[3:])

  return jax.tree.map(join, *found)
