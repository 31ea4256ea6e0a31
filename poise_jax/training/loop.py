"""A whole training run in memory, for whoever compares many of them."""

import collections
from collections.abc import Callable
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np

from poise_jax import types
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import embedded
from poise_jax.training import (
    collapse,
    collect,
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
    trainer as trainer_lib,
)


class TrainResult(NamedTuple):
  """What a run leaves.

  Attributes:
    params: after the last finished step.
    curve: metric name -> one value a step; without metrics that were missing
      or not finite at some step.
    diverged: why training stopped early; empty if it did not.
  """

  params: nnx.State
  curve: dict[str, list[float]]
  diverged: str


class Hardship(NamedTuple):
  """What makes a run harder; none of it compiles anything anew.

  Attributes:
    lag: rollouts that the sampling policy is behind: it is the policy of `lag`
      rollouts ago, at the beginning the first one.
    flip: a verifier that errs, see `collect.Departure`.
  """

  lag: int = 0
  flip: collect.FlipFn | None = None


NO_HARDSHIP = Hardship()
# Called after each step with the number of steps done.
OnStep = Callable[[int], None]
# Of params, algorithm and seed, and by choice `on_step` and `hardship`.
TrainFn = Callable[..., TrainResult]


def make_train(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    tokenizer: tokenizer_lib.Tokenizer,
    config: config_lib.TrainConfig,
    task: embedded.Task = embedded.ARITHMETIC,
) -> TrainFn:
  """Makes a trainer on an embedded task.

  Args:
    graphdef: structure of the policy.
    params: of the policy, or their shapes.
    tokenizer: of the policy.
    config: length and speed of training.
    task: where problems come from.

  Returns:
    A function of (params, algorithm, seed, on_step, hardship) that trains from
    `params`, which is also the reference policy, and gives a `TrainResult`. The
    same arguments give the same bits. A step that broke down (`collapse`) ends
    the run, with the params of the step before.
  """
  # A small policy gains nothing from a second device: trials use others.
  devices = jax.local_devices()[: config.mesh.size]
  trainer = trainer_lib.make_trainer(
      graphdef, params, tokenizer, config, devices
  )

  def train(
      params: nnx.State,
      algorithm: types.Algorithm,
      seed: int,
      on_step: OnStep = lambda step: None,
      hardship: Hardship = NO_HARDSHIP,
  ) -> TrainResult:
    if hardship.lag < 0:
      raise ValueError(f"`lag` must be at least 0 rollouts, got {hardship.lag}")
    environment = environment_lib.arithmetic_environment(tokenizer, seed, task)
    state = trainer.start(params, algorithm, environment)
    reference = trainer.reference(state, params)
    samplers = collections.deque(maxlen=hardship.lag + 1)
    curves = []
    for step in range(config.steps):
      # Several micro-batches overwrite the params, which a divergence gives.
      kept = state
      if config.micro_batches > 1:
        copied = jax.tree.map(jnp.copy, state.params)
        kept = state._replace(params=copied)
      if hardship.lag:
        version = state.step * config.updates - state.skipped
        samplers.append(collect.Sampler(trainer.policy(kept), version))
      departure = collect.Departure(
          samplers[0] if hardship.lag else None, hardship.flip
      )
      result = trainer.step(
          *(state, reference, algorithm, environment, seed, departure)
      )
      far = [before["kl"] for before in curves if "kl" in before]
      if diverged := collapse.found(result.columns, step, far):
        return TrainResult(trainer.policy(kept), _curve(curves), diverged)
      curves.append(metrics_lib.values(result.metrics))
      state = result.state
      on_step(step + 1)
    return TrainResult(trainer.policy(state), _curve(curves), "")

  return train


def _curve(steps: list[dict[str, float]]) -> dict[str, list[float]]:
  """Turns metrics by step into columns that are whole."""
  names = steps[0] if steps else ()
  columns = {
      name: [step[name] for step in steps]
      for name in names
      if all(name in step for step in steps)
  }
  return {k: v for k, v in columns.items() if np.all(np.isfinite(v))}
