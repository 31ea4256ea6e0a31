"""Reinforcement learning with verifiable rewards: rollout, score, update."""

from collections.abc import Callable
import dataclasses
import functools
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int
import numpy as np
from numpy.typing import NDArray
import optax

from poise_jax import types
from poise_jax.rollout import generate, sampling, scoring
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import arithmetic
from poise_jax.training import state as state_lib
from poise_jax.training import step as step_lib


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """How long and how fast.

  Attributes:
    steps: rollouts.
    prompts: prompts of one rollout.
    group_size: completions sampled for each prompt.
    epochs: passes over one rollout.
    minibatches: optimizer updates in one pass.
    learning_rate: of Adam, at the start.
    final_learning_rate: fraction of it that is left at the end (linear).
    max_grad_norm: global norm above which gradients are scaled down.
  """

  steps: int
  prompts: int
  group_size: int
  epochs: int
  minibatches: int
  learning_rate: float
  final_learning_rate: float = 0.1
  max_grad_norm: float = 1.0

  def __post_init__(self):
    if self.prompts % self.minibatches:
      raise ValueError(
          "`prompts` must be a multiple of `minibatches`, so that no group is"
          f" split, got {self.prompts} and {self.minibatches}"
      )


class TrainResult(NamedTuple):
  """What a run leaves.

  Attributes:
    params: after the last finished step.
    curve: metric name -> one value a step; without metrics of the algorithm
      that were not finite.
    diverged: why training stopped early; empty if it did not.
  """

  params: nnx.State
  curve: dict[str, list[float]]
  diverged: str


# Called after each step with the number of steps done.
OnStep = Callable[[int], None]
TrainFn = Callable[[nnx.State, types.Algorithm, int, OnStep], TrainResult]


class _Rollout(NamedTuple):
  """Completions of one step with everything known about them."""

  rows: step_lib.Tokens
  batch: types.RolloutBatch
  grades: scoring.Grades
  operations: NDArray[np.int_]


class _Programs(NamedTuple):
  """The compiled functions of one policy and one configuration."""

  tokenizer: tokenizer_lib.Tokenizer
  config: TrainConfig
  generate: generate.GenerateFn
  reference: scoring.ScoreFn
  forward: step_lib.ForwardFn
  backward: step_lib.BackwardFn
  optimizer: optax.GradientTransformation


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
  """Adam after clipping by global norm; learning rate falls linearly."""
  schedule = optax.linear_schedule(
      config.learning_rate,
      config.learning_rate * config.final_learning_rate,
      config.steps * config.epochs * config.minibatches,
  )
  return optax.chain(
      optax.clip_by_global_norm(config.max_grad_norm),
      optax.adam(schedule, b2=0.99),
  )


def _sample_rollout(
    programs: _Programs,
    params: nnx.State,
    reference_params: nnx.State,
    history: state_lib.PassHistory,
    *,
    seed: int,
    step: int,
) -> _Rollout:
  """Draws prompts, lets the policy complete them, and scores the completions."""
  config, tokenizer = programs.config, programs.tokenizer
  problems = arithmetic.sample(
      np.random.default_rng([31337, seed, step]),
      arithmetic.TRAINING_TIERS,
      config.prompts,
      arithmetic.Split.TRAIN,
  )
  prompts = jnp.asarray(tokenizer.encode_prompts([p.prompt for p in problems]))
  key = jax.random.fold_in(jax.random.key(seed), step)
  completions = programs.generate(params, prompts, key)
  rows = step_lib.Tokens(prompts, completions.tokens, completions.mask)
  reference = programs.reference(reference_params, *rows)
  grades = scoring.grade_groups(tokenizer, problems, completions)
  operations = np.array([len(p.operators) for p in problems])
  shape = (config.prompts, config.group_size, -1)
  old_logprobs = completions.logprobs.reshape(shape)
  mask = completions.mask.reshape(shape)
  batch = types.RolloutBatch(
      logprobs=old_logprobs,
      entropy=jnp.zeros_like(old_logprobs),
      # The sampler runs the policy being trained, so it is the old policy.
      old_logprobs=old_logprobs,
      sampler_logprobs=old_logprobs,
      ref_logprobs=reference.logprobs.reshape(shape),
      completion_mask=mask,
      rewards=jnp.asarray(grades.correct),
      correct=jnp.asarray(grades.correct),
      format_valid=jnp.asarray(grades.format_valid),
      truncated=jnp.asarray(grades.truncated),
      lengths=jnp.asarray(grades.lengths),
      staleness=jnp.zeros(grades.correct.shape),
      reward_components=jnp.stack(
          [jnp.asarray(grades.correct), jnp.asarray(grades.format_valid)], -1
      ),
      history_pass_rate=jnp.asarray(state_lib.pass_rate(history, operations)),
      step=jnp.int32(step),
      progress=jnp.float32(step / config.steps),
  )
  return _Rollout(rows, batch, grades, operations)


@functools.partial(jax.jit, static_argnums=2)
def _minibatch(
    rows: step_lib.Tokens,
    batch: types.RolloutBatch,
    count: int,
    index: Int[Array, ""],
) -> tuple[step_lib.Tokens, types.RolloutBatch]:
  """Cuts the `index`-th of `count` equal parts, along prompts."""

  def cut(x: jax.Array) -> jax.Array:
    if x.ndim == 0:
      return x
    size = x.shape[0] // count
    return jax.lax.dynamic_slice_in_dim(x, index * size, size)

  return jax.tree.map(cut, (rows, batch))


def _update(
    programs: _Programs,
    algorithm: types.Algorithm,
    state: state_lib.TrainState,
    rollout: _Rollout,
) -> tuple[state_lib.TrainState, dict[str, list[float]]]:
  """Makes the optimizer updates of one rollout, epochs times minibatches.

  Returns:
    The new state, and metric name -> one value an update.
  """
  config = programs.config
  differentiate = step_lib.make_differentiate(algorithm.loss)
  updates = []
  for update in range(config.epochs * config.minibatches):
    rows, batch = _minibatch(
        rollout.rows,
        rollout.batch,
        config.minibatches,
        jnp.int32(update % config.minibatches),
    )
    batch = dataclasses.replace(
        batch, staleness=jnp.full_like(batch.staleness, update)
    )
    scores, vjp = programs.forward(state.params, rows)
    output = differentiate(
        algorithm.hparams, state.algorithm_state, batch, scores
    )
    params, opt_state, norm = programs.backward(
        state.params, state.opt_state, vjp, output.cotangents
    )
    state = state._replace(
        params=params, opt_state=opt_state, algorithm_state=output.state
    )
    updates.append(output.metrics | {"loss": output.loss, "grad_norm": norm})
  updates = jax.device_get(updates)
  return state, {name: [float(m[name]) for m in updates] for name in updates[0]}


def _rollout_metrics(grades: scoring.Grades) -> dict[str, float]:
  """Rewards, groups and lengths of one rollout, by TRL's names."""
  passed = grades.correct.mean(axis=1)
  spread = grades.correct.std(axis=1)
  return {
      "reward": float(passed.mean()),
      "reward_std": float(spread.mean()),
      "frac_reward_zero_std": float((spread == 0).mean()),
      "frac_groups_all_fail": float((passed == 0).mean()),
      "frac_groups_all_pass": float((passed == 1).mean()),
      "valid_rate": float(grades.format_valid.mean()),
      "completions/mean_length": float(grades.lengths.mean()),
      "completions/clipped_ratio": float(grades.truncated.mean()),
  }


def _divergence(metrics: dict[str, list[float]], step: int) -> str:
  """Names the first non-finite quantity that the update depends on."""
  for name in ("loss", "grad_norm", "entropy", "kl"):
    if not np.all(np.isfinite(metrics[name])):
      return f"non-finite {name} at step {step}"
  return ""


def _finite(curve: dict[str, list[float]]) -> dict[str, list[float]]:
  """Leaves out whatever an algorithm reported that is not a number."""
  return {k: v for k, v in curve.items() if np.all(np.isfinite(v))}


def make_train(
    graphdef: nnx.GraphDef,
    tokenizer: tokenizer_lib.Tokenizer,
    config: TrainConfig,
) -> TrainFn:
  """Makes a trainer; the policy compiles once, whatever it is trained with.

  Args:
    graphdef: structure of the policy.
    tokenizer: of the policy.
    config: length and speed of training.

  Returns:
    A function of (params, algorithm, seed, on_step) that trains from `params`,
    which is also the reference policy, and gives a `TrainResult`. The same
    arguments give the same bits. Loss or gradients that are not finite end the
    run, with the params of the step before.
  """
  optimizer = make_optimizer(config)
  programs = _Programs(
      tokenizer,
      config,
      generate.make_generate(
          graphdef,
          sampling.sample,
          copies=config.group_size,
          max_length=arithmetic.COMPLETION_LENGTH,
          eos_id=tokenizer.eos_id,
          pad_id=tokenizer.pad_id,
      ),
      jax.jit(scoring.make_score_tokens(graphdef)),
      step_lib.make_forward(graphdef),
      step_lib.make_backward(optimizer),
      optimizer,
  )

  def train(
      params: nnx.State,
      algorithm: types.Algorithm,
      seed: int,
      on_step: OnStep = lambda step: None,
  ) -> TrainResult:
    # Committed to a device from the start, as an exported loss leaves them:
    # the second update would otherwise compile everything again.
    params, opt_state, algorithm_state = jax.device_put(
        (params, optimizer.init(params), algorithm.init(algorithm.hparams)),
        jax.local_devices()[0],
    )
    state = state_lib.TrainState(
        params, opt_state, algorithm_state, state_lib.empty_history()
    )
    curve: dict[str, list[float]] = {}
    for step in range(config.steps):
      rollout = _sample_rollout(
          programs, state.params, params, state.history, seed=seed, step=step
      )
      updated, columns = _update(programs, algorithm, state, rollout)
      if diverged := _divergence(columns, step):
        return TrainResult(state.params, _finite(curve), diverged)
      means = {k: float(np.mean(v)) for k, v in columns.items()}
      # Ours come last: no algorithm can report a reward in our name.
      for name, value in (means | _rollout_metrics(rollout.grades)).items():
        curve.setdefault(name, []).append(value)
      history = state_lib.add_to_history(
          state.history, rollout.operations, rollout.grades.correct
      )
      state = updated._replace(history=history)
      on_step(step + 1)
    return TrainResult(state.params, _finite(curve), "")

  return train
