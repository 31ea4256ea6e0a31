"""What `init` and `loss` must return; checked while they are traced."""

from collections.abc import Iterable, Mapping, Sequence
import math
import re
from typing import Any

import jax.numpy as jnp

from poise_jax import types
from poise_jax.candidates import findings

MAX_METRICS = 64
MAX_STATE = 16
MAX_STATE_ELEMENTS = 4096

_TYPES = ("float32", "int32", "bool")
_STATE_HINT = (
    "init returns a flat dict of small arrays, e.g. {} or {'beta': 0.1}"
)
_METRICS_HINT = "return a dict of scalars, e.g. {'kl': jnp.mean(divergence)}"
_METRIC_NAME = re.compile(r"[A-Za-z0-9_./-]{1,64}")


def unpack(result: Any) -> tuple[Any, Any, Any]:
  """Unpacks what the loss returned."""
  if not isinstance(result, tuple) or len(result) != 3:
    raise findings.RefusedError(
        "contract",
        "`loss` does not return three values",
        "return (loss, state, metrics)",
    )
  return result


def as_loss(value: Any) -> Any:
  """Checks that the loss is a scalar of floating point."""
  value = _array("`loss`", value)
  if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
    raise findings.RefusedError(
        "scalar-loss",
        f"the loss has shape {value.shape} and type {value.dtype.name}",
        "reduce it to one float, e.g. aggregation.token_mean(values,"
        " batch.completion_mask)",
    )
  return value.astype(jnp.float32)


def as_state(state: Any) -> types.State:
  """Checks a flat dict of small arrays."""
  _check_keys(state)
  arrays = {k: _array(f"state {k!r}", v) for k, v in state.items()}
  _check_size(a.shape for a in arrays.values())
  # Python numbers become ordinary arrays, so that a step keeps the type.
  return {k: jnp.asarray(a, a.dtype) for k, a in arrays.items()}


def check_state(state: Mapping[str, tuple[Sequence[int], str]]) -> None:
  """Checks shapes and types of a state as an artifact gives them.

  Raises:
    findings.RefusedError: if no source can have returned that.
  """
  _check_keys(state)
  _check_size(shape for shape, _ in state.values())
  for name, (shape, dtype) in state.items():
    if dtype not in _TYPES or any(size < 0 for size in shape):
      message = f"state {name!r} is {dtype}{list(shape)}"
      raise findings.RefusedError("state", message, _STATE_HINT)


def _check_keys(state: Any) -> None:
  if not isinstance(state, dict) or len(state) > MAX_STATE:
    message = f"the state is not a dict of at most {MAX_STATE} arrays"
    raise findings.RefusedError("state", message, _STATE_HINT)
  if not all(isinstance(k, str) and k.isidentifier() for k in state):
    message = "the state has a key that is not a name"
    raise findings.RefusedError("state", message, _STATE_HINT)


def _check_size(shapes: Iterable[Sequence[int]]) -> None:
  if sum(math.prod(shape) for shape in shapes) > MAX_STATE_ELEMENTS:
    message = f"the state has more than {MAX_STATE_ELEMENTS} numbers"
    raise findings.RefusedError("state", message, _STATE_HINT)


def as_next_state(new: Any, old: types.State) -> types.State:
  """Checks that a step kept the structure of the state."""
  new = as_state(new)
  for name in sorted(set(new) | set(old)):
    before, after = (
        f"{s[name].dtype.name}{list(s[name].shape)}" if name in s else "absent"
        for s in (old, new)
    )
    if before != after:
      raise findings.RefusedError(
          "state",
          f"state {name!r} is {before} in init and {after} after a step",
          "return the same keys, shapes and types that init returns",
      )
  return new


def as_metrics(metrics: Any) -> types.Metrics:
  """Checks a dict of scalars."""
  if not isinstance(metrics, dict):
    message = f"the metrics are a {type(metrics).__name__}, not a dict"
    raise findings.RefusedError("metrics", message, _METRICS_HINT)
  check_names(list(metrics))
  arrays = {}
  for name, value in metrics.items():
    arrays[name] = _array(f"metric {name!r}", value)
    if arrays[name].shape != ():
      message = f"metric {name!r} has shape {arrays[name].shape}"
      raise findings.RefusedError("metrics", message, _METRICS_HINT)
  return {name: a.astype(jnp.float32) for name, a in arrays.items()}


def check_names(metrics: Any) -> None:
  """Checks the names of metrics.

  Raises:
    findings.RefusedError: if they are too many, or no names.
  """
  if not isinstance(metrics, list) or len(metrics) > MAX_METRICS:
    message = f"the metrics are not a dict of at most {MAX_METRICS} scalars"
    raise findings.RefusedError("metrics", message, _METRICS_HINT)
  for name in metrics:
    if not isinstance(name, str) or not _METRIC_NAME.fullmatch(name):
      message = "a metric's name is not made of letters, digits and _ . / -"
      raise findings.RefusedError("metrics", message, _METRICS_HINT)


def _array(name: str, value: Any) -> Any:
  """Converts to an array of real numbers."""
  with findings.refusing("contract", f"{name} is no array", "return arrays"):
    value = jnp.asarray(value)
  if value.dtype.name not in _TYPES:
    raise findings.RefusedError(
        "contract",
        f"{name} has type {value.dtype.name}",
        "use float32, int32 or bool",
    )
  return value
