"""Prefill and decoding, compiled: programs that know where their arrays lie."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

from flax import nnx
import jax
from jaxtyping import Array, Int, Key

from poise_jax import sharding
from poise_jax.rollout import decoding as decoding_lib
from poise_jax.rollout import prompt_batches, sampling, segments


class Shardings(NamedTuple):
  """Where arrays are, on one mesh.

  Attributes:
    params: of the policy, in its structure.
    rows: of prompts and completions.
  """

  params: Any
  rows: jax.sharding.NamedSharding


class Writing(NamedTuple):
  """How tokens are chosen, and what ends a completion.

  Attributes:
    sampler: chooses from logits that are divided by the temperature.
    max_length: most tokens of a completion.
    eos_ids: tokens that end a completion.
    pad_id: fills the rest.
    temperature: of sampling.
  """

  sampler: sampling.Sampler
  max_length: int
  eos_ids: tuple[int, ...]
  pad_id: int
  temperature: float = 1.0


def on_mesh(mesh: jax.sharding.Mesh, params: Any) -> Shardings:
  """Rows split over the mesh, weights where `params` says."""
  return Shardings(params, sharding.named(mesh, "completion"))


def make_start(
    graphdef: nnx.GraphDef,
    writing: Writing,
    shardings: Shardings | None = None,
) -> segments.StartFn:
  """Makes the program that reads prompts, see `decoding.prefill`.

  Args:
    graphdef: structure of the policy.
    writing: how completions are written.
    shardings: of arguments and result; if None, as they come.

  Returns:
    A function of (params, prompts, numbers of the rows, key, room); the last
    is static.
  """
  where = {}
  if shardings is not None:
    where = {
        "in_shardings": (*shardings, shardings.rows, None),
        "out_shardings": _of_decoding(shardings),
    }

  @functools.partial(jax.jit, static_argnums=4, **where)
  def start(
      params: nnx.State,
      prompts: prompt_batches.Prompts,
      rows: Int[Array, "N"],
      key: Key[Array, ""],
      room: int,
  ) -> decoding_lib.Decoding:
    return decoding_lib.prefill(
        nnx.merge(graphdef, params),
        *(prompts, rows, key),
        room=room,
        max_length=writing.max_length,
    )

  return start


def make_advance(
    graphdef: nnx.GraphDef,
    writing: Writing,
    shardings: Shardings | None = None,
) -> segments.AdvanceFn:
  """Makes the program that writes tokens, see `decoding.advance`.

  Args:
    graphdef: structure of the policy.
    writing: how completions are written.
    shardings: of arguments and results; if None, as they come.

  Returns:
    A function of (params, decoding, length, width of the prompts); numbers are
    static, and the memory of the decoding is used again.
  """
  where = {}
  if shardings is not None:
    state = _of_decoding(shardings)
    mesh = shardings.rows.mesh
    where = {
        "in_shardings": (shardings.params, state),
        "out_shardings": (state, sharding.named(mesh, None, "completion")),
    }

  @functools.partial(jax.jit, static_argnums=(2, 3), donate_argnums=1, **where)
  def advance(
      params: nnx.State, state: decoding_lib.Decoding, length: int, width: int
  ) -> tuple[decoding_lib.Decoding, decoding_lib.Written]:
    return _advance(nnx.merge(graphdef, params), writing, state, length, width)

  return advance


def make_at_once(
    graphdef: nnx.GraphDef,
    writing: Writing,
    shardings: Shardings | None = None,
) -> Callable[..., tuple[Array, ...]]:
  """Makes one program of prefill and all steps.

  Args:
    graphdef: structure of the policy.
    writing: how completions are written.
    shardings: of arguments and results; if None, as they come.

  Returns:
    A function of (params, prompts, numbers of the rows, key) to tokens,
    log-probabilities, mask, and whether rows have ended.
  """
  where = {}
  if shardings is not None:
    where = {
        "in_shardings": (*shardings, shardings.rows, None),
        "out_shardings": shardings.rows,
    }

  @functools.partial(jax.jit, **where)
  def write(
      params: nnx.State,
      prompts: prompt_batches.Prompts,
      rows: Int[Array, "N"],
      key: Key[Array, ""],
  ) -> tuple[Array, ...]:
    model = nnx.merge(graphdef, params)
    length, width = writing.max_length, prompts.tokens.shape[1]
    state = decoding_lib.prefill(
        *(model, prompts, rows, key), room=length, max_length=length
    )
    state, written = _advance(model, writing, state, length, width)
    return (*(x.T for x in written), 1.0 - state.alive)

  return write


def _advance(
    model: Any,
    writing: Writing,
    state: decoding_lib.Decoding,
    length: int,
    width: int,
) -> tuple[decoding_lib.Decoding, decoding_lib.Written]:
  return decoding_lib.advance(
      model,
      state,
      writing.sampler,
      length=length,
      prompt_length=width,
      temperature=writing.temperature,
      eos_ids=writing.eos_ids,
      pad_id=writing.pad_id,
  )


def _of_decoding(shardings: Shardings) -> Any:
  """Where the parts of a `Decoding` are: rows split, heads of the cache too."""
  rows, mesh = shardings.rows, shardings.rows.mesh
  return decoding_lib.Decoding(
      step=sharding.replicated(mesh),
      logits=rows,
      cache=sharding.named(mesh, "completion", "kv_heads"),
      starts=rows,
      uniforms=rows,
      rows=rows,
      alive=rows,
      enough=sharding.replicated(mesh),
  )
