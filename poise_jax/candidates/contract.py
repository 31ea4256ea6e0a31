"""What every loss must do, checked on probe batches before any training."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from poise_jax import types
from poise_jax.candidates import findings

# Working memory on a probe batch of a few hundred tokens.
MAX_TEMPORARY_BYTES = 64 * 1024**2

_HINTS = {
    "finite-loss": (
        "guard divisions and logarithms where a group has no spread, no valid"
        " answer or no token: jnp.maximum(x, 1e-6), or jnp.where on both sides"
    ),
    "finite-gradient": (
        "the derivative of sqrt, log, division or a power is infinite at 0, and"
        " jnp.where passes it on: make its argument safe before, e.g."
        " jnp.sqrt(jnp.maximum(x, 1e-12))"
    ),
    "masked-gradient": (
        "multiply token terms by batch.completion_mask, or aggregate with"
        " aggregation.token_mean(values, batch.completion_mask)"
    ),
    "finite-state": "guard the update of the state like the loss",
    "finite-metrics": "guard divisions in metrics: jnp.maximum(count, 1.0)",
    "no-gradient": "let the loss depend on batch.logprobs or batch.entropy",
}


@dataclasses.dataclass(frozen=True)
class Step:
  """What one call of a loss gives: value, gradients, state, metrics."""

  loss: np.ndarray
  gradients: tuple[np.ndarray, np.ndarray]
  state: dict[str, np.ndarray]
  metrics: dict[str, np.ndarray]


StepFn = Callable[[Mapping[str, Any], types.State, types.RolloutBatch], Step]


@dataclasses.dataclass(frozen=True)
class CompiledStep:
  """A `StepFn` for batches of one shape.

  Attributes:
    program: what XLA made of it.
  """

  program: jax.stages.Compiled

  def __call__(
      self,
      hparams: Mapping[str, Any],
      state: types.State,
      batch: types.RolloutBatch,
  ) -> Step:
    """Calls the loss once."""
    (loss, (state, metrics)), gradients = jax.device_get(
        self.program(hparams, state, _fields(batch))
    )
    return Step(loss, gradients, state, metrics)


def check(
    algorithm: types.Algorithm,
    batches: Mapping[str, types.RolloutBatch],
    step: StepFn | None = None,
) -> tuple[findings.Finding, ...]:
  """Runs a loss on every batch, in order, carrying its state along.

  Demanded: finite loss, gradients, state and metrics; a gradient of exactly 0
  on masked tokens. Worth knowing: no gradient anywhere.

  Args:
    algorithm: with shapes and types already checked, see `artifact.read`.
    batches: of one shape.
    step: the loss, compiled for that shape; compiled here if left out.

  Returns:
    One finding for each rule that is broken; it names the batches.
  """
  hparams = {k: jnp.float32(v) for k, v in algorithm.hparams.items()}
  state = first_state(algorithm)
  broken: dict[str, list[str]] = {}
  try:
    if step is None:
      step = compile_step(algorithm, state, next(iter(batches.values())))
  except findings.RefusedError as error:
    return (error.finding,)
  moved = False
  for name, batch in batches.items():
    result = step(hparams, state, batch)
    moved = moved or any(np.any(g != 0) for g in result.gradients)
    for rule in _broken_rules(result, np.asarray(batch.completion_mask)):
      broken.setdefault(rule, []).append(name)
    if "finite-state" not in broken:
      state = result.state
  found = [
      findings.contract(
          rule, f"{_WORDS[rule]} on the batches: {', '.join(names)}", hint
      )
      for rule, hint in _HINTS.items()
      if (names := broken.get(rule))
  ]
  if not moved:
    message = "the gradient is 0 everywhere: nothing can be learned"
    hint = _HINTS["no-gradient"]
    found.append(findings.Finding("advisory", "no-gradient", message, hint))
  return tuple(found)


def first_state(algorithm: types.Algorithm) -> types.State:
  """What `init` gives at the constants of a loss; compiles only if it must."""
  hparams = {k: jnp.float32(v) for k, v in algorithm.hparams.items()}
  if not jax.eval_shape(algorithm.init, hparams):
    return {}
  return jax.jit(algorithm.init)(hparams)


def compile_step(
    algorithm: types.Algorithm,
    state: types.State,
    batch: types.RolloutBatch,
) -> CompiledStep:
  """Compiles value and gradients for the shape of `batch`.

  Raises:
    findings.RefusedError: if it needs much more memory than the batch has
      numbers; the loss is then not run.
  """
  hparams = {k: jnp.float32(v) for k, v in algorithm.hparams.items()}
  compiled = _compile(lower_step(algorithm, hparams, state, _fields(batch)))
  usage = compiled.memory_analysis()
  if usage is not None and usage.temp_size_in_bytes > MAX_TEMPORARY_BYTES:
    raise findings.RefusedError(
        "memory",
        "the loss needs more than"
        f" {MAX_TEMPORARY_BYTES // 1024**2} MiB for a probe batch",
        "avoid arrays that are much larger than [P, G, T]",
    )
  return CompiledStep(compiled)


def lower_step(
    algorithm: types.Algorithm,
    hparams: Mapping[str, Any],
    state: types.State,
    fields: Mapping[str, Any],
) -> jax.stages.Lowered:
  """Traces value and gradients; of arrays, or of shapes and types alone."""

  # A dict and not a batch: its fields are arrays at every stage of jax.
  def step(
      hparams: Mapping[str, Any], state: types.State, fields: dict[str, Any]
  ) -> tuple[Any, Any]:
    def objective(logprobs: jax.Array, entropy: jax.Array) -> tuple[Any, Any]:
      moved = fields | {"logprobs": logprobs, "entropy": entropy}
      loss, *rest = algorithm.loss(hparams, state, types.RolloutBatch(**moved))
      return loss, rest

    return jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)(
        fields["logprobs"], fields["entropy"]
    )

  return jax.jit(step).lower(hparams, state, dict(fields))


def _compile(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
  """Compiles in a hurry: it runs a hundred times on tiny arrays."""
  if jax.default_backend() != "cpu":
    return lowered.compile()
  options: dict[str, bool | int] = {"xla_backend_optimization_level": 0}
  try:
    # Its own code generator for fusions takes as long as all the rest.
    return lowered.compile(options | {"xla_cpu_use_fusion_emitters": False})
  except jax.errors.JaxRuntimeError as error:
    # An option of XLA, not of jax: it may be gone tomorrow.
    if "No such compile option" not in str(error):
      raise
    return lowered.compile(options)


_WORDS = {
    "finite-loss": "the loss is not finite",
    "finite-gradient": "the gradient is not finite",
    "masked-gradient": "masked tokens get a gradient",
    "finite-state": "the state is not finite after a step",
    "finite-metrics": "metrics are not finite",
}


def _broken_rules(step: Step, mask: np.ndarray) -> list[str]:
  """Names the rules that one result breaks."""
  finite = [bool(np.all(np.isfinite(g))) for g in step.gradients]
  holds = {
      "finite-loss": np.isfinite(step.loss),
      "finite-gradient": all(finite),
      "masked-gradient": not any(
          np.any((mask == 0) & np.isfinite(g) & (g != 0))
          for g in step.gradients
      ),
      "finite-state": _all_finite(step.state),
      "finite-metrics": _all_finite(step.metrics),
  }
  return [rule for rule, held in holds.items() if not held]


def _fields(batch: types.RolloutBatch) -> dict[str, jax.Array]:
  """Takes a batch apart without copying."""
  return {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}


def _all_finite(arrays: Mapping[str, np.ndarray]) -> bool:
  return all(bool(np.all(np.isfinite(a))) for a in arrays.values())
