"""Expressions in a form that does not depend on how they were written down.

A value is a number times a node of a graph. Equal nodes are one node. Sums
and products are collected and sorted, maxima sorted, differences, quotients,
powers and minima written with them; numbers are pulled out and folded;
broadcasts are pushed down to what they broadcast. So
`-jnp.minimum(a * r, a * c)` and `jnp.maximum(-(r * a), -c * a)` are the same
node.

The rules are those of real numbers, not of floats: good for telling whether
two texts mean the same, of no use for computing it bit by bit. They keep
derivatives too, also where operands of a maximum are equal: there the gradient
is shared out, so nested maxima are not one.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import hashlib
import math
from typing import NamedTuple

import numpy as np

# Longer sums and products stay in brackets: to sort them again and
# again would take a time that grows with the square of their length.
_LONGEST = 64

# Sizes that are not known have names.
Shape = tuple[int | str, ...]

# One for each axis of the result: the axis that it repeats, None if new.
Axes = tuple[int | None, ...]

# Those that numpy has under the same name, and others.
_NAMESAKES = "abs sqrt exp exp2 expm1 log log1p tanh sin cos floor ceil sign"
_FUNCTIONS: Mapping[str, Callable[..., float]] = {
    name: getattr(np, name) for name in _NAMESAKES.split()
} | {
    "logistic": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "clamp": lambda low, x, high: np.minimum(np.maximum(low, x), high),
    "is_finite": np.isfinite,
    "pow": np.power,
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "not": np.logical_not,
}
# Of arrays of one shape, entry by entry; more than can be folded.
ELEMENTWISE = frozenset(_FUNCTIONS) | frozenset(
    "sum product max select custom cast tan asin acos atan sinh cosh asinh"
    " acosh atanh erf erfc erf_inv lgamma digamma cbrt atan2 rem nextafter"
    " round div shift_left shift_right_logical shift_right_arithmetic"
    " population_count".split()
)
_SYMMETRIC = frozenset({"and", "or", "xor", "eq", "ne"})


class Term(NamedTuple):
  """A number times a node."""

  scale: float
  node: int


@dataclasses.dataclass(frozen=True)
class Node:
  """A function of other nodes.

  Attributes:
    op: its name.
    detail: what else there is to say about it: exponents, axes.
    args: of the function.
    shape: of the value; () for numbers, which go with every shape.
    digest: hash of the expression below it.
  """

  op: str
  detail: str
  args: tuple[Term, ...]
  shape: Shape
  digest: bytes


def number_text(value: float) -> str:
  """Writes a number as the nearest f32: what a program can tell apart.

  It is folded with twice the digits, so in any order to the same one.
  """
  value = float(value) + 0.0
  single = float(np.float32(value)) if not value.is_integer() else value
  value = single or value
  return f"{value:.0f}" if value.is_integer() else f"{value:.9g}"


class Graph:
  """Makes nodes; each node once.

  Args:
    blind: whether all numbers but 0, 1 and -1 look the same.
  """

  def __init__(self, *, blind: bool):
    self.nodes: list[Node] = []
    self._known: dict[bytes, int] = {}
    self._powers: dict[int, tuple[tuple[int, int], ...]] = {}
    self._axes: dict[int, Axes] = {}
    self._viewed: dict[tuple[int, Shape, Axes], Term] = {}
    self._blind = blind
    self._some = -1
    self._one = self._intern("one", "", (), ())
    self._some = self._intern("number", "", (), ())

  def number(self, value: float) -> Term:
    """A number that goes with every shape."""
    value = float(value)
    if self._blind and value not in (0.0, 1.0, -1.0):
      return Term(1.0, self._some)
    return Term(value, self._one)

  def parameter(self, value: float) -> Term:
    """A number that is meant to be changed: 0 and 1 are not special."""
    return Term(1.0, self._some) if self._blind else self.number(value)

  def leaf(self, name: str, shape: Shape) -> Term:
    """An input."""
    return Term(1.0, self._intern("input", name, (), shape))

  def array(self, value: np.ndarray) -> Term:
    """A constant array."""
    if value.size and np.all(value == value.flat[0]):
      return self.number(float(value.flat[0]))
    words = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    words = value.dtype.name if self._blind else f"{value.dtype.name} {words}"
    return Term(1.0, self._intern("array", words, (), value.shape))

  def value(self, term: Term) -> float | None:
    """The number that a term is; None if it is none, or not to be seen."""
    return term.scale if term.node == self._one or not term.scale else None

  def is_number(self, term: Term) -> bool:
    """Whether a term is a number, to be seen or not."""
    return self.value(term) is not None or term.node == self._some

  def opaque(
      self, op: str, detail: str, args: Iterable[Term], shape: Shape
  ) -> Term:
    """Any other function."""
    return Term(1.0, self._intern(op, detail, tuple(args), shape))

  def add(self, terms: Iterable[Term], shape: Shape) -> Term:
    """Sums, with equal terms collected."""
    scales: dict[int, float] = {}
    for scale, node in terms:
      is_sum = self._opens(node, "sum")
      for inner in self.nodes[node].args if is_sum else (Term(1.0, node),):
        inner = self._shaped(inner, shape)
        scales[inner.node] = scales.get(inner.node, 0.0) + scale * inner.scale
    if self._some in scales:
      scales[self._some] = 1.0
      scales.pop(self._one, None)
    parts = [Term(s, n) for n, s in scales.items() if s != 0.0]
    if len(parts) < 2:
      return parts[0] if parts else self.number(0.0)
    parts.sort(key=self._order)
    # The first that is no number gives the unit, so that a - b is -(b - a).
    free = (self._one, self._some)
    unit = divisor(next(t.scale for t in parts if t.node not in free))
    args = tuple(Term(t.scale / unit, t.node) for t in parts)
    return Term(unit, self._intern("sum", "", args, shape))

  def max(self, terms: Iterable[Term], shape: Shape) -> Term:
    """The largest of some terms."""
    found = {self._shaped(term, shape) for term in terms}
    numbers = [v for t in found if (v := self.value(t)) is not None]
    rest = {t for t in found if self.value(t) is None}
    if numbers:
      rest.add(self.number(max(numbers)))
    if len(rest) == 1:
      return rest.pop()
    if all(t.node in (self._one, self._some) for t in rest):
      return self.parameter(math.nan)
    ordered = sorted(rest, key=self._order)
    unit = abs(divisor(*(t.scale for t in ordered)))
    args = tuple(Term(t.scale / unit, t.node) for t in ordered)
    return Term(unit, self._intern("max", "", args, shape))

  def min(self, terms: Iterable[Term], shape: Shape) -> Term:
    """The smallest: max with the signs changed."""
    return negated(self.max([negated(t) for t in terms], shape))

  def multiply(self, factors: Iterable[tuple[Term, int]], shape: Shape) -> Term:
    """Multiplies powers with whole exponents; x / x stays, it may be 0 / 0."""
    scale, up, down = 1.0, {}, {}
    with np.errstate(all="ignore"):
      for factor, power in factors:
        factor = self._shaped(factor, shape)
        scale = float(scale * np.power(np.float64(factor.scale), power))
        is_product = self._opens(factor.node, "product")
        inner = self._powers[factor.node] if is_product else ((factor.node, 1),)
        for node, exponent in inner:
          exponent *= power
          side = up if exponent > 0 else down
          side[node] = side.get(node, 0) + abs(exponent)
    for side in (up, down):
      side.pop(self._one, None)
    if scale == 0.0:
      return self.number(0.0)
    if up.pop(self._some, 0) + down.pop(self._some, 0):
      # What is multiplied by some number has no scale of its own.
      scale, up[self._some] = 1.0, 1
    powers = [(n, e) for n, e in up.items()]
    powers += [(n, -e) for n, e in down.items()]
    if not powers:
      return self.number(scale)
    if len(powers) == 1 and powers[0][1] == 1:
      return Term(scale, powers[0][0])
    powers.sort(key=lambda p: (self.nodes[p[0]].digest, p[1]))
    detail = " ".join(str(e) for _, e in powers)
    args = tuple(Term(1.0, n) for n, _ in powers)
    node = self._intern("product", detail, args, shape)
    self._powers[node] = tuple(powers)
    return Term(scale, node)

  def select(self, test: Term, no: Term, yes: Term, shape: Shape) -> Term:
    """`yes` where `test`, `no` elsewhere."""
    while self.nodes[test.node].op == "not":
      test, no, yes = self.nodes[test.node].args[0], yes, no
    known = self.value(test)
    if known is not None:
      return yes if known else no
    test, no, yes = (self._shaped(t, shape) for t in (test, no, yes))
    if no == yes:
      return yes
    unit = divisor(yes.scale, no.scale)
    args = (
        test,
        Term(no.scale / unit, no.node),
        Term(yes.scale / unit, yes.node),
    )
    return Term(unit, self._intern("select", "", args, shape))

  def apply(
      self, op: str, detail: str, args: Iterable[Term], shape: Shape
  ) -> Term:
    """A function of arrays of one shape, entry by entry."""
    args = [self._shaped(a, shape) for a in args]
    numbers = [self.value(a) for a in args]
    if op in _FUNCTIONS and None not in numbers:
      with np.errstate(all="ignore"):
        return self.number(float(_FUNCTIONS[op](*map(np.float64, numbers))))
    if all(a.node in (self._one, self._some) for a in args) and self._blind:
      return Term(1.0, self._some)
    scale = 1.0
    if op == "abs" or (op == "sqrt" and args[0].scale > 0):
      scale = float(_FUNCTIONS[op](args[0].scale))
      args = [Term(1.0, args[0].node)]
    if op in _SYMMETRIC:
      args.sort(key=self._order)
    return Term(scale, self._intern(op, detail, tuple(args), shape))

  def view(self, term: Term, shape: Shape, axes: Axes) -> Term:
    """Broadcasts, adds and drops axes of size 1; no others.

    Args:
      term: what to look at.
      shape: of the result.
      axes: for each axis of the result, which axis of `term` it is.
    """
    node = self.nodes[term.node]
    if term.node in (self._one, self._some):
      return term
    axes = tuple(
        a if a is not None and node.shape[a] != 1 else None for a in axes
    )
    key = (term.node, shape, axes)
    if key not in self._viewed:
      self._viewed[key] = self._view(*key)
    seen = self._viewed[key]
    return Term(term.scale * seen.scale, seen.node)

  def squeezed(self, term: Term) -> tuple[Term, dict[int, int]]:
    """Drops axes of size 1; also says where each other axis went."""
    shape = self.nodes[term.node].shape
    kept = tuple(a for a, size in enumerate(shape) if size != 1)
    result = self.view(term, tuple(shape[a] for a in kept), kept)
    return result, {a: i for i, a in enumerate(kept)}

  def total(self, term: Term, axes: Iterable[int]) -> Term:
    """Sums over axes; `term` has none of size 1."""
    node = self.nodes[term.node]
    axes, inner = set(axes), term.node
    if node.op == "reduce_sum":
      left = [a for a in range(len(node.shape)) if a not in axes]
      gone = set(map(int, node.detail.split()))
      inner = node.args[0].node
      before = range(len(self.nodes[inner].shape))
      kept = [a for a in before if a not in gone]
      axes = set(before) - {kept[a] for a in left}
    shape = self.nodes[inner].shape
    shape = tuple(s for a, s in enumerate(shape) if a not in axes)
    detail = " ".join(map(str, sorted(axes)))
    one = Term(1.0, inner)
    return Term(term.scale, self._intern("reduce_sum", detail, (one,), shape))

  def reachable(self, roots: Iterable[Term]) -> list[int]:
    """Lists the nodes below some terms, each after its arguments."""
    order, done = [], set()
    pending = [(t.node, False) for t in reversed(list(roots))]
    while pending:
      node, ready = pending.pop()
      if ready:
        order.append(node)
      elif node not in done:
        done.add(node)
        pending.append((node, True))
        args = reversed(self.nodes[node].args)
        pending += [(a.node, False) for a in args]
    return order

  def digest(self, term: Term) -> str:
    """Hash of a whole term."""
    digest = self.nodes[term.node].digest.hex()
    return f"{number_text(term.scale)} {digest}"

  def _view(self, index: int, shape: Shape, axes: Axes) -> Term:
    node = self.nodes[index]
    if shape == node.shape and all(
        axes[i] == i or size == 1 for i, size in enumerate(shape)
    ):
      return Term(1.0, index)
    if node.op == "view":
      inner = self._axes[index]
      axes = tuple(None if a is None else inner[a] for a in axes)
      return self.view(node.args[0], shape, axes)
    if node.op in ELEMENTWISE:
      args = [self.view(a, shape, axes) for a in node.args]
      return self._again(index, args, shape)
    detail = " ".join("-" if a is None else str(a) for a in axes)
    seen = self._intern("view", detail, (Term(1.0, index),), shape)
    self._axes[seen] = axes
    return Term(1.0, seen)

  def _again(self, index: int, args: list[Term], shape: Shape) -> Term:
    """Applies the function of a node to other arguments."""
    node = self.nodes[index]
    if node.op == "sum":
      return self.add(args, shape)
    if node.op == "product":
      powers = (e for _, e in self._powers[index])
      return self.multiply(zip(args, powers, strict=True), shape)
    if node.op == "max":
      return self.max(args, shape)
    if node.op == "select":
      return self.select(*args, shape)
    return self.apply(node.op, node.detail, args, shape)

  def _shaped(self, term: Term, shape: Shape) -> Term:
    """Repeats what stands beside larger arrays: scalars, axes of size 1."""
    before = self.nodes[term.node].shape
    if before == shape:
      return term
    axes = tuple(range(len(shape))) if before else (None,) * len(shape)
    return self.view(term, shape, axes)

  def _opens(self, index: int, op: str) -> bool:
    """Whether a node is a sum, say, that larger ones take in."""
    node = self.nodes[index]
    return node.op == op and len(node.args) <= _LONGEST

  def _order(self, term: Term) -> tuple[bytes, float]:
    return self.nodes[term.node].digest, term.scale

  def _intern(
      self, op: str, detail: str, args: tuple[Term, ...], shape: Shape
  ) -> int:
    # Some number times a number is some number.
    args = tuple(
        Term(1.0, n) if n == self._some else Term(s, n) for s, n in args
    )
    words = "|".join((op, detail, str(shape), *map(self.digest, args)))
    digest = hashlib.sha256(words.encode("utf-8")).digest()
    if digest not in self._known:
      self._known[digest] = len(self.nodes)
      self.nodes.append(Node(op, detail, args, shape, digest))
    return self._known[digest]


def divisor(*scales: float) -> float:
  """The first that others can be divided by without being lost; else 1."""
  return next((s for s in scales if s and math.isfinite(s)), 1.0)


def negated(term: Term) -> Term:
  """The term with the other sign."""
  return Term(-term.scale, term.node)
