"""What a result depends on: checkpoint, data, settings, code, machine.

All but the machine is the identity of a result. Two results of one identity
were made from the same inputs by the same code, and on one kind of machine
they are equal bit for bit.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

import jax

import poise_jax

# Of the package, what can change a completion, a verdict on it, or a prompt.
_SOURCES = (
    "models",
    "rollout",
    "tasks",
    "sharding.py",
    "types.py",
    "evaluation/batching.py",
    "evaluation/judging.py",
    "evaluation/keyed_generation.py",
    "evaluation/problem_sets.py",
    "evaluation/running.py",
    "evaluation/votes.py",
)
_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "tokenizers",
    "transformers",
    "math-verify",
    "sympy",
    "latex2sympy2_extended",
)


def canonical(value: Any) -> str:
  """JSON of which there is one form: sorted keys, no spaces."""
  return json.dumps(
      value, sort_keys=True, separators=(",", ":"), allow_nan=False
  )


def digest(value: Any) -> str:
  """SHA-256 of `canonical`."""
  return hashlib.sha256(canonical(value).encode()).hexdigest()


def sources(names: Sequence[str] = _SOURCES) -> str:
  """Hash of modules of this package: of those that can change a result."""
  root = pathlib.Path(poise_jax.__file__).parent
  found = hashlib.sha256()
  for name in names:
    path = root / name
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    for file in files:
      data = file.read_bytes()
      place = file.relative_to(root).as_posix()
      found.update(f"{place} {len(data)}\n".encode() + data)
  return found.hexdigest()


def code() -> dict[str, str]:
  """Versions of whatever can change a result, "absent" where not installed."""
  return {
      "poise_jax": sources(),
      "python": platform.python_version(),
      **_versions(_PACKAGES),
  }


def analysis() -> dict[str, str]:
  """Versions of what makes intervals and tests of results."""
  return {
      "poise_jax.evaluation": sources(("evaluation",)),
      **_versions(("numpy", "scipy")),
  }


def _versions(names: Sequence[str]) -> dict[str, str]:
  versions = dict.fromkeys(names, "absent")
  for name in names:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[name] = importlib.metadata.version(name)
  return versions


def machine() -> dict[str, str]:
  """What else decides the last bits: processor, devices, compiler flags."""
  return {
      "processor": _processor(),
      "backend": jax.default_backend(),
      "device": jax.devices()[0].device_kind,
      "xla_flags": os.environ.get("XLA_FLAGS", ""),
      "threads": os.environ.get("NPROC", str(os.cpu_count())),
  }


def differences(
    ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> list[str]:
  """Where two identities differ, one text a field: "sampling.seed is 0, 1"."""
  left, right = dict(_flat(ours)), dict(_flat(theirs))
  return [
      f"{name} is {left.get(name, 'missing')}, {right.get(name, 'missing')}"
      for name in sorted(left.keys() | right.keys())
      if left.get(name) != right.get(name)
  ]


def _flat(
    fields: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str]]:
  for name, value in fields.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f"{prefix}{name}.")
    else:
      yield f"{prefix}{name}", canonical(value)


def _processor() -> str:
  """The kind of CPU, as the system names it."""
  with contextlib.suppress(OSError):
    for line in pathlib.Path("/proc/cpuinfo").read_text("utf-8").splitlines():
      if line.startswith("model name"):
        return line.partition(":")[2].strip()
  return platform.processor() or platform.machine()
