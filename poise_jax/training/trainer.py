"""A policy, a configuration and a mesh, compiled to single training steps."""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import functools
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import optax

from poise_jax import sharding, types
from poise_jax.models import logical_axes
from poise_jax.rollout import generate, sampling, scoring
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import arithmetic
from poise_jax.training import (
    collect,
    history,
    prompts,
)
from poise_jax.training import (
    config as config_lib,
)
from poise_jax.training import (
    environment as environment_lib,
)
from poise_jax.training import (
    metrics as metrics_lib,
)
from poise_jax.training import (
    state as state_lib,
)
from poise_jax.training import (
    step as step_lib,
)


class StepResult(NamedTuple):
  """What one step gives.

  Attributes:
    state: after it.
    metrics: of the rollout and its updates, still to be divided.
    columns: quantity -> one number an update, of what must be finite.
    rollout: what was sampled.
  """

  state: state_lib.TrainState
  metrics: dict[str, metrics_lib.Metric]
  columns: dict[str, list[float]]
  rollout: collect.Rollout


class Trainer(NamedTuple):
  """The compiled functions of one policy and one configuration.

  Attributes:
    start: (params, algorithm, environment) to the state before step 0; the
      params are copied.
    step: (state, reference params or None, algorithm, environment, seed) to a
      `StepResult`. The old state's optimizer memory is overwritten, and with
      several micro-batches that of its params.
    place: puts params on the mesh; not a copy where they are there already.
    config: that it was made with.
    mesh: the devices.
  """

  start: Callable[
      [nnx.State, types.Algorithm, environment_lib.Environment],
      state_lib.TrainState,
  ]
  step: Callable[
      [
          state_lib.TrainState,
          nnx.State | None,
          types.Algorithm,
          environment_lib.Environment,
          int,
      ],
      StepResult,
  ]
  place: Callable[[nnx.State], nnx.State]
  config: config_lib.TrainConfig
  mesh: jax.sharding.Mesh


def make_optimizer(
    config: config_lib.TrainConfig,
) -> optax.GradientTransformation:
  """Adam after clipping by global norm; learning rate falls linearly."""
  schedule = optax.linear_schedule(
      config.learning_rate,
      config.learning_rate * config.final_learning_rate,
      config.steps * config.updates,
  )
  return optax.chain(
      optax.clip_by_global_norm(config.max_grad_norm),
      optax.adam(schedule, b2=0.99),
  )


def make_trainer(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    tokenizer: tokenizer_lib.Tokenizer,
    config: config_lib.TrainConfig,
    devices: Sequence[jax.Device] | None = None,
) -> Trainer:
  """Makes a trainer; the policy compiles once, whatever it is trained with.

  Args:
    graphdef: structure of the policy.
    params: of the policy, or their shapes.
    tokenizer: of the policy.
    config: length, speed and mesh.
    devices: that make up the mesh; all there are if None.

  Raises:
    ValueError: if the mesh does not fit the model, the batch or the devices.
  """
  logical_axes.check_divisible(nnx.merge(graphdef, params).config, config.mesh)
  mesh = sharding.make_mesh(config.mesh, devices)
  optimizer = make_optimizer(config)
  of_params = logical_axes.parameter_shardings(mesh, params)
  of_optimizer = logical_axes.like_parameters(
      mesh, jax.eval_shape(optimizer.init, params), params
  )
  score = scoring.make_score_tokens(graphdef, config.scoring)
  forward = step_lib.make_forward(score, config.micro_batches)
  # Where a minibatch is cut to save memory, so is a whole rollout.
  cut = config.micro_batches > 1
  parts = config.minibatches * config.micro_batches if cut else 1
  backward = step_lib.make_backward(
      optimizer,
      donate_params=config.micro_batches > 1,
      shardings=(of_params, of_optimizer),
  )
  collect_rollout = collect.make_collect(
      generate.make_generate(
          graphdef,
          sampling.sample,
          copies=config.group_size,
          max_length=arithmetic.COMPLETION_LENGTH,
          eos_id=tokenizer.eos_id,
          pad_id=tokenizer.pad_id,
      ),
      step_lib.make_score(score, parts),
      config,
      mesh,
  )
  # Constraints inside the model take effect in the context of the mesh.
  several = config.mesh.size > 1
  set_mesh = lambda: (
      jax.set_mesh(mesh) if several else contextlib.nullcontext()
  )
  measure_rollout = jax.jit(metrics_lib.rollout_metrics)

  def place(params: nnx.State) -> nnx.State:
    return sharding.place(mesh, params, of_params)

  def start(
      params: nnx.State,
      algorithm: types.Algorithm,
      environment: environment_lib.Environment,
  ) -> state_lib.TrainState:
    params = jax.tree.map(jnp.copy, place(params))
    # Everything is committed to the mesh from the start: what a step returns
    # is, and the second one would otherwise compile everything again.
    init = jax.jit(optimizer.init, out_shardings=of_optimizer)
    return state_lib.TrainState(
        params=params,
        opt_state=init(params),
        algorithm_state=place_state(mesh, algorithm.init(algorithm.hparams)),
        history=history.empty(environment.bucket_count),
        position=prompts.START,
        step=0,
        skipped=0,
    )

  def run(
      state: state_lib.TrainState,
      reference_params: nnx.State | None,
      algorithm: types.Algorithm,
      environment: environment_lib.Environment,
      seed: int,
  ) -> StepResult:
    with set_mesh():
      return one_step(state, reference_params, algorithm, environment, seed)

  def one_step(
      state: state_lib.TrainState,
      reference_params: nnx.State | None,
      algorithm: types.Algorithm,
      environment: environment_lib.Environment,
      seed: int,
  ) -> StepResult:
    rollout = collect_rollout(state, reference_params, environment, seed)
    differentiate = step_lib.make_differentiate(
        algorithm.loss, has_reference=reference_params is not None
    )
    parts = []
    for update in range(config.updates):
      rows, batch = _minibatch(
          rollout.rows,
          rollout.batch,
          config.minibatches,
          jnp.int32(update),
      )
      scores, pull = forward(state.params, rows)
      output = differentiate(
          algorithm.hparams, state.algorithm_state, batch, scores
      )
      done = backward(state.params, state.opt_state, pull, output.cotangents)
      state = state._replace(
          params=done.params,
          opt_state=done.opt_state,
          algorithm_state=_unless(
              done.skipped, state.algorithm_state, output.state
          ),
      )
      parts.append((output.metrics, output.policy, output.loss, done[2:]))
    # One wait for the device, at the end of the step.
    parts, measured = jax.device_get((parts, measure_rollout(rollout.batch)))
    metrics, columns = _summary(parts)
    # Ours come last: no algorithm can report a reward in our name.
    metrics |= measured | _sampling_metrics(rollout)
    return StepResult(
        state._replace(
            history=history.add(
                state.history, rollout.buckets, rollout.correct
            ),
            position=rollout.position,
            step=state.step + 1,
            skipped=state.skipped + int(sum(columns["skipped"])),
        ),
        metrics,
        columns,
        rollout,
    )

  return Trainer(start, run, place, config, mesh)


def place_state(
    mesh: jax.sharding.Mesh, algorithm_state: types.State
) -> types.State:
  """Puts the state of an algorithm on every device of the mesh."""
  everywhere = jax.tree.map(
      lambda _: sharding.replicated(mesh), algorithm_state
  )
  return sharding.place(mesh, algorithm_state, everywhere)


@functools.partial(jax.jit, static_argnums=2)
def _minibatch(
    rows: step_lib.Tokens,
    batch: types.RolloutBatch,
    count: int,
    update: Int[Array, ""],
) -> tuple[step_lib.Tokens, types.RolloutBatch]:
  """Cuts the one of `count` equal parts, along prompts, that is next."""

  def cut(x: jax.Array) -> jax.Array:
    if x.ndim == 0:
      return x
    size = x.shape[0] // count
    return jax.lax.dynamic_slice_in_dim(x, update % count * size, size)

  rows, batch = jax.tree.map(cut, (rows, batch))
  staleness = jnp.full_like(batch.staleness, update)
  return rows, dataclasses.replace(batch, staleness=staleness)


@jax.jit
def _unless(
    skipped: Float[Array, ""], before: types.State, after: types.State
) -> types.State:
  """What carried a NaN into the gradient may have carried one into this."""
  keep = lambda old, new: jnp.where(skipped > 0, old, new)
  return jax.tree.map(keep, before, after)


def _summary(
    parts: list,
) -> tuple[dict[str, metrics_lib.Metric], dict[str, list[float]]]:
  """Adds up what the updates measured; lists what must be finite."""
  columns = {
      "loss": [float(loss) for _, _, loss, _ in parts],
      "grad_norm": [float(done[0]) for *_, done in parts],
      "skipped": [float(done[1]) for *_, done in parts],
  }
  own = metrics_lib.combine(
      {k: metrics_lib.Fraction(float(v), 1.0) for k, v in found.items()}
      for found, *_ in parts
  )
  of_policy = metrics_lib.combine(policy for _, policy, *_ in parts)
  updates = metrics_lib.combine(
      {
          name: metrics_lib.Fraction(value, 1.0)
          for name, value in zip(columns, row, strict=True)
      }
      for row in zip(*columns.values(), strict=True)
  )
  for name in ("entropy", "kl"):
    columns[name] = [
        float(policy[name].total / max(policy[name].count, 1.0))
        for _, policy, *_ in parts
    ]
  return own | of_policy | updates, columns


def _sampling_metrics(
    rollout: collect.Rollout,
) -> dict[str, metrics_lib.Metric]:
  """What it took to fill the batch."""
  statistics = rollout.statistics
  if statistics is None:
    return {}
  sampled = float(statistics.sampled)
  return {
      "dynamic_sampling/attempts": metrics_lib.Total(
          float(statistics.attempts)
      ),
      "dynamic_sampling/kept_ratio": metrics_lib.Fraction(
          float(statistics.kept), sampled
      ),
      "dynamic_sampling/padded": metrics_lib.Total(float(statistics.padded)),
  }
