"""The bytes that stand for a candidate, and the Algorithm made from them.

An artifact is one self-contained byte string: a mark, a JSON header, the
exported loss with its vector-Jacobian product, the exported init. The same
source gives the same bytes in every process, so their hash names the program.

Whoever reads one trusts nothing in it: header, signatures and operations are
checked before anything is compiled.
"""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import json
import math
import re
import struct
from typing import Any

import jax
from jax import export
import jax.numpy as jnp

from poise_jax import types
from poise_jax.candidates import findings, returns, screen

CONTRACT_VERSION = 1
MAX_HPARAMS = 64
MAX_DECLARED = 16
DIFFERENTIABLE = ("logprobs", "entropy")

# Field of the batch -> its axes and type, as they cross the boundary.
BATCH_FIELDS: dict[str, tuple[str, str]] = {
    "logprobs": ("PGT", "float32"),
    "entropy": ("PGT", "float32"),
    "old_logprobs": ("PGT", "float32"),
    "sampler_logprobs": ("PGT", "float32"),
    "ref_logprobs": ("PGT", "float32"),
    "completion_mask": ("PGT", "float32"),
    "rewards": ("PG", "float32"),
    "correct": ("PG", "float32"),
    "format_valid": ("PG", "float32"),
    "truncated": ("PG", "float32"),
    "lengths": ("PG", "float32"),
    "staleness": ("PG", "float32"),
    "reward_components": ("PGK", "float32"),
    "history_pass_rate": ("P", "float32"),
    "step": ("", "int32"),
    "progress": ("", "float32"),
}

_MARK = b"poise-jax artifact\n"
_LENGTHS = struct.Struct(">III")
_CLAIM = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_PLATFORMS = frozenset({"cpu", "cuda", "tpu"})
_HINT = "verify the source again with this version of the package"


@dataclasses.dataclass(frozen=True)
class Metadata:
  """What the header says.

  Attributes:
    hparams: the constants that the source declares.
    neutral: the values at which its new mechanism vanishes, if it says so.
    shapes: P, G, T, K: a symbol if the size is free, a number if it is fixed.
    state: state key -> (shape, type name).
    metrics: names of the metrics, sorted.
    jax_version: that exported it.
    jaxlib_version: that exported it.
    declares: properties that the source claims to have.
    contract_version: of the calling convention.
  """

  hparams: dict[str, float]
  neutral: dict[str, float] | None
  shapes: dict[str, int | str]
  state: dict[str, tuple[list[int], str]]
  metrics: list[str]
  jax_version: str
  jaxlib_version: str
  declares: list[str]
  contract_version: int = CONTRACT_VERSION


@dataclasses.dataclass(frozen=True)
class Artifact:
  """A checked artifact: its header and its two functions."""

  metadata: Metadata
  loss: export.Exported
  init: export.Exported


def sha256(data: bytes) -> str:
  """Hash that names the program."""
  return hashlib.sha256(data).hexdigest()


def pack(metadata: Metadata, loss: bytes, init: bytes) -> bytes:
  """Joins the parts of an artifact."""
  header = json.dumps(
      dataclasses.asdict(metadata),
      sort_keys=True,
      separators=(",", ":"),
      allow_nan=False,
  ).encode("utf-8")
  lengths = _LENGTHS.pack(len(header), len(loss), len(init))
  return b"".join((_MARK, lengths, header, loss, init))


def header(data: bytes) -> Metadata:
  """Reads the header alone; parses no program.

  Raises:
    findings.RefusedError: if it is damaged or of another contract version.
  """
  text, _, _ = _split(data)
  with findings.refusing("artifact", "its header is malformed", _HINT):
    return _metadata(json.loads(text))


# The gate reads what the trainer then loads: once is enough.
@functools.lru_cache(maxsize=16)
def read(data: bytes) -> Artifact:
  """Takes an artifact apart and checks everything in it.

  Raises:
    findings.RefusedError: if it is damaged, of another contract version, has
      another signature than its header says, or contains operations that a
      loss may not have.
  """
  metadata = header(data)
  _, loss_bytes, init_bytes = _split(data)
  with findings.refusing("artifact", "it cannot be deserialized", _HINT):
    loss = export.deserialize(bytearray(loss_bytes))
    init = export.deserialize(bytearray(init_bytes))
    vjp = loss.vjp()
  _check_signature(metadata, loss, init)
  for function in (loss, vjp, init):
    _check_closed(function)
    screen.check(function.mlir_module())
  return Artifact(metadata, loss, init)


def load(data: bytes, name: str) -> types.Algorithm:
  """Makes the Algorithm; its functions work under `jit` and `grad`.

  They do not work under `vmap`. Its loss compiles anew for every shape of the
  batch.

  Raises:
    findings.RefusedError: see `read`.
  """
  return algorithm(read(data), name)


def algorithm(parts: Artifact, name: str) -> types.Algorithm:
  """Makes the Algorithm from a checked artifact; see `load`."""
  names = tuple(parts.metadata.hparams)

  def init(hparams: types.HParams) -> types.State:
    return parts.init.call(_scalars(hparams, names))

  def loss(
      hparams: types.HParams, state: types.State, batch: types.RolloutBatch
  ) -> tuple[jax.Array, types.State, types.Metrics]:
    fields = {
        field: jnp.asarray(getattr(batch, field), dtype)
        for field, (_, dtype) in BATCH_FIELDS.items()
    }
    return parts.loss.call(_scalars(hparams, names), dict(state), fields)

  return types.Algorithm(name, dict(parts.metadata.hparams), init, loss)


def _scalars(
    hparams: Mapping[str, Any], names: tuple[str, ...]
) -> dict[str, jax.Array]:
  """Makes the run-time inputs from the values of the named constants."""
  if set(hparams) != set(names):
    raise ValueError(
        f"`hparams` must have exactly the keys {sorted(names)}, got"
        f" {sorted(hparams)}; start from the algorithm's own hparams"
    )
  return {name: jnp.asarray(hparams[name], jnp.float32) for name in names}


def _split(data: bytes) -> tuple[bytes, bytes, bytes]:
  """Cuts the byte string into header, loss and init."""
  start = len(_MARK) + _LENGTHS.size
  if not data.startswith(_MARK) or len(data) < start:
    raise findings.RefusedError("artifact", "not an artifact", _HINT)
  lengths = _LENGTHS.unpack(data[len(_MARK) : start])
  if len(data) != start + sum(lengths):
    raise findings.RefusedError("artifact", "it is cut off", _HINT)
  ends = (start + lengths[0], start + lengths[0] + lengths[1])
  return data[start : ends[0]], data[ends[0] : ends[1]], data[ends[1] :]


def _metadata(header: Any) -> Metadata:
  """Rebuilds the header; any fault raises."""
  if header["contract_version"] != CONTRACT_VERSION:
    raise findings.RefusedError(
        "artifact",
        f"contract version {header['contract_version']!r}; this package reads"
        f" version {CONTRACT_VERSION}",
        _HINT,
    )
  header["state"] = {
      key: ([int(n) for n in shape], str(dtype))
      for key, (shape, dtype) in header["state"].items()
  }
  metadata = Metadata(**header)
  for constants in (metadata.hparams, metadata.neutral or {}):
    if len(constants) > MAX_HPARAMS or not all(
        is_constant(*item) for item in constants.items()
    ):
      raise ValueError("constants must be few, named and finite floats")
  if not set(metadata.neutral or {}) <= set(metadata.hparams):
    raise ValueError("neutral constants must be among the constants")
  if set(metadata.shapes) != set("PGTK"):
    raise ValueError("sizes must be P, G, T and K")
  if not is_claims(metadata.declares):
    raise ValueError("claims must be few names")
  returns.check_state(metadata.state)
  returns.check_names(metadata.metrics)
  return metadata


def is_constant(name: Any, value: Any) -> bool:
  """Whether a source may declare this constant."""
  named = isinstance(name, str) and name.isidentifier() and len(name) <= 64
  return named and type(value) is float and math.isfinite(value)


def is_claims(value: Any) -> bool:
  """Whether these may be the names of claimed properties."""
  return (
      isinstance(value, (tuple, list))
      and len(value) <= MAX_DECLARED
      and all(type(name) is str and _CLAIM.fullmatch(name) for name in value)
  )


def _check_signature(
    metadata: Metadata, loss: export.Exported, init: export.Exported
) -> None:
  """Checks that both functions take and give what the header says."""
  number = ([], "float32")
  hparams = {name: number for name in metadata.hparams}
  state = metadata.state
  batch = {
      name: ([metadata.shapes[a] for a in axes], dtype)
      for name, (axes, dtype) in BATCH_FIELDS.items()
  }
  metrics = {name: number for name in metadata.metrics}
  for function, inputs, outputs in (
      (loss, ((hparams, state, batch), {}), (number, state, metrics)),
      (init, ((hparams,), {}), state),
  ):
    given = (function.in_tree, function.out_tree, _avals(function))
    in_specs, in_tree = jax.tree.flatten(inputs, is_leaf=_is_spec)
    out_specs, out_tree = jax.tree.flatten(outputs, is_leaf=_is_spec)
    specs = [([str(n) for n in s], d) for s, d in in_specs + out_specs]
    if given != (in_tree, out_tree, specs):
      raise findings.RefusedError(
          "artifact", "its signature is not what its header says", _HINT
      )


def _is_spec(node: Any) -> bool:
  """Tells a (shape, type name) pair from a container of such pairs."""
  return isinstance(node, tuple) and len(node) == 2 and isinstance(node[1], str)


def _avals(function: export.Exported) -> list[tuple[list[str], str]]:
  """Lists shapes and types of inputs and outputs."""
  avals = (*function.in_avals, *function.out_avals)
  return [([str(n) for n in a.shape], a.dtype.name) for a in avals]


def _check_closed(function: export.Exported) -> None:
  """Checks that a function has no effects and no safety check switched off."""
  if (
      function.ordered_effects
      or function.unordered_effects
      or function.disabled_safety_checks
      or function.nr_devices != 1
      or not set(function.platforms) <= _PLATFORMS
  ):
    raise findings.RefusedError(
        "artifact",
        "it has side effects or asks for unsafe loading",
        "compute with arrays only",
    )
