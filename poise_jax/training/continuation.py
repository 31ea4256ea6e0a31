"""What a run continues from: its state as a checkpoint, and its identity."""

from collections.abc import Mapping
import dataclasses
from typing import Any

from poise_jax import types
from poise_jax.training import (
    checkpoint,
    prompts,
)
from poise_jax.training import (
    config as config_lib,
)
from poise_jax.training import (
    state as state_lib,
)


def identity(
    training: config_lib.TrainConfig, algorithm: types.Algorithm, seed: int
) -> dict[str, Any]:
  """What must not change over a run, by the flag that would change it."""
  fields = dataclasses.asdict(training)
  # A run may go on on other devices, and in other pieces.
  for name in ("mesh", "micro_batches", "schedule"):
    fields.pop(name)
  if training.lora is None:  # It was not always a field.
    fields.pop("lora")
  scoring = fields.pop("scoring")
  return {
      "--config.algorithm": algorithm.name,
      "--hparam": dict(algorithm.hparams),
      "--config.scoring.compute_dtype": scoring["compute_dtype"],
      "--config.train": fields,
      "--config.run.seed": seed,
  }


def save(
    checkpoints: checkpoint.Checkpoints,
    state: state_lib.TrainState,
    values: Mapping[str, float],
) -> None:
  """Starts writing a checkpoint, in the background.

  What is frozen is left out: a run begins with it anew.

  Args:
    checkpoints: of the run.
    state: after its step.
    values: of the step, by which checkpoints are kept.
  """
  meta = {
      "step": state.step,
      "position": list(state.position),
      "skipped": state.skipped,
  }
  checkpoints.save(state.step, _arrays(state), meta, dict(values))


def restore(
    checkpoints: checkpoint.Checkpoints,
    step: int,
    like: state_lib.TrainState,
) -> state_lib.TrainState:
  """Reads the state of a checkpoint.

  Args:
    checkpoints: of the run.
    step: that it was saved after.
    like: a fresh state, or its shapes and places, which need no memory; what is
      frozen is taken from it.

  Raises:
    ValueError: as `checkpoint.Checkpoints.restore`.
  """
  arrays, meta = checkpoints.restore(step, _arrays(like))
  return like._replace(
      **arrays,
      position=prompts.Position(*meta["position"]),
      step=meta["step"],
      skipped=meta["skipped"],
  )


def _arrays(state: state_lib.TrainState) -> dict[str, Any]:
  """What of a state is arrays."""
  return {
      "params": state.params,
      "opt_state": state.opt_state,
      "algorithm_state": state.algorithm_state,
      "history": state.history,
  }
