"""One text for all ways of writing the same loss, and its hashes.

The traced loss is written in `normal_form`: helper functions are inlined, what
no output needs is left out, constants are folded, equal terms are one, names
are gone, the order of operands is fixed. Sizes are symbols, as in what is
exported: a number that happens to be the size of a group is another thing than
that size. Hyperparameters stand for their values. What counts are loss and next
state; metrics do not.

Equal hashes mean the same loss, up to rounding. Different hashes mean nothing:
`fingerprint` compares what losses do. Where this runs inside the jail, a
source might forge it: what it says is a hint until fingerprints agree.
"""

from collections.abc import Callable, Mapping
import dataclasses
import hashlib
import math
import re
from typing import Any
import zlib

import jax
from jax.extend import core as jex_core
from jax.interpreters import partial_eval
import numpy as np

from poise_jax import types
from poise_jax.candidates import normal_form, reading

Term, Graph = normal_form.Term, normal_form.Graph

# All unknown, as in an artifact that takes batches of any size.
SIZES: Mapping[str, int | str] = {"P": "P", "G": "G", "T": "T", "K": "K"}
DIFFERENTIATED = ("logprobs", "entropy")
_DIGEST = re.compile("[0-9a-f]{64}")
_PLAIN = (0.0, 1.0, -1.0, 2.0, 0.5)


@dataclasses.dataclass(frozen=True)
class Canonical:
  """A loss, however it was written.

  Attributes:
    text: the program, one operation a line; the same in every process.
    digest: hash of the text: the same loss with the same constants.
    structure: hash without numbers: the same loss with any constants.
    operations: number of different operations.
    constants: number of hyperparameters it uses, and of other numbers in it
      (0, ±1, 2, 1/2 and fixed sizes are none).
    bits: of the text, compressed.
  """

  text: str
  digest: str
  structure: str
  operations: int
  constants: int
  bits: int


def from_json(value: Any, text: str) -> Canonical | None:
  """Rebuilds one from what may be anything; None if it is none."""
  kinds = {f.name: f.type for f in dataclasses.fields(Canonical)}
  del kinds["text"]
  if not isinstance(value, dict) or set(value) != set(kinds):
    return None
  for name, kind in kinds.items():
    number = type(value[name]) is int and 0 <= value[name] < 2**31
    if kind is int and not number:
      return None
    if kind is str and not _DIGEST.fullmatch(str(value[name])):
      return None
  return Canonical(text=text, **value)


@dataclasses.dataclass(frozen=True)
class Traced:
  """What jax recorded of the two functions of a loss.

  Attributes:
    init: program of `init`: hparams to state.
    loss: program of `loss`: hparams, state, batch to value, next state, and
      what else there may be. Mappings are flat, sorted by key.
    hparams: the constants, with the values that count.
    state: keys of the state.
    sizes: of the batch that are fixed.
  """

  init: Any
  loss: Any
  hparams: Mapping[str, float]
  state: tuple[str, ...]
  sizes: tuple[int, ...] = ()

  @property
  def inputs(self) -> tuple[str, ...]:
    """Names of what the loss takes: hparam:name, state:name, batch:name."""
    batch = (field.name for field in dataclasses.fields(types.RolloutBatch))
    parts = (("hparam", self.hparams), ("state", self.state), ("batch", batch))
    return tuple(f"{kind}:{n}" for kind, of_ in parts for n in sorted(of_))

  @property
  def slots(self) -> tuple[str, ...]:
    """Keys of the state, in the order in which the functions return it."""
    return tuple(sorted(self.state))


def of(
    hparams: Mapping[str, float],
    init: Callable[..., Any],
    loss: Callable[..., Any],
    sizes: Mapping[str, int | str] = SIZES,
) -> Canonical:
  """Traces a loss and writes it in canonical form.

  It is traced once more for that. A source with a memory of its own may then
  be another one than what was exported: for that, `read` what was exported.

  Args:
    hparams: with the values that count.
    init: of an `Algorithm`, or as a source defines it.
    loss: likewise; one that was loaded from an artifact is opaque here.
    sizes: P, G, T, K to trace with: symbols, or numbers where the loss needs
      them. Other numbers give other hashes.

  Raises:
    ValueError: if the program is nested too deeply.
  """
  return read(_trace(hparams, init, loss, sizes))


def read(traced: Traced) -> Canonical:
  """Writes a traced loss in canonical form.

  Raises:
    ValueError: if the program is nested too deeply.
  """
  try:
    lines, operations = _write(traced, blind=False)
    structure, _ = _write(traced, blind=True)
  except RecursionError as error:
    raise ValueError(
        "`loss` is nested too deeply for a canonical form; use jax.lax.scan"
    ) from error
  text = "\n".join(lines)
  return Canonical(
      text=text,
      digest=_hash(text),
      structure=_hash("\n".join(structure)),
      operations=operations,
      constants=_count_constants(traced),
      bits=8 * len(zlib.compress(text.encode("utf-8"), 9)),
  )


def _trace(
    hparams: Mapping[str, float],
    init: Callable[..., Any],
    loss: Callable[..., Any],
    sizes: Mapping[str, int | str],
) -> Traced:
  # Here, because tracing imports what the parent does not need.
  from poise_jax.candidates import tracing

  scalar = jax.ShapeDtypeStruct((), np.float32)
  specs = dict.fromkeys(sorted(hparams), scalar)
  as_arrays = lambda tree: jax.tree.map(jax.numpy.asarray, tree)
  first = lambda hparams: as_arrays(dict(init(dict(hparams))))
  state = jax.eval_shape(first, specs)
  batch = tracing.batch_specs(sizes)

  def outputs(hparams: Any, state: Any, batch: Any) -> Any:
    value, after, _ = loss(
        dict(hparams), dict(state), types.RolloutBatch(**batch)
    )
    return value, as_arrays(dict(after))

  return Traced(
      init=jax.make_jaxpr(first)(specs),
      loss=jax.make_jaxpr(outputs)(specs, state, batch),
      hparams=hparams,
      state=tuple(state),
      sizes=tuple(n for n in sizes.values() if isinstance(n, int)),
  )


def _write(traced: Traced, *, blind: bool) -> tuple[list[str], int]:
  """Writes loss, next state and first state; also counts operations."""
  graph = Graph(blind=blind)
  values = {
      n: graph.parameter(float(np.float32(v)))
      for n, v in traced.hparams.items()
  }
  ordered = [values[n] for n in sorted(values)]
  starts = reading.Reader(graph).read(traced.init, [(v, v) for v in ordered])
  start = {s: t for s, (t, _) in zip(traced.slots, starts, strict=True)}

  def outputs(known_as: Mapping[str, str]) -> tuple[Term, dict[str, Term]]:
    inputs = []
    variables = traced.loss.jaxpr.invars
    for name, variable in zip(traced.inputs, variables, strict=True):
      kind, name = name.split(":")
      shape = reading.shape_of(variable)
      if kind == "hparam":
        inputs.append((values[name],) * 2)
      elif kind == "state":
        held = f"state.{known_as[name]}:{variable.aval.dtype.name}"
        inputs.append((graph.leaf(held, shape),) * 2)
      else:
        frozen = name + "'" if name in DIFFERENTIATED else name
        inputs.append((graph.leaf(name, shape), graph.leaf(frozen, shape)))
    (value, _), *rest = reading.Reader(graph).read(traced.loss, inputs)
    after = rest[: len(traced.slots)]
    slots = {s: t for s, (_, t) in zip(traced.slots, after, strict=True)}
    return value, slots

  # First without telling the slots apart, to sort them by what they do.
  alike = dict.fromkeys(traced.slots, "?")
  value, after = outputs(alike)
  roots = [value]
  if traced.slots:
    key = lambda s: (graph.digest(start[s]), graph.digest(after[s]), s)
    ranked = sorted(traced.slots, key=key)
    value, after = outputs({s: str(i) for i, s in enumerate(ranked)})
    # Those that nothing depends on have no number.
    live = [ranked[i] for i in _live(graph, value, [after[s] for s in ranked])]
    value, after = outputs(alike | {s: str(i) for i, s in enumerate(live)})
    roots = [value]
    for slot in live:
      roots += [start[slot], after[slot]]
  return _lines(graph, roots)


def _live(graph: Graph, value: Term, after: list[Term]) -> list[int]:
  """Numbers the slots of the state that ever reach the loss."""
  found: set[int] = set()
  pending = [value]
  while pending:
    nodes = (graph.nodes[n] for n in graph.reachable([pending.pop()]))
    read = {
        int(n.detail.removeprefix("state.").partition(":")[0])
        for n in nodes
        if n.op == "input" and n.detail.startswith("state.")
    }
    pending += [after[i] for i in sorted(read - found)]
    found |= read
  return sorted(found)


def _lines(graph: Graph, roots: list[Term]) -> tuple[list[str], int]:
  """Numbers the nodes in the order in which they are needed."""
  names, lines, operations = {}, [], 0

  def term(t: Term) -> str:
    if (value := graph.value(t)) is not None:
      return normal_form.number_text(value)
    scale = "" if t.scale == 1.0 else f"{normal_form.number_text(t.scale)}*"
    return scale + names[t.node]

  for index in graph.reachable(roots):
    node = graph.nodes[index]
    if node.op in ("one", "number"):
      names[index] = "#"
      continue
    shape = ",".join(map(str, node.shape))
    if node.op == "input":
      held = node.detail.startswith("state.")
      names[index] = f"{node.detail}[{shape}]" if held else node.detail
      continue
    names[index] = f"%{len(lines)}"
    operations += node.op not in ("array", "view")
    words = [f"{names[index]}[{shape}] = {node.op}"]
    words += [f"({node.detail})"] if node.detail else []
    lines.append(" ".join(words + [term(a) for a in node.args]))
  lines.append("return " + " ".join(map(term, roots)))
  return lines, operations


def _hash(text: str) -> str:
  """Another jax traces other operations: its hashes are never the same."""
  return hashlib.sha256(f"{jax.__version__}\n{text}".encode()).hexdigest()


def _count_constants(traced: Traced) -> int:
  """Counts hyperparameters in use and numbers that are no sizes."""
  count = 1 + len(traced.slots)
  outputs = [i < count for i in range(len(traced.loss.jaxpr.outvars))]
  jaxpr, used = partial_eval.dce_jaxpr(traced.loss.jaxpr, outputs)
  counts = zip(traced.inputs, used, strict=True)
  parameters = sum(u for name, u in counts if name.startswith("hparam:"))
  products = {1.0}
  for size in traced.sizes:
    products |= {p * size for p in products}
  numbers, pending = set(), [jaxpr]
  while pending:
    for equation in pending.pop().eqns:
      pending += list(jex_core.jaxprs_in_params(equation.params))
      for atom in equation.invars:
        if isinstance(atom, jex_core.Literal) and np.ndim(atom.val) == 0:
          numbers.add(abs(float(np.float32(atom.val))))
  return parameters + len(numbers - products - set(_PLAIN) - {math.inf})
