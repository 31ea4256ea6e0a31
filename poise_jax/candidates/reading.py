"""A traced program, operation by operation, as a graph in normal form.

Each value is read twice: as it is, and with the gradient stopped. So it does
not matter where, between input and use, the gradient is stopped, nor whether
it is stopped where there is none; what matters is which inputs it reaches.
"""

import ast
from collections.abc import Callable, Mapping
import functools
import hashlib
import re
from typing import Any

from jax.extend import core as jex_core
import numpy as np

from poise_jax.candidates import normal_form

Term, Graph = normal_form.Term, normal_form.Graph

# A value, and the same with the gradient stopped.
Pair = tuple[Term, Term]


class Reader:
  """Reads a traced program into a graph."""

  def __init__(self, graph: Graph):
    self._graph = graph

  def read(self, closed: Any, inputs: list[Pair]) -> list[Pair]:
    """Gives the outputs of a program for its inputs."""
    jaxpr = closed.jaxpr
    env: dict[Any, Pair] = {}
    for var, value in zip(jaxpr.constvars, closed.consts, strict=True):
      env[var] = (self._graph.array(np.asarray(value)),) * 2
    env |= dict(zip(jaxpr.invars, inputs, strict=True))

    def pair(atom: Any) -> Pair:
      if isinstance(atom, jex_core.Literal):
        return (self._graph.array(np.asarray(atom.val)),) * 2
      return env[atom]

    for equation in jaxpr.eqns:
      given = [pair(a) for a in equation.invars]
      results = self._equation(equation, given)
      env |= dict(zip(equation.outvars, results, strict=True))
    return [pair(a) for a in jaxpr.outvars]

  def _equation(self, equation: Any, given: list[Pair]) -> list[Pair]:
    name = equation.primitive.name
    if name == "stop_gradient":
      return [(given[0][1],) * 2]
    if name in ("copy", "copy_p", "optimization_barrier"):
      return given
    if (body := _called(equation)) is not None:
      results = self.read(body, given)
      if name.startswith("custom_"):
        # The rule for its derivative is part of what it is.
        mark = _mark(body)
        live = lambda t, v: self._graph.apply("custom", mark, [t], shape_of(v))
        both = zip(results, equation.outvars, strict=True)
        results = [(live(t, v), frozen) for (t, frozen), v in both]
      return results
    live = self._apply(equation, [g[0] for g in given])
    if all(a == b for a, b in given):
      return [(t, t) for t in live]
    frozen = self._apply(equation, [g[1] for g in given])
    return list(zip(live, frozen, strict=True))

  def _apply(self, equation: Any, args: list[Term]) -> list[Term]:
    name, graph = equation.primitive.name, self._graph
    shapes = [shape_of(v) for v in equation.outvars]
    rule = _RULES.get(name)
    result = rule(graph, equation, args) if rule else None
    if result is not None:
      return [result]
    detail = self._details(equation.params)
    bits = name in ("and", "or", "xor", "not") and not _is_bool(equation)
    if name in normal_form.ELEMENTWISE and len(shapes) == 1 and not bits:
      return [graph.apply(name, detail, args, shapes[0])]
    # Numbers have no shape of their own, and slices of nothing are numbers.
    given = (f"{v.aval.dtype.name}{shape_of(v)}" for v in equation.invars)
    detail = " ".join((detail, "of", *given))
    if len(shapes) == 1:
      return [graph.opaque(name, detail, args, shapes[0])]
    whole = graph.opaque(name, detail, args, ())
    return [
        graph.opaque("part", str(i), [whole], shape)
        for i, shape in enumerate(shapes)
    ]

  def _details(self, params: Mapping[str, Any]) -> str:
    """Writes parameters; programs among them by their hash."""
    words = []
    for key, value in sorted(params.items()):
      if key in ("name", "out_sharding", "sharding", "accuracy"):
        continue
      programs = list(jex_core.jaxprs_in_params({key: value}))
      if programs:
        closed = value if isinstance(value, tuple) else (value,)
        words.append(f"{key}={' '.join(map(self._body, closed))}")
      elif isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes())
        words.append(f"{key}={value.dtype}{value.shape}{digest.hexdigest()}")
      elif value is not None:
        words.append(f"{key}={re.sub('0x[0-9a-f]+', '', str(value))}")
    return " ".join(words)

  def _body(self, program: Any) -> str:
    """Hash of a program inside another."""
    if not hasattr(program, "jaxpr"):
      program = jex_core.ClosedJaxpr(program, ())
    inputs = [
        tuple(
            self._graph.leaf(f"arg.{i}{mark}", shape_of(v))
            for mark in ("", "'")
        )
        for i, v in enumerate(program.jaxpr.invars)
    ]
    outputs = [t for t, _ in self.read(program, inputs)]
    words = " ".join(self._graph.digest(t) for t in outputs)
    return hashlib.sha256(words.encode()).hexdigest()


def _called(equation: Any) -> Any:
  """The program that a call runs; None for what is no call."""
  name = equation.primitive.name
  calls = ("jit", "pjit", "closed_call", "core_call", "remat", "checkpoint")
  if name not in calls and not name.startswith("custom_"):
    return None
  for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
    body = equation.params.get(key)
    if body is not None:
      closed = hasattr(body, "jaxpr")
      return body if closed else jex_core.ClosedJaxpr(body, ())
  return None


def _mark(body: Any) -> str:
  """Tells functions with derivative rules apart, by their names.

  Where they are installed is no part of it. A source cannot define such
  functions, so a name means what jax means by it.
  """
  info = getattr(body.jaxpr, "debug_info", None)
  return str(getattr(info, "func_src_info", "")).partition(" at ")[0]


# Operation -> how the graph writes it; None where the rule does not apply.
_Rule = Callable[[Graph, Any, list[Term]], Term | None]


def shape_of(var: Any) -> normal_form.Shape:
  """The shape of a variable; sizes that are not known by their names."""
  sizes = var.aval.shape
  return tuple(n if isinstance(n, int) else str(n) for n in sizes)


def _shape(equation: Any) -> normal_form.Shape:
  return shape_of(equation.outvars[0])


def _is_float(equation: Any) -> bool:
  return np.issubdtype(equation.outvars[0].aval.dtype, np.floating)


def _is_bool(equation: Any) -> bool:
  return equation.outvars[0].aval.dtype == np.bool_


def _size(graph: Graph, equation: Any, args: list[Term]) -> Term | None:
  del args
  return _polynomial(graph, equation.params["dim"])


def _polynomial(graph: Graph, size: Any) -> Term:
  """A size, such as G, P*G*T or G - 1, as a term."""
  tree = ast.parse(str(size).replace("^", "**"), mode="eval").body
  return _evaluated(graph, tree)


def _evaluated(graph: Graph, tree: ast.expr) -> Term:
  match tree:
    case ast.Constant(int(value)):
      return graph.number(float(value))
    case ast.UnaryOp(ast.USub(), inner):
      return normal_form.negated(_evaluated(graph, inner))
    case ast.BinOp(base, ast.Pow(), ast.Constant(int(power))):
      return graph.multiply([(_evaluated(graph, base), power)], ())
    case ast.BinOp(left, ast.Mult(), right):
      factors = (_evaluated(graph, t) for t in (left, right))
      return graph.multiply([(f, 1) for f in factors], ())
    case ast.BinOp(left, ast.Add() | ast.Sub() as op, right):
      one, other = (_evaluated(graph, t) for t in (left, right))
      if isinstance(op, ast.Sub):
        other = normal_form.negated(other)
      return graph.add([one, other], ())
  return graph.leaf(f"size.{ast.unparse(tree)}", ())


def _is_size(graph: Graph, term: Term) -> bool:
  """Whether a term is made of sizes and numbers alone."""
  nodes = [graph.nodes[n] for n in graph.reachable([term])]
  return all(
      n.detail.startswith("size.")
      if n.op == "input"
      else n.op in ("one", "number", "sum", "product")
      for n in nodes
  )


def _divided(graph: Graph, equation: Any, args: list[Term]) -> Term | None:
  if not _is_float(equation):
    return None
  return graph.multiply([(args[0], 1), (args[1], -1)], _shape(equation))


def _power(graph: Graph, equation: Any, args: list[Term]) -> Term | None:
  exponent = equation.params.get("y", 2)
  return graph.multiply([(args[0], exponent)], _shape(equation))


def _pow(graph: Graph, equation: Any, args: list[Term]) -> Term | None:
  # Read as it stands: to a graph that is blind, roots are roots.
  atom = equation.invars[1]
  is_literal = isinstance(atom, jex_core.Literal) and np.ndim(atom.val) == 0
  exponent = float(atom.val) if is_literal else graph.value(args[1])
  if exponent in (1.0, 2.0, 3.0, 4.0):
    return graph.multiply([(args[0], int(exponent))], _shape(equation))
  if exponent == 0.5:
    return graph.apply("sqrt", "", args[:1], _shape(equation))
  return graph.apply("pow", "", args, _shape(equation))


def _rsqrt(graph: Graph, equation: Any, args: list[Term]) -> Term | None:
  root = graph.apply("sqrt", "", args, _shape(equation))
  return graph.multiply([(root, -1)], _shape(equation))


def _clamp(graph: Graph, equation: Any, args: list[Term]) -> Term | None:
  # At its ends its derivative is 0, where that of maxima is 1/2.
  return graph.apply("clamp", "", args, _shape(equation))


def _cast(graph: Graph, equation: Any, args: list[Term]) -> Term | None:
  before, after = equation.invars[0].aval.dtype, equation.outvars[0].aval.dtype
  if before == after:
    return args[0]
  if (value := graph.value(args[0])) is not None:
    with np.errstate(all="ignore"):
      return graph.number(float(np.asarray(value).astype(after)))
  if _is_size(graph, args[0]) and after == np.float32:
    return args[0]
  if before == np.bool_:
    no, yes = graph.number(0.0), graph.number(1.0)
    return graph.select(args[0], no, yes, _shape(equation))
  return graph.apply("cast", after.name, args, _shape(equation))


def _choice(graph: Graph, equation: Any, args: list[Term]) -> Term | None:
  is_test = equation.invars[0].aval.dtype == np.bool_ and len(args) == 3
  return graph.select(*args, _shape(equation)) if is_test else None


def _broadcast(graph: Graph, equation: Any, args: list[Term]) -> Term | None:
  where = equation.params["broadcast_dimensions"]
  shape = _shape(equation)
  source = {to: a for a, to in enumerate(where)}
  axes = tuple(source.get(a) for a in range(len(shape)))
  return graph.view(args[0], shape, axes)


def _reshape(graph: Graph, equation: Any, args: list[Term]) -> Term | None:
  before, after = shape_of(equation.invars[0]), _shape(equation)
  kept = [a for a, size in enumerate(before) if size != 1]
  if [before[a] for a in kept] != [s for s in after if s != 1]:
    return None
  left = iter(kept)
  axes = tuple(next(left) if size != 1 else None for size in after)
  return graph.view(args[0], after, axes)


def _reduced(graph: Graph, equation: Any, term: Term) -> tuple[Term, list[int]]:
  """Drops axes of size 1 before something is reduced."""
  squeezed, places = graph.squeezed(term)
  axes = [places[a] for a in equation.params["axes"] if a in places]
  return squeezed, axes


def _sum(graph: Graph, equation: Any, args: list[Term]) -> Term | None:
  after = _shape(equation)
  if graph.is_number(args[0]):
    operand = equation.invars[0].aval.shape
    counts = [_polynomial(graph, operand[a]) for a in equation.params["axes"]]
    total = graph.multiply([(t, 1) for t in (args[0], *counts)], ())
    return graph.view(total, after, (None,) * len(after))
  squeezed, axes = _reduced(graph, equation, args[0])
  node = graph.nodes[squeezed.node]
  if node.op == "reshape" and len(axes) == len(node.shape):
    # A sum of everything does not see how it is arranged.
    inner, _ = graph.squeezed(node.args[0])
    squeezed = Term(squeezed.scale * inner.scale, inner.node)
    axes = list(range(len(graph.nodes[inner.node].shape)))
  total = graph.total(squeezed, axes) if axes else squeezed
  return _unsqueezed(graph, total, after)


def _extreme(
    graph: Graph, equation: Any, args: list[Term], sign: float
) -> Term | None:
  """The largest along axes; the smallest, with `sign` -1."""
  if graph.is_number(args[0]):
    return args[0]
  squeezed, axes = _reduced(graph, equation, args[0])
  if axes:
    scale = abs(normal_form.divisor(squeezed.scale))
    inner = Term(sign * squeezed.scale / scale, squeezed.node)
    gone = set(axes)
    shape = graph.nodes[squeezed.node].shape
    shape = tuple(s for a, s in enumerate(shape) if a not in gone)
    detail = " ".join(map(str, sorted(gone)))
    found = graph.opaque("reduce_max", detail, [inner], shape)
    squeezed = Term(sign * scale, found.node)
  return _unsqueezed(graph, squeezed, _shape(equation))


def _unsqueezed(graph: Graph, term: Term, after: normal_form.Shape) -> Term:
  """Puts the axes of size 1 back."""
  places = iter(range(len(graph.nodes[term.node].shape)))
  axes = tuple(next(places) if size != 1 else None for size in after)
  return graph.view(term, after, axes)


def _compared(op: str, *, swapped: bool) -> _Rule:
  def rule(graph: Graph, equation: Any, args: list[Term]) -> Term | None:
    ordered = args[::-1] if swapped else args
    return graph.apply(op, "", ordered, _shape(equation))

  return rule


_RULES: Mapping[str, _Rule] = {
    "add": lambda g, e, a: g.add(a, _shape(e)),
    "add_any": lambda g, e, a: g.add(a, _shape(e)),
    "sub": lambda g, e, a: g.add([a[0], normal_form.negated(a[1])], _shape(e)),
    "neg": lambda g, e, a: normal_form.negated(a[0]),
    "mul": lambda g, e, a: g.multiply([(a[0], 1), (a[1], 1)], _shape(e)),
    "div": _divided,
    "integer_pow": _power,
    "square": _power,
    "pow": _pow,
    "rsqrt": _rsqrt,
    "max": lambda g, e, a: g.max(a, _shape(e)),
    "min": lambda g, e, a: g.min(a, _shape(e)),
    "clamp": _clamp,
    "dim_as_value": _size,
    "gt": _compared("lt", swapped=True),
    "ge": _compared("le", swapped=True),
    "lt": _compared("lt", swapped=False),
    "le": _compared("le", swapped=False),
    "convert_element_type": _cast,
    "select_n": _choice,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "reduce_sum": _sum,
    "reduce_max": functools.partial(_extreme, sign=1.0),
    "reduce_min": functools.partial(_extreme, sign=-1.0),
}
