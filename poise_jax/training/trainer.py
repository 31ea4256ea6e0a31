"""A policy, a configuration and a mesh, compiled to single training steps."""

from collections.abc import Callable, Sequence
import contextlib
import functools
from typing import Any, NamedTuple

from flax import nnx
import jax
import optax

from poise_jax import sharding, types
from poise_jax.models import families, logical_axes
from poise_jax.rollout import engine as engine_lib
from poise_jax.rollout import scoring
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.training import (
    collect,
    history,
    policy_engine,
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
    optimizer as optimizer_lib,
)
from poise_jax.training import (
    state as state_lib,
)
from poise_jax.training import (
    step as step_lib,
)
from poise_jax.training import (
    tuning as tuning_lib,
)


class StepResult(NamedTuple):
  """What one step gives.

  Attributes:
    state: after it.
    metrics: of the rollout and its updates, still to be divided.
    columns: quantity -> one number an update, of what must be finite.
    rollout: what was sampled.
    times: seconds by the clock, still to be divided: `time/rollout`,
      `time/grade` and `time/score` as in `collect`, and `time/update`, which is
      the rest up to the end of the last update. What compiles is charged to the
      phase that it is for. Apart from `metrics`, which repeat bit for bit.
  """

  state: state_lib.TrainState
  metrics: dict[str, metrics_lib.Metric]
  columns: dict[str, list[float]]
  rollout: collect.Rollout
  times: dict[str, metrics_lib.Metric]


class Trainer(NamedTuple):
  """The compiled functions of one policy and one configuration.

  Attributes:
    start: (params, algorithm, environment) to the state before step 0; the
      params are copied, but for what LoRA freezes.
    expect: the same with shapes for params and optimizer, in their places: for
      a state that is to be read from a checkpoint.
    step: (state, reference params or None, algorithm, environment, seed, and
      a `collect.Departure` if the rollout is not the usual one, and what is
      called after each round of sampling) to a `StepResult`. The old state's
      optimizer memory is overwritten, and with several micro-batches that of
      its params; if a round's call raises, nothing has changed.
    place: puts params on the mesh; not a copy where they are there already.
    policy: params of a state's policy; with LoRA a merged copy.
    reference: (state, params of the base policy) to params of the reference,
      None without one; no copy where the state or the mesh has them.
    config: that it was made with.
    mesh: the devices.
    flops: what the products of a step's policy must compute, see
      `throughput.forward_flops`; sampled in vain, too.
  """

  start: Callable[
      [nnx.State, types.Algorithm, environment_lib.Environment],
      state_lib.TrainState,
  ]
  expect: Callable[
      [nnx.State, types.Algorithm, environment_lib.Environment],
      state_lib.TrainState,
  ]
  step: Callable[..., StepResult]
  place: Callable[[nnx.State], nnx.State]
  policy: Callable[[state_lib.TrainState], nnx.State]
  reference: Callable[[state_lib.TrainState, nnx.State], nnx.State | None]
  config: config_lib.TrainConfig
  mesh: jax.sharding.Mesh
  flops: Callable[[collect.Rollout], float]


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
  tuning = tuning_lib.make(model, params, config.lora, mesh)
  optimizer = optimizer_lib.make_optimizer(config)
  opt_state = jax.eval_shape(optimizer.init, tuning.trained)
  made = _Made(
      config=config,
      model=model,
      mesh=mesh,
      tuning=tuning,
      optimizer=optimizer,
      of_params=logical_axes.parameter_shardings(mesh, params),
      of_optimizer=logical_axes.like_parameters(
          mesh, opt_state, tuning.trained
      ),
  )
  engine = engine or policy_engine.make_engine(
      graphdef, params, tokenizer, config, mesh
  )
  score = scoring.make_score_tokens(
      graphdef, config.scoring, temperature=config.temperature
  )
  policy_fn = tuning_lib.make_policy(tuning, made.of_params)
  collect_rollout, update = _parts(made, engine, score, policy_fn)
  place = lambda params: sharding.place(mesh, params, made.of_params)

  def reference(
      state: state_lib.TrainState, params: nnx.State
  ) -> nnx.State | None:
    if not config.reference:
      return None
    return state.frozen[0] if state.frozen else place(params)

  return Trainer(
      start=functools.partial(_start, made),
      expect=functools.partial(_expect, made),
      step=functools.partial(_step, mesh, collect_rollout, update),
      place=place,
      policy=lambda state: policy_fn(state.params, *state.frozen),
      reference=reference,
      config=config,
      mesh=mesh,
      flops=functools.partial(_flops, model, config),
  )


class _Made(NamedTuple):
  """What the parts of a trainer share."""

  config: config_lib.TrainConfig
  model: families.TransformerConfig
  mesh: jax.sharding.Mesh
  tuning: tuning_lib.Tuning
  optimizer: optax.GradientTransformation
  of_params: Any
  of_optimizer: Any


def _parts(
    made: _Made,
    engine: engine_lib.RolloutEngine,
    score: scoring.ScoreFn,
    policy_fn: collect.PolicyFn,
) -> tuple[collect.CollectFn, updates.UpdateFn]:
  """The two halves of a step."""
  config, mesh, tuning = made.config, made.mesh, made.tuning
  rows = sharding.named(mesh, "completion")
  of_tuned = step_lib.Shardings(
      tuning.shardings, made.of_optimizer, rows, tuning.frozen
  )
  # Where a minibatch is cut to save memory, so is a whole rollout.
  cut = config.micro_batches > 1
  parts = config.minibatches * config.micro_batches if cut else 1
  score_tuned = tuning_lib.make_score(tuning, score)
  score_old = step_lib.make_score(score_tuned, parts, of_tuned)
  score_reference = score_old
  if tuning.frozen:
    of_plain = step_lib.Shardings(made.of_params, None, rows)
    score_reference = step_lib.make_score(score, parts, of_plain)
  return (
      collect.make_collect(
          *(engine, score_old, config, mesh),
          score_reference=score_reference,
          policy_fn=policy_fn,
      ),
      updates.make_update(
          *(score_tuned, made.optimizer, config, of_tuned),
          platform=mesh.devices.flat[0].platform,
      ),
  )


def in_mesh(mesh: jax.sharding.Mesh) -> contextlib.AbstractContextManager:
  """Where constraints inside the model take effect, if there are devices."""
  return jax.set_mesh(mesh) if mesh.size > 1 else contextlib.nullcontext()


def _state(
    made: _Made,
    trained: Any,
    opt_state: Any,
    frozen: tuple[nnx.State, ...],
    algorithm: types.Algorithm,
    environment: environment_lib.Environment,
) -> state_lib.TrainState:
  """The state before step 0, of these arrays or shapes."""
  fresh = algorithm.init(algorithm.hparams)
  return state_lib.TrainState(
      params=trained,
      opt_state=opt_state,
      algorithm_state=place_state(made.mesh, fresh),
      history=history.empty(environment.bucket_count),
      position=prompts.START,
      step=0,
      skipped=0,
      frozen=frozen,
  )


def _start(
    made: _Made,
    params: nnx.State,
    algorithm: types.Algorithm,
    environment: environment_lib.Environment,
) -> state_lib.TrainState:
  """See `Trainer.start`."""
  policy_engine.check_algorithm(algorithm, made.config)
  base = sharding.place(made.mesh, params, made.of_params)
  trained = made.tuning.begin(base)
  # Everything is committed to the mesh from the start: what a step returns is,
  # and the second one would otherwise compile everything again.
  init = jax.jit(
      made.optimizer.init,
      in_shardings=(made.tuning.shardings,),
      out_shardings=made.of_optimizer,
  )
  frozen = made.tuning.keep(base)
  return _state(made, trained, init(trained), frozen, algorithm, environment)


def _expect(
    made: _Made,
    params: nnx.State,
    algorithm: types.Algorithm,
    environment: environment_lib.Environment,
) -> state_lib.TrainState:
  """See `Trainer.expect`."""
  policy_engine.check_algorithm(algorithm, made.config)
  trained = made.tuning.trained
  opt_state = jax.eval_shape(made.optimizer.init, trained)
  frozen = ()
  if made.tuning.frozen:
    base = sharding.place(made.mesh, params, made.of_params)
    frozen = made.tuning.keep(base)
  return _state(
      made,
      tuning_lib.in_place(trained, made.tuning.shardings),
      tuning_lib.in_place(opt_state, made.of_optimizer),
      *(frozen, algorithm, environment),
  )


def _step(
    mesh: jax.sharding.Mesh,
    collect_rollout: collect.CollectFn,
    update: updates.UpdateFn,
    state: state_lib.TrainState,
    reference_params: nnx.State | None,
    algorithm: types.Algorithm,
    environment: environment_lib.Environment,
    seed: int,
    departure: collect.Departure = collect.USUAL,
    pause: Callable[[], None] = lambda: None,
) -> StepResult:
  """See `Trainer.step`."""
  watch = throughput.Stopwatch()
  with in_mesh(mesh):
    rollout = collect_rollout(
        *(state, reference_params, environment, seed, watch, departure, pause)
    )
    with watch.time("update"):
      done = update(state, rollout, algorithm, reference_params is not None)
  passed = history.add(state.history, rollout.buckets, rollout.sampled.correct)
  return StepResult(
      done.state._replace(
          history=passed, position=rollout.position, step=state.step + 1
      ),
      # Ours come last: no algorithm can report a reward in our name.
      done.metrics | _sampling_metrics(rollout),
      done.columns,
      rollout._replace(batch=done.batch),
      watch.phases(),
  )


def _flops(
    model: families.TransformerConfig,
    config: config_lib.TrainConfig,
    rollout: collect.Rollout,
) -> float:
  """See `Trainer.flops`."""
  tokens, starts = rollout.rows.prompts
  padding = 0.0 if starts is None else float(sharding.fetch(starts).mean())
  of_pass = lambda grades: throughput.forward_flops(
      model,
      tokens.shape[1] - padding,
      grades.lengths.ravel(),
      config.group_size,
  )
  learned = (throughput.passes(config) - 1) * of_pass(rollout.grades)
  return of_pass(rollout.sampled) + learned


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
  """What it took to fill the batch, and the policy by all that it wrote."""
  statistics = rollout.statistics
  if statistics is None:
    return {}
  sampled = float(statistics.sampled)
  return metrics_lib.sampled_metrics(rollout.sampled) | {
      "dynamic_sampling/attempts": metrics_lib.Total(
          float(statistics.attempts)
      ),
      "dynamic_sampling/kept_ratio": metrics_lib.Fraction(
          float(statistics.kept), sampled
      ),
      "dynamic_sampling/padded": metrics_lib.Total(float(statistics.padded)),
  }
