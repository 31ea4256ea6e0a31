"""The programs of a training step, compiled for devices that are not here.

Nothing is computed and no weights are needed: arguments are shapes. CPU's
compiler stands in for that of the accelerator, unless devices of a TPU topology
are given; it plans memory in its own way and multiplies bf16 in f32, so that
temporary memory is a guide and not a promise.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import math
import time
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from poise_jax import sharding, types
from poise_jax.models import families, logical_axes, transformer
from poise_jax.rollout import decoding as decoding_lib
from poise_jax.rollout import engine as engine_lib
from poise_jax.rollout import programs as programs_lib
from poise_jax.rollout import prompt_batches, sampling, scoring, segments
from poise_jax.training import (
    config as config_lib,
)
from poise_jax.training import (
    optimizer as optimizer_lib,
)
from poise_jax.training import (
    policy_engine,
    throughput,
)
from poise_jax.training import (
    step as step_lib,
)
from poise_jax.training import (
    tuning as tuning_lib,
)

# No token is ever chosen: any id will do.
_EOS, _PAD = (0,), 0


class Program(NamedTuple):
  """One compiled program, bytes on one device.

  Attributes:
    name: what it does.
    flops: of its matrix products, on all devices together; None if unknown.
    arguments: bytes of what it is given.
    temporary: bytes while it runs.
    output: bytes of what it gives, without what overwrites its arguments.
    beside: bytes of weights and optimizer that live and are no argument.
    seconds: to compile.
  """

  name: str
  flops: float | None
  arguments: int
  temporary: int
  output: int
  beside: int
  seconds: float

  @property
  def peak(self) -> int:
    """Bytes that must be there while it runs."""
    return self.arguments + self.temporary + self.output + self.beside


class _Job(NamedTuple):
  """A program before it is compiled; see `Program`.

  Attributes:
    name: what it does.
    function: jitted.
    arguments: shapes, with their shardings; static ones as they are.
    beside: what else lives.
    flops: where it cannot be read from the program.
  """

  name: str
  function: Any
  arguments: tuple[Any, ...]
  beside: tuple[Any, ...]
  flops: float | None = None


def _bytes(tree: Any) -> int:
  """Bytes of arrays on one device."""
  return sum(
      math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
      for leaf in jax.tree.leaves(tree)
      if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
  )


def _compile(job: _Job) -> tuple[Program, Any]:
  """Compiles; also gives the shapes of the outputs, with shardings."""
  start = time.perf_counter()
  traced = job.function.trace(*job.arguments)
  shardings = [
      leaf.sharding
      for leaf in jax.tree.leaves(job.arguments)
      if isinstance(leaf, jax.ShapeDtypeStruct) and leaf.sharding is not None
  ]
  # Not the default platform: the mesh may be of devices that are not here.
  on_cpu = shardings[0].mesh.devices.flat[0].platform == "cpu"
  # The plan for memory is the same, and compiling takes a third of the time.
  options = {"xla_backend_optimization_level": 0} if on_cpu else None
  compiled = traced.lower().compile(options)
  seconds = time.perf_counter() - start
  memory = compiled.memory_analysis()
  flops = job.flops
  if flops is None:
    flops = throughput.matmul_flops(traced.jaxpr)
  outputs = tuning_lib.in_place(traced.out_info, compiled.output_shardings)
  return (
      Program(
          job.name,
          flops,
          memory.argument_size_in_bytes,
          memory.temp_size_in_bytes,
          memory.output_size_in_bytes - memory.alias_size_in_bytes,
          sum(map(_bytes, job.beside)),
          seconds,
      ),
      outputs,
  )


class _Shapes(NamedTuple):
  """Everything that a step is made of, as shapes with shardings."""

  graphdef: nnx.GraphDef
  tuning: tuning_lib.Tuning
  trained: Any
  frozen: tuple[Any, ...]
  opt_state: Any
  sampled: Any  # the params to sample with
  prompts: prompt_batches.Prompts  # of a whole rollout
  config: config_lib.TrainConfig
  mesh: jax.sharding.Mesh

  @property
  def reference(self) -> tuple[Any, ...]:
    """Params of a reference policy that is no part of the state."""
    return () if self.frozen or not self.config.reference else (self.trained,)

  @property
  def platform(self) -> str:
    """Of the devices, which may not be here."""
    return self.mesh.devices.flat[0].platform


def _rows(found: _Shapes, prompts: int) -> scoring.Rows:
  """Prompts and all their completions."""
  config, mesh = found.config, found.mesh
  width = found.prompts.tokens.shape[1]
  shape = (prompts * config.group_size, config.completion_length)
  rows = scoring.Rows(
      prompt_batches.Prompts(
          np.broadcast_to(np.int32(0), (prompts, width)),
          np.broadcast_to(np.int32(0), (prompts,)),
      ),
      np.broadcast_to(np.int32(0), shape),
      np.broadcast_to(np.float32(0), shape),
  )
  return tuning_lib.in_place(rows, sharding.batch_shardings(mesh, rows))


def _batch(found: _Shapes, prompts: int) -> types.RolloutBatch:
  """All else of one minibatch."""
  config, mesh = found.config, found.mesh
  group = (prompts, config.group_size)
  kinds = {
      **dict.fromkeys(
          (
              *("logprobs", "entropy", "old_logprobs", "sampler_logprobs"),
              *("ref_logprobs", "completion_mask"),
          ),
          (*group, config.completion_length),
      ),
      **dict.fromkeys(
          (
              *("rewards", "correct", "format_valid", "truncated", "lengths"),
              "staleness",
          ),
          group,
      ),
      "reward_components": (*group, 2),
      "history_pass_rate": (prompts,),
      "progress": (),
  }
  batch = jax.eval_shape(
      lambda: types.RolloutBatch(
          **{name: jnp.zeros(shape) for name, shape in kinds.items()},
          step=jnp.int32(0),
      )
  )
  leaves = jax.tree.leaves(batch)
  return tuning_lib.in_place(batch, sharding.batch_shardings(mesh, leaves))


def _decode_flops(found: _Shapes, decoding: decoding_lib.Decoding) -> float:
  """FLOPs of one more token in each row."""

  def decode(params: Any, cache: Any, tokens: Any, slot: Any) -> Any:
    model = nnx.merge(found.graphdef, params)
    return model.decode(tokens, slot, cache)

  tokens = jax.ShapeDtypeStruct(decoding.alive.shape, jnp.int32)
  slot = jax.ShapeDtypeStruct((), jnp.int32)
  traced = jax.jit(decode).trace(found.sampled, decoding.cache, tokens, slot)
  return throughput.matmul_flops(traced.jaxpr) or math.nan


def _rollout(found: _Shapes) -> Iterator[Program]:
  """Prefill, growth of the cache and one stretch of tokens."""
  config = found.config
  state = (*found.reference, found.trained, *found.frozen, found.opt_state)
  count = config.schedule.prompts_at_once or config.prompts
  rows = _rows(found, min(count, config.prompts))
  numbers = jax.ShapeDtypeStruct(
      rows.mask.shape[:1], jnp.int32, sharding=rows.mask.sharding
  )
  key = jax.eval_shape(lambda: jax.random.key(0))
  length = config.completion_length
  stretch = min(config.schedule.segment or length, length)

  writing = programs_lib.Writing(
      sampling.filtered(config.top_k, config.top_p),
      max_length=length,
      eos_ids=_EOS,
      pad_id=_PAD,
      temperature=config.temperature,
  )
  where = programs_lib.on_mesh(
      found.mesh, jax.tree.map(lambda p: p.sharding, found.sampled)
  )
  start = programs_lib.make_start(found.graphdef, writing, where)
  arguments = (found.sampled, rows.prompts, numbers, key, stretch)
  program, decoding = _compile(_Job("prefill", start, arguments, state))
  yield program
  width, rooms = rows.prompts.tokens.shape[1], [stretch]
  for first in range(stretch, length, stretch):
    needed = min(first + stretch, length)
    rooms.append(segments.larger(rooms[-1], needed, length))
  resize = jax.jit(decoding_lib.resize, static_argnums=(1, 2))
  for room in sorted(set(rooms))[1:]:
    arguments = (decoding, numbers.shape[0], width + room)
    job = _Job("grow cache", resize, arguments, (*state, found.sampled))
    program, decoding = _compile(job)
    if room == length:
      yield program
  of_token = _decode_flops(found, decoding)
  yield _compile(
      _Job(
          f"decode {stretch} tokens",
          programs_lib.make_advance(found.graphdef, writing, where),
          (found.sampled, decoding, stretch, width),
          state,
          of_token * stretch,
      )
  )[0]


def _update(found: _Shapes, algorithm: types.Algorithm) -> Iterator[Program]:
  """Scores of the reference, and the three parts of an update."""
  config, mesh = found.config, found.mesh
  params, opt_state = found.trained, found.opt_state
  score = tuning_lib.make_score(
      found.tuning,
      scoring.make_score_tokens(
          found.graphdef, config.scoring, temperature=config.temperature
      ),
  )
  cut = config.micro_batches > 1
  if config.reference or config.scores_old:
    parts = config.minibatches * config.micro_batches if cut else 1
    yield _compile(
        _Job(
            "score a rollout",
            step_lib.make_score(score, parts),
            (params, _rows(found, config.prompts), *found.frozen),
            (*found.reference, opt_state),
        )
    )[0]
  prompts = config.prompts // config.minibatches
  forward = step_lib.make_forward(score, config.micro_batches)
  arguments = (params, _rows(found, prompts), *found.frozen)
  program, (scores, pull) = _compile(
      _Job("forward", forward, arguments, (*found.reference, opt_state))
  )
  yield program
  state = jax.eval_shape(lambda: algorithm.init(algorithm.hparams))
  everywhere = jax.tree.map(lambda _: sharding.replicated(mesh), state)
  differentiate = step_lib.make_differentiate(
      algorithm.loss,
      has_reference=config.reference,
      platform=found.platform,
  )
  program, output = _compile(
      _Job(
          f"loss of {algorithm.name}",
          differentiate,
          (
              algorithm.hparams,
              tuning_lib.in_place(state, everywhere),
              _batch(found, prompts),
              scores,
          ),
          (*found.reference, params, *found.frozen, opt_state),
      )
  )
  yield program
  of_params, of_optimizer = (
      jax.tree.map(lambda x: x.sharding, tree) for tree in (params, opt_state)
  )
  rows = sharding.named(mesh, "completion")
  backward = step_lib.make_backward(
      optimizer_lib.make_optimizer(config),
      donate_params=cut,
      shardings=step_lib.Shardings(of_params, of_optimizer, rows),
  )
  cotangents = output.cotangents
  # Residuals of the forward pass, if any, are an argument.
  job = _Job("backward", backward, (params, opt_state, pull, cotangents), ())
  yield _compile(job._replace(beside=found.reference))[0]


def programs(
    model: families.TransformerConfig,
    algorithm: types.Algorithm,
    config: config_lib.TrainConfig,
    prompt_length: int,
    devices: Sequence[jax.Device] | None = None,
    on_program: Callable[[Program], None] = lambda program: None,
) -> list[Program]:
  """Compiles every program of a step, for the widest prompts.

  Args:
    model: shape of the policy.
    algorithm: to learn with.
    config: sizes, cuts and mesh.
    prompt_length: width of the prompts.
    devices: as many as the mesh has; all there are if None.
    on_program: called after each is compiled.

  Raises:
    ValueError: if model, batch, devices or algorithm do not fit the config.
  """
  policy_engine.check_algorithm(algorithm, config)
  logical_axes.check_divisible(model, config.mesh)
  mesh = sharding.make_mesh(config.mesh, devices)
  platform = mesh.devices.flat[0].platform
  graphdef, params = transformer.structure(model, platform)
  tuning = tuning_lib.make(model, params, config.lora, mesh)
  optimizer = optimizer_lib.make_optimizer(config)
  opt_state = jax.eval_shape(optimizer.init, tuning.trained)
  of_optimizer = logical_axes.like_parameters(mesh, opt_state, tuning.trained)
  of_params = logical_axes.parameter_shardings(mesh, params)
  sampled = tuning_lib.in_place(params, of_params)
  frozen = tuning.keep(sampled)
  if config.scoring.compute_dtype != "float32" or config.mesh.fsdp > 1:
    prepare = engine_lib.make_prepare(config.scoring.compute_dtype)
    where = logical_axes.decoding_shardings(mesh, params)
    sampled = tuning_lib.in_place(jax.eval_shape(prepare, params), where)
  found = _Shapes(
      graphdef,
      tuning,
      tuning_lib.in_place(tuning.trained, tuning.shardings),
      frozen,
      tuning_lib.in_place(opt_state, of_optimizer),
      sampled,
      prompt_batches.Prompts(np.zeros((0, prompt_length), np.int32)),
      config,
      mesh,
  )
  several = config.mesh.size > 1
  compiled = []
  with jax.set_mesh(mesh) if several else contextlib.nullcontext():
    for part in (_rollout(found), _update(found, algorithm)):
      for program in part:
        compiled.append(program)
        on_program(program)
  return compiled
