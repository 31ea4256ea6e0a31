"""A policy, a configuration and a mesh, compiled to single training steps."""

from collections.abc import Callable, Sequence
import contextlib
import functools
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import optax

from poise_jax import sharding, types
from poise_jax.algorithms import dependence
from poise_jax.models import logical_axes
from poise_jax.rollout import engine as engine_lib
from poise_jax.rollout import generate, sampling, scoring
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.training import (
    collect,
    history,
    prompts,
    throughput,
    updates,
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
    flops: what the products of a step's policy must compute, see
      `throughput.forward_flops`; without groups that were sampled in vain.
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
  flops: Callable[[collect.Rollout], float]


def make_optimizer(
    config: config_lib.TrainConfig,
) -> optax.GradientTransformation:
  """AdamW after clipping; the learning rate rises, if at all, then falls."""
  peak, rising = config.learning_rate, config.warmup_steps
  schedule = optax.linear_schedule(
      peak,
      peak * config.final_learning_rate,
      config.steps * config.updates - rising,
  )
  if rising:
    warmup = optax.linear_schedule(0.0, peak, rising)
    schedule = optax.join_schedules([warmup, schedule], [rising])
  # Without decay the state has the structure that it always had.
  decay = config.weight_decay
  adam = functools.partial(optax.adamw, weight_decay=decay)
  adam = adam if decay else optax.adam
  return optax.chain(
      optax.clip_by_global_norm(config.max_grad_norm),
      adam(schedule, b1=config.b1, b2=config.b2),
  )


def make_trainer(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    tokenizer: tokenizer_lib.Vocabulary,
    config: config_lib.TrainConfig,
    devices: Sequence[jax.Device] | None = None,
    engine: engine_lib.RolloutEngine | None = None,
) -> Trainer:
  """Makes a trainer; the policy compiles once, whatever it is trained with.

  Args:
    graphdef: structure of the policy.
    params: of the policy, or their shapes.
    tokenizer: of the policy.
    config: length, speed and mesh.
    devices: that make up the mesh; all there are if None.
    engine: samples completions; if None, the policy does on the mesh.

  Raises:
    ValueError: if the mesh does not fit the model, the batch or the devices.
  """
  model = nnx.merge(graphdef, params).config
  logical_axes.check_divisible(model, config.mesh)
  mesh = sharding.make_mesh(config.mesh, devices)
  optimizer = make_optimizer(config)
  of_params = logical_axes.parameter_shardings(mesh, params)
  of_optimizer = logical_axes.like_parameters(
      mesh, jax.eval_shape(optimizer.init, params), params
  )
  score = scoring.make_score_tokens(
      graphdef, config.scoring, temperature=config.temperature
  )
  # Where a minibatch is cut to save memory, so is a whole rollout.
  cut = config.micro_batches > 1
  parts = config.minibatches * config.micro_batches if cut else 1
  collect_rollout = collect.make_collect(
      engine or make_engine(graphdef, params, tokenizer, config, mesh),
      step_lib.make_score(score, parts),
      config,
      mesh,
  )
  update = updates.make_update(
      score, optimizer, config, of_params, of_optimizer
  )
  # Constraints inside the model take effect in the context of the mesh.
  several = config.mesh.size > 1
  set_mesh = lambda: (
      jax.set_mesh(mesh) if several else contextlib.nullcontext()
  )

  def place(params: nnx.State) -> nnx.State:
    return sharding.place(mesh, params, of_params)

  def start(
      params: nnx.State,
      algorithm: types.Algorithm,
      environment: environment_lib.Environment,
  ) -> state_lib.TrainState:
    check_sampler(algorithm, config)
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

  def step(
      state: state_lib.TrainState,
      reference_params: nnx.State | None,
      algorithm: types.Algorithm,
      environment: environment_lib.Environment,
      seed: int,
  ) -> StepResult:
    with set_mesh():
      rollout = collect_rollout(state, reference_params, environment, seed)
      done = update(state, rollout, algorithm, reference_params is not None)
    return StepResult(
        done.state._replace(
            history=history.add(
                state.history, rollout.buckets, rollout.correct
            ),
            position=rollout.position,
            step=state.step + 1,
        ),
        # Ours come last: no algorithm can report a reward in our name.
        done.metrics | _sampling_metrics(rollout),
        done.columns,
        rollout,
    )

  def flops(rollout: collect.Rollout) -> float:
    tokens, starts = rollout.rows.prompts
    padding = 0.0 if starts is None else float(sharding.fetch(starts).mean())
    return throughput.passes(config) * throughput.forward_flops(
        model,
        tokens.shape[1] - padding,
        rollout.grades.lengths.ravel(),
        config.group_size,
    )

  return Trainer(start, step, place, config, mesh, flops)


def check_sampler(
    algorithm: types.Algorithm, config: config_lib.TrainConfig
) -> None:
  """Refuses importance correction where log-probabilities are not the sampler's.

  `top_k` and `top_p` leave tokens out, and what they leave has more probability
  than `sampler_logprobs` say.

  Raises:
    ValueError: naming the fields to change.
  """
  filtered = config.top_k > 0 or config.top_p < 1
  if filtered and dependence.depends_on(
      algorithm, "sampler_logprobs", config.group_size
  ):
    raise ValueError(
        f"{algorithm.name} corrects for the sampler, whose log-probabilities"
        f" are not known with top_k={config.top_k} and top_p={config.top_p}; set"
        " --config.train.top_k=0 and --config.train.top_p=1, or choose another"
        " algorithm"
    )


def make_engine(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    tokenizer: tokenizer_lib.Vocabulary,
    config: config_lib.TrainConfig,
    mesh: jax.sharding.Mesh,
) -> engine_lib.RolloutEngine:
  """The policy itself, sampling on the mesh that it is trained on."""
  generate_fn = generate.make_generate(
      graphdef,
      sampling.filtered(config.top_k, config.top_p),
      copies=config.group_size,
      max_length=config.completion_length,
      eos_ids=tokenizer.eos_ids,
      pad_id=tokenizer.pad_id,
      temperature=config.temperature,
      schedule=config.schedule,
  )
  if config.scoring.compute_dtype == "float32" and config.mesh.fsdp == 1:
    return engine_lib.local(generate_fn)
  prepare = engine_lib.make_prepare(
      config.scoring.compute_dtype,
      logical_axes.decoding_shardings(mesh, params),
  )
  return engine_lib.local(generate_fn, prepare)


def place_state(
    mesh: jax.sharding.Mesh, algorithm_state: types.State
) -> types.State:
  """Puts the state of an algorithm on every device of the mesh."""
  everywhere = jax.tree.map(
      lambda _: sharding.replicated(mesh), algorithm_state
  )
  return sharding.place(mesh, algorithm_state, everywhere)


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
