"""All optimizer updates of one rollout."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
import numpy as np
import optax

from poise_jax import sharding, types
from poise_jax.rollout import scoring
from poise_jax.training import collect
from poise_jax.training import (
    config as config_lib,
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

# Of the names of an algorithm's metrics: means over tokens.
_OF_TOKENS = "clip_ratio/"


class Updates(NamedTuple):
  """What the updates of one rollout give.

  Attributes:
    state: with new params, optimizer and algorithm state.
    metrics: of the rollout and its updates, still to be divided.
    columns: quantity -> one number an update, of what must be finite.
    batch: of the whole rollout, with the `old_logprobs` that were used.
  """

  state: state_lib.TrainState
  metrics: dict[str, metrics_lib.Metric]
  columns: dict[str, list[float]]
  batch: types.RolloutBatch


UpdateFn = Callable[
    [state_lib.TrainState, collect.Rollout, types.Algorithm, bool], Updates
]


def make_update(
    score: step_lib.ScoreRowsFn,
    optimizer: optax.GradientTransformation,
    config: config_lib.TrainConfig,
    shardings: step_lib.Shardings | None = None,
    platform: str | None = None,
) -> UpdateFn:
  """Makes the function that updates the policy on one rollout.

  Args:
    score: forward pass of the policy, not jitted.
    optimizer: gets gradients before any clipping.
    config: how many epochs, minibatches and micro-batches.
    shardings: of params, optimizer state and rows; if None, as they come.
    platform: of the devices; the default one if None.

  Returns:
    A function of (state, rollout, algorithm, has_reference); the last says
    whether the rollout has log-probabilities of a reference policy. With
    `config.recompute_old` and a single update, the forward pass of that update
    gives `old_logprobs`: the policy has not moved since it sampled.
  """
  forward = step_lib.make_forward(score, config.micro_batches, shardings)
  backward = step_lib.make_backward(
      optimizer,
      donate_params=config.micro_batches > 1,
      shardings=shardings,
  )
  is_old = config.recompute_old and not config.scores_old
  measure_rollout = jax.jit(metrics_lib.rollout_metrics)

  def update(
      state: state_lib.TrainState,
      rollout: collect.Rollout,
      algorithm: types.Algorithm,
      has_reference: bool,
  ) -> Updates:
    differentiate = step_lib.make_differentiate(
        algorithm.loss, has_reference=has_reference, platform=platform
    )
    parts, whole, first = [], rollout.batch, None
    for index in range(config.updates):
      rows, batch = _minibatch(
          rollout.rows, rollout.batch, config.minibatches, jnp.int32(index)
      )
      scores, pull = forward(state.params, rows, *state.frozen)
      if is_old:
        whole = batch = _with_old(batch, scores.logprobs, has_reference)
      # The sampler's policy has not moved yet.
      first = first or (batch, scores.logprobs)
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
    measured = measure_rollout(whole) | _mismatch(
        *((whole, whole.old_logprobs) if config.recompute_old else first)
    )
    parts, measured = jax.device_get((parts, measured))
    metrics, columns = _summary(parts)
    skipped = state.skipped + int(sum(columns["skipped"]))
    return Updates(
        state._replace(skipped=skipped), metrics | measured, columns, whole
    )

  return update


@functools.partial(jax.jit, static_argnums=2)
def _minibatch(
    rows: scoring.Rows,
    batch: types.RolloutBatch,
    count: int,
    update: Int[Array, ""],
) -> tuple[scoring.Rows, types.RolloutBatch]:
  """Cuts the one of `count` equal parts, along prompts, that is next."""

  def cut(x: jax.Array) -> jax.Array:
    if x.ndim == 0:
      return x
    size = x.shape[0] // count
    part = jax.lax.dynamic_slice_in_dim(x, update % count * size, size)
    return sharding.constrain(part, "prompt")

  rows, batch = jax.tree.map(cut, (rows, batch))
  # What an engine was behind already, and the updates since.
  staleness = batch.staleness + update
  return rows, dataclasses.replace(batch, staleness=staleness)


@functools.partial(jax.jit, static_argnums=2)
def _with_old(
    batch: types.RolloutBatch,
    logprobs: Float[Array, "N T"],
    has_reference: bool,
) -> types.RolloutBatch:
  """The batch with these `old_logprobs`, also where they stand for others."""
  old = logprobs.reshape(batch.completion_mask.shape)
  return dataclasses.replace(
      batch,
      logprobs=old,
      old_logprobs=old,
      ref_logprobs=batch.ref_logprobs if has_reference else old,
  )


@jax.jit
def _mismatch(
    batch: types.RolloutBatch, logprobs: Float[Array, "..."]
) -> dict[str, metrics_lib.Metric]:
  """The sampler against a forward pass of the trainer."""
  logprobs = logprobs.reshape(batch.completion_mask.shape)
  return metrics_lib.mismatch_metrics(batch, logprobs)


@jax.jit
def _unless(
    skipped: Float[Array, ""], before: types.State, after: types.State
) -> types.State:
  """What carried a NaN into the gradient may have carried one into this."""
  keep = lambda old, new: jnp.where(skipped > 0, old, new)
  return jax.tree.map(keep, before, after)


def _own(
    found: Mapping[str, Float[np.ndarray, ""]], tokens: Float[np.ndarray, ""]
) -> dict[str, metrics_lib.Metric]:
  """What an algorithm measured of one update, to be added up.

  Updates have equally many completions, and not equally many tokens: shares of
  clipped tokens count by tokens. Like TRL's, `low_min` and `high_max` are the
  least and the largest of these shares.
  """
  numbers = {name: float(number) for name, number in found.items()}
  weight = lambda name: float(tokens) if name.startswith(_OF_TOKENS) else 1.0
  named: dict[str, metrics_lib.Metric] = {
      name: metrics_lib.Fraction(number * weight(name), weight(name))
      for name, number in numbers.items()
  }
  for side, extreme, kind in (
      ("low", "low_min", metrics_lib.Lowest),
      ("high", "high_max", metrics_lib.Highest),
  ):
    if (mean := f"{_OF_TOKENS}{side}_mean") in numbers:
      named[_OF_TOKENS + extreme] = kind(numbers[mean])
  return named


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
      _own(found, policy["entropy"].count) for found, policy, *_ in parts
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
