"""What a checkpoint says about itself, readable without its arrays."""

from collections.abc import Mapping, Sequence
import importlib.metadata
import json
from typing import Any, NamedTuple

_PACKAGES = ("poise_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint")
_LISTED = 10


class Record(NamedTuple):
  """The small part of one step; all of it is JSON.

  Attributes:
    step: training steps done.
    meta: what the caller needs to continue or to rebuild the model.
    metrics: name -> value; may be NaN.
    fingerprint: what must be the same wherever the step is restored.
    versions: package -> version that saved it.
    leaves: name of each array -> dtype and shape, as in "float32[2,3]".
    weak: names of the arrays that are weakly typed.
    retention: fields of the `Retention` that it was saved with; empty in
      checkpoints from before this was kept.
  """

  step: int
  meta: dict[str, Any]
  metrics: dict[str, float]
  fingerprint: dict[str, Any]
  versions: dict[str, str]
  leaves: dict[str, str]
  weak: list[str]
  retention: dict[str, Any] = {}


def as_json(argument: str, fields: Mapping[str, Any]) -> dict[str, Any]:
  """The fields as they will be read back: tuples become lists.

  Raises:
    TypeError: if they cannot be written as JSON; names the argument.
  """
  try:
    return json.loads(json.dumps(dict(fields)))
  except (TypeError, ValueError) as error:
    raise TypeError(
        f"`{argument}` must be JSON-able ({error}): turn arrays into lists and"
        " objects into text"
    ) from error


def versions() -> dict[str, str]:
  """Versions of the packages that what a run computes depends on."""
  found = {}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
      found[name] = "unknown"
  return found


def differences(saved: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
  """Names the fields that differ, nested ones with dots."""
  old, new = _flat(saved), _flat(here)
  return [
      f"{name} is {old.get(name, 'absent')} there,"
      f" {new.get(name, 'absent')} here"
      for name in sorted(old.keys() | new.keys())
      if old.get(name) != new.get(name)
  ]


def listed(items: Sequence[str]) -> str:
  """Joins the first few, and counts the rest."""
  text = "; ".join(items[:_LISTED])
  more = len(items) - _LISTED
  return f"{text}; and {more} more" if more > 0 else text


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
  """Field -> its value as JSON, so that NaN equals NaN and 1 is not 1.0."""
  flat = {}
  for name, value in fields.items():
    if isinstance(value, Mapping) and value:
      flat |= _flat(value, f"{prefix}{name}.")
    else:
      flat[prefix + name] = json.dumps(value)
  return flat
