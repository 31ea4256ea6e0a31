"""Source text to artifact bytes; runs inside the child, nowhere else.

The source is executed once. Its `loss` and `init` are traced with abstract
inputs of unknown sizes and exported for cpu, cuda and tpu together with the
vector-Jacobian product of the loss. Source locations are left out, so the
bytes depend on the program alone.
"""

import ast
from collections.abc import Callable, Mapping
import dataclasses
import math
import re
from typing import Any, NamedTuple

import jax
from jax import export
from jax.extend import core as jex_core
import jax.numpy as jnp
import jaxlib

from poise_jax import types
from poise_jax.candidates import (
    artifact,
    explain,
    findings,
    limits,
    returns,
    scope,
)
from poise_jax.candidates import canonical as canonical_lib

PLATFORMS = ("cpu", "cuda", "tpu")

# Sizes that differ from each other and from those of every probe.
_ODD_SIZES = {"P": 3, "G": 5, "T": 7, "K": 3}
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_CONSTRAINTS = ("P>=1", "G>=2", "T>=1", "K>=2")
_FORBIDDEN_PRIMITIVES = (
    (
        "while",
        "a loop of unknown length",
        "use jax.lax.scan, or fori_loop with constant bounds",
    ),
    ("callback", "a call back into Python", "compute with arrays only"),
    (
        "random|threefry|rng",
        "random numbers",
        "a loss is a deterministic function of the batch",
    ),
    (
        "pallas|ffi_call|custom_call|infeed|outfeed",
        "a foreign call",
        "compute with arrays only",
    ),
)


class Transcript(NamedTuple):
  """An artifact, and the traced loss as text.

  Attributes:
    data: the artifact.
    jaxpr: the operations of the loss, one a line.
    canonical: the loss, however it was written; None if that cannot be told.
  """

  data: bytes
  jaxpr: str
  canonical: canonical_lib.Canonical | None


class _Loss(NamedTuple):
  """The exported loss, the names of its metrics, the program it was made of."""

  exported: bytes
  metrics: list[str]
  program: Any


@dataclasses.dataclass(frozen=True)
class Program:
  """What executing a source defines."""

  hparams: dict[str, float]
  neutral: dict[str, float] | None
  declares: list[str]
  init: Callable[..., Any]
  loss: Callable[..., Any]


def trace(
    source: str,
    bounds: limits.Limits,
    *,
    group_size: int,
    fallback_shape: tuple[int, int] | None = None,
) -> bytes:
  """Makes the artifact of a source, see `transcribe`."""
  return transcribe(
      source, bounds, group_size=group_size, fallback_shape=fallback_shape
  ).data


def transcribe(
    source: str,
    bounds: limits.Limits,
    *,
    group_size: int,
    fallback_shape: tuple[int, int] | None = None,
) -> Transcript:
  """Executes a source, traces its functions, packs the artifact.

  The sizes P, G, T and K stay symbols if the loss allows; else P and T; else,
  if `fallback_shape` says which (P, T) the trainer uses, none. Which it was
  is recorded in the artifact.

  Raises:
    findings.RefusedError: if the source breaks the contract.
  """
  program = execute(source)
  init, started, state = _trace_init(program, bounds)
  shapes, loss = _trace_loss(program, state, bounds, group_size, fallback_shape)
  metadata = artifact.Metadata(
      hparams=program.hparams,
      neutral=program.neutral,
      declares=program.declares,
      shapes=shapes,
      state={k: (list(v.shape), v.dtype.name) for k, v in state.items()},
      metrics=loss.metrics,
      jax_version=jax.__version__,
      jaxlib_version=jaxlib.__version__,
  )
  data = artifact.pack(metadata, loss.exported, bytes(init.serialize()))
  if len(data) > bounds.artifact_bytes:
    raise findings.RefusedError(
        "artifact-size",
        f"the exported program exceeds {bounds.artifact_bytes} bytes",
        "build large constants from jnp.arange and arithmetic; use"
        " jax.lax.scan instead of a loop that is written out",
    )
  text = loss.program.pretty_print(source_info=False, use_color=False)
  # Not traced again: what is described must be what was exported.
  described = canonical_lib.Traced(
      init=started,
      loss=loss.program,
      hparams=program.hparams,
      state=tuple(state),
      sizes=tuple(n for n in shapes.values() if isinstance(n, int)),
  )
  return Transcript(data, _ADDRESS.sub("0x", text), _canonical(described))


def _canonical(
    traced: canonical_lib.Traced,
) -> canonical_lib.Canonical | None:
  """Writes a traced loss in canonical form, if that is possible."""
  try:
    found = canonical_lib.read(traced)
  except Exception:  # Worth knowing, no more: what it says is not relied on.
    return None
  return found if len(found.text) <= limits.TEXT_BYTES else None


def execute(source: str) -> Program:
  """Runs the module text and reads the names that it must or may define.

  Raises:
    findings.RefusedError: if it raises, or a name is missing or malformed.
  """
  namespace = scope.namespace()
  with explain.blaming("execute", "the source raises when it is executed"):
    exec(compile(_plain_text(source), explain.FILE, "exec"), namespace)
  for name in ("init", "loss"):
    if not callable(namespace.get(name)):
      raise findings.RefusedError(
          "contract",
          f"`{name}` is not defined",
          "define init(hparams) -> dict and loss(hparams, state, batch) ->"
          " (loss, state, metrics)",
      )
  hparams = _constants("HPARAMS", namespace.get("HPARAMS"))
  neutral = namespace.get("NEUTRAL")
  if neutral is not None:
    neutral = _constants("NEUTRAL", neutral)
    for name in neutral:
      if name not in hparams:
        raise findings.RefusedError(
            "contract",
            f"`NEUTRAL` names {name!r}, which `HPARAMS` does not",
            "NEUTRAL gives other values for some of HPARAMS",
        )
  return Program(
      hparams,
      neutral,
      _declared(namespace.get("DECLARES", ())),
      namespace["init"],
      namespace["loss"],
  )


def _plain_text(source: str) -> ast.Module:
  """Parses a source and has its f-strings use `scope.text`."""
  tree = ast.parse(source, explain.FILE)
  for node in ast.walk(tree):
    if isinstance(node, ast.FormattedValue):
      convert = ast.Name(scope.TEXT, ast.Load())
      node.value = ast.Call(convert, [node.value], [])
  return ast.fix_missing_locations(tree)


def _declared(value: Any) -> list[str]:
  """Checks the names of the properties that the source claims."""
  if not artifact.is_claims(value):
    raise findings.RefusedError(
        "contract",
        f"`DECLARES` is not a tuple of at most {artifact.MAX_DECLARED} names",
        'write DECLARES = ("zero_sum",) with names of properties',
    )
  return list(dict.fromkeys(value))


def _constants(name: str, value: Any) -> dict[str, float]:
  """Checks a dict of finite numbers and makes them floats."""
  hint = f'write {name} = {{"clip_eps_low": 0.2, ...}} with finite numbers'
  most = artifact.MAX_HPARAMS
  if not isinstance(value, dict) or len(value) > most:
    message = f"`{name}` is not a dict of at most {most} numbers"
    raise findings.RefusedError("contract", message, hint)
  for key, number in value.items():
    is_number = type(number) in (int, float) and abs(number) < math.inf
    if not is_number or not artifact.is_constant(key, _float(number)):
      message = f"`{name}` has an entry that is not a name with a number"
      raise findings.RefusedError("contract", message, hint)
  return {key: _float(number) for key, number in value.items()}


def _float(number: int | float) -> float:
  """Infinity for what is too large, which is no constant either."""
  try:
    return float(number)
  except OverflowError:
    return math.inf


def _trace_init(
    program: Program, bounds: limits.Limits
) -> tuple[export.Exported, Any, dict[str, Any]]:
  """Exports `init`; also returns its program and the shapes of the state."""

  def init(hparams: dict[str, Any]) -> types.State:
    return returns.as_state(program.init(dict(hparams)))

  specs = _scalars(program.hparams)
  with explain.blaming("init", "`init` cannot be traced"):
    jitted = jax.jit(init)
    started = jitted.trace(specs).jaxpr
    _check_operations(started.jaxpr, bounds)
    exported = export.export(jitted, platforms=PLATFORMS)(specs)
    return exported, started, jax.eval_shape(jitted, specs)


def _trace_loss(
    program: Program,
    state: dict[str, Any],
    bounds: limits.Limits,
    group_size: int,
    fallback_shape: tuple[int, int] | None,
) -> tuple[dict[str, int | str], _Loss]:
  """Exports `loss` with the most general sizes that it can be traced with."""
  prompts, tokens = fallback_shape or (4, 12)
  concrete = {"P": prompts, "G": group_size, "T": tokens, "K": 2}
  choices = (
      {"P": "P", "G": "G", "T": "T", "K": "K"},
      {"P": "P", "G": group_size, "T": "T", "K": 2},
      concrete,
  )
  first = None
  for shapes in choices:
    try:
      loss = _export_loss(program, state, bounds, shapes)
    except findings.RefusedError as error:
      first = first or error
      # Other rules do not depend on the sizes.
      unsized = error.finding.rule not in ("loss", "gradient")
      if unsized or shapes is concrete:
        raise
    else:
      break
  if shapes is concrete and fallback_shape is None:
    raise findings.RefusedError(
        "shapes",
        "the loss depends on the number of prompts or tokens: "
        + first.finding.message,
        "let jnp infer sizes: reduce over axes, use *_like functions and"
        " broadcasting",
    )
  return shapes, loss


def _export_loss(
    program: Program,
    state: dict[str, Any],
    bounds: limits.Limits,
    shapes: Mapping[str, int | str],
) -> _Loss:
  """Exports `loss` at given sizes, after a look at its operations."""
  metric_names: list[str] = []

  def loss(
      hparams: dict[str, Any], state: types.State, batch: dict[str, Any]
  ) -> tuple[Any, types.State, types.Metrics]:
    # Only these two carry gradient, whatever the source does.
    frozen = {
        k: v if k in artifact.DIFFERENTIABLE else jax.lax.stop_gradient(v)
        for k, v in batch.items()
    }
    value, new_state, metrics = returns.unpack(
        program.loss(
            dict(jax.lax.stop_gradient(hparams)),
            dict(jax.lax.stop_gradient(state)),
            types.RolloutBatch(**frozen),
        )
    )
    metrics = returns.as_metrics(metrics)
    metric_names[:] = sorted(metrics)
    return (
        returns.as_loss(value),
        jax.lax.stop_gradient(returns.as_next_state(new_state, state)),
        jax.lax.stop_gradient(metrics),
    )

  jitted = jax.jit(loss)
  specs = (_scalars(program.hparams), state, batch_specs(shapes))
  with explain.blaming("loss", "`loss` cannot be traced"):
    traced = jitted.trace(*specs)
    _check_operations(traced.jaxpr.jaxpr, bounds)
    # With symbols jax takes reshape(4, 96) on trust.
    odd = {
        k: _ODD_SIZES[k] if isinstance(v, str) else v for k, v in shapes.items()
    }
    jax.eval_shape(loss, *specs[:2], batch_specs(odd))
    exported = export.export(jitted, platforms=PLATFORMS)(*specs)
  with explain.blaming("gradient", "`loss` cannot be differentiated"):
    data = bytes(exported.serialize(vjp_order=1))
  return _Loss(data, metric_names, traced.jaxpr)


def batch_specs(shapes: Mapping[str, int | str]) -> dict[str, Any]:
  """Describes the fields of a batch; sizes given as text become symbols."""
  names = [n for n in shapes.values() if isinstance(n, str)]
  sizes = dict(shapes)
  if names:
    bounds = [c for c in _CONSTRAINTS if c[0] in names]
    symbols = export.symbolic_shape(", ".join(names), constraints=bounds)
    by_name = dict(zip(names, symbols, strict=True))
    sizes = {k: by_name.get(v, v) for k, v in shapes.items()}
  return {
      name: jax.ShapeDtypeStruct(tuple(sizes[a] for a in axes), dtype)
      for name, (axes, dtype) in artifact.BATCH_FIELDS.items()
  }


def _scalars(names: Mapping[str, float]) -> dict[str, Any]:
  return {name: jax.ShapeDtypeStruct((), jnp.float32) for name in names}


def _check_operations(jaxpr: Any, bounds: limits.Limits) -> None:
  """Counts the operations and looks for those that may not be there."""
  count, pending = 0, [jaxpr]
  while pending:
    for equation in pending.pop().eqns:
      for pattern, words, hint in _FORBIDDEN_PRIMITIVES:
        if re.search(pattern, equation.primitive.name):
          raise findings.RefusedError("operations", f"{words} is used", hint)
      inner = list(jex_core.jaxprs_in_params(equation.params))
      pending += inner
      count += not inner
  if count > bounds.operations:
    raise findings.RefusedError(
        "operations",
        f"the loss has more than {bounds.operations} operations",
        "use array operations or jax.lax.scan instead of loops that are"
        " written out",
    )
