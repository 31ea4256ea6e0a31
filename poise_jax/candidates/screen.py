"""What an exported module may contain: an allow-list over its operations.

Runs on bytes that came out of the jail, before they are compiled. Pure arithmetic and data movement pass. Everything else is refused:
custom calls and host callbacks, random bits, communication, loops whose
number of steps does not follow from shapes, huge constants and arrays.
"""

from collections.abc import Callable
import contextlib
import math
import operator
from typing import Any

from jax.interpreters import mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from poise_jax.candidates import findings

MAX_OPERATIONS = 20_000
MAX_STEPS = 4096
MAX_WORK = 500_000
MAX_ELEMENTS = 2**20
# Stands for a size that is only known later, until `check_run`.
NOMINAL_SIZE = 64
# Of one array, and of all that a step of training computes: numbers for each
# token slot of its batch.
MAX_GROWTH = 64
MAX_VOLUME = 10_000
_FEWEST_SLOTS = 2**20

_ARITHMETIC = frozenset(
    "abs add and atan2 cbrt ceil clamp compare complex convert cosine"
    " count_leading_zeros divide dot_general exponential"
    " exponential_minus_one floor imag is_finite log log_plus_one logistic"
    " maximum minimum multiply negate not or popcnt power real remainder"
    " round_nearest_afz round_nearest_even rsqrt select shift_left"
    " shift_right_arithmetic shift_right_logical sign sine sqrt subtract tan"
    " tanh xor".split()
)
_MOVEMENT = frozenset(
    "bitcast_convert broadcast_in_dim concatenate constant dynamic_broadcast_in_dim"
    " dynamic_gather dynamic_iota dynamic_pad dynamic_reshape dynamic_slice"
    " dynamic_update_slice gather get_dimension_size iota optimization_barrier"
    " pad real_dynamic_slice reduce reduce_precision reduce_window reshape"
    " return reverse scatter slice sort transpose tuple get_tuple_element".split()
)
_CONTROL = frozenset("case if while".split())
ALLOWED = frozenset(
    f"stablehlo.{name}" for name in _ARITHMETIC | _MOVEMENT | _CONTROL
) | {
    "stablehlo.composite",
    "builtin.module",
    "func.func",
    "func.call",
    "func.return",
}

# What jax.export writes while sizes are unknown: checks of input shapes, and
# cumulative sums. Neither is left once the sizes are known.
ALLOWED_CUSTOM_CALLS = frozenset(
    {"shape_assertion", "stablehlo.dynamic_reduce_window"}
)
# Elementary functions (erf, asin, top_k) that carry their own definition.
_COMPOSITE_PREFIX = "chlo."

_CALLEES = {"func.call": "callee", "stablehlo.composite": "decomposition"}

# What costs nothing by itself, what reads or writes a part of an array only,
# and which operand that part is.
_FREE = frozenset(
    "case constant if optimization_barrier reshape return tuple while"
    " get_tuple_element".split()
)
_READING = frozenset("dynamic_slice gather iota slice".split())
_WRITING = {"dynamic_update_slice": 1, "scatter": -1}

# Beyond, an integer counts as unknown.
MAX_DEPTH = 16


def _quotient(one: int, other: int) -> int:
  """Rounded towards 0, as StableHLO has it."""
  size = abs(one) // abs(other)
  return size if (one < 0) == (other < 0) else -size


_EVALUATED: dict[str, Callable[..., int]] = {
    "add": operator.add,
    "convert": int,
    "divide": _quotient,
    "maximum": max,
    "minimum": min,
    "multiply": operator.mul,
    "remainder": lambda a, b: a - b * _quotient(a, b),
    "reshape": int,
    "subtract": operator.sub,
}

_SHAPE_ARITHMETIC = frozenset(
    f"stablehlo.{name}"
    for name in "add convert divide get_dimension_size maximum minimum"
    " multiply remainder reshape subtract".split()
)


def check(module: str) -> None:
  """Checks one module.

  Args:
    module: its text.

  Raises:
    findings.RefusedError: if it contains what a loss may not contain.
  """
  with mlir.make_ir_context():
    parsed = _parse(module)
    _check_parsed(_functions(parsed), MAX_OPERATIONS, MAX_ELEMENTS)


def check_run(module: str, slots: int, operations: int) -> None:
  """Checks a program whose sizes are all known, as it would train.

  No loop runs for as long as the batch is large, and no array is much larger
  than it; what a step computes in all is bounded by the batch too.

  Args:
    module: value and gradients, see `scale.program`.
    slots: token slots of the batch, P G T.
    operations: the most that it may have.

  Raises:
    findings.RefusedError: if it would be too slow, or too large.
  """
  slots = max(slots, _FEWEST_SLOTS)
  with mlir.make_ir_context():
    parsed = _parse(module)
    functions = _functions(parsed)
    _check_parsed(functions, operations, MAX_GROWTH * slots)
    volume = _work(functions["main"], functions, {}, _volume)
    if volume > MAX_VOLUME * slots:
      raise _refusal(
          "too much to compute for the batches of a training run: more than"
          f" {MAX_VOLUME} numbers for each token"
      )


def _parse(module: str) -> ir.Module:
  """Parses a module; its operations are gone when it is."""
  with findings.refusing("artifact", "it is no module", "verify it again"):
    return ir.Module.parse(module)


def _functions(parsed: ir.Module) -> dict[str, Any]:
  """Lists the functions of a module by name."""
  functions = {}
  for operation in parsed.body.operations:
    if operation.operation.name != "func.func":
      raise _refusal(f"`{operation.operation.name}` at the top level")
    functions[operation.attributes["sym_name"].value] = operation.operation
  if "main" not in functions:
    raise _refusal("no main function")
  return functions


def _check_parsed(
    functions: dict[str, Any], operations: int, elements: int
) -> None:
  """Checks every operation, and how many there are and are executed."""
  count = sum(_check_operation(f, elements) for f in functions.values())
  if count > operations:
    raise _refusal(f"more than {operations} operations")
  if _work(functions["main"], functions, {}) > MAX_WORK:
    raise _refusal("loops that together run too long")


def _check_operation(operation: Any, most: int) -> int:
  """Checks one operation and all inside it; returns their number."""
  name = operation.name
  if name == "stablehlo.custom_call":
    target = ir.StringAttr(operation.attributes["call_target_name"]).value
    if target not in ALLOWED_CUSTOM_CALLS:
      raise _refusal(f"the library call `{target}`")
  elif name == "stablehlo.composite":
    target = ir.StringAttr(operation.attributes["name"]).value
    if not target.startswith(_COMPOSITE_PREFIX):
      raise _refusal(f"the library function `{target}`")
  elif name not in ALLOWED:
    raise _refusal(f"the operation `{name}`")
  for value in (*operation.operands, *operation.results):
    if _elements(value.type) > most:
      raise _refusal(f"an array of more than {most} elements")
  inside = (_check_operation(inner, most) for inner in _children(operation))
  return 1 + sum(inside)


def _work(
    operation: Any,
    functions: dict[str, Any],
    known: dict[str, int | float],
    cost: Callable[[Any], int] = lambda operation: 1,
) -> int | float:
  """Adds up what one execution costs, loops multiplied.

  At a cost of 1 each, these are the operations that are executed.
  """
  target = _CALLEES.get(operation.name)
  if target is not None:
    callee = ir.FlatSymbolRefAttr(operation.attributes[target]).value
    if callee not in functions:
      raise _refusal("a call of a function that is not there")
    if callee not in known:
      # Infinite while open: a function that calls itself never ends.
      known[callee] = math.inf
      known[callee] = _work(functions[callee], functions, known, cost)
    return cost(operation) + known[callee]
  children = _children(operation)
  inside = sum(_work(o, functions, known, cost) for o in children)
  steps = _steps(operation) if operation.name == "stablehlo.while" else 1
  return cost(operation) + steps * inside


def _volume(operation: Any) -> int:
  """How many numbers an operation reads or writes, the larger of both."""
  name = operation.name.removeprefix("stablehlo.")
  if name in _FREE or not operation.name.startswith("stablehlo."):
    return 0
  if name in _READING:
    values = list(operation.results)
  elif name in _WRITING:
    # In place: the rest of the array is not touched.
    values = [operation.operands[_WRITING[name]]]
  else:
    values = [*operation.operands, *operation.results]
  size = max((_elements(value.type) for value in values), default=0)
  return size * _contracted(operation) if name == "dot_general" else size


def _contracted(product: Any) -> int:
  """How many products are summed for each number of a matrix product."""
  sizes = [_elements(o.type) for o in product.operands]
  result = _elements(product.results[0].type)
  numbers = stablehlo.DotDimensionNumbers(
      product.attributes["dot_dimension_numbers"]
  )
  shape = ir.RankedTensorType(product.operands[0].type)
  axes = numbers.lhs_contracting_dimensions
  summed = math.prod(shape.get_dim_size(axis) for axis in axes)
  return -(-result * summed // max(*sizes, result, 1))


def _steps(loop: Any) -> int:
  """Counts the steps of a loop of the form `for i from a while i < b: i += c`.

  This is the form that `scan` and `fori_loop` with constant bounds compile
  to. Sizes that are not known yet count as `NOMINAL_SIZE`.

  Raises:
    findings.RefusedError: for every other loop.
  """
  unknown = _refusal("a loop whose number of steps does not follow from shapes")
  condition, body = (region.blocks[0] for region in loop.regions)
  test = _owner(_last(condition).operands[0])
  if test is None or test.name != "stablehlo.compare":
    raise unknown
  direction = str(test.attributes["comparison_direction"])
  index = _position(test.operands[0], condition)
  if "LT" not in direction or index is None:
    raise unknown
  advance = _owner(_last(body).operands[index])
  if advance is None or advance.name != "stablehlo.add":
    raise unknown
  stride = _constant(advance.operands[1])
  if _position(advance.operands[0], body) != index or not stride:
    raise unknown
  start, stop = loop.operands[index], test.operands[1]
  if stride < 1 or not (_is_static(start) and _is_static(stop)):
    raise unknown
  first, last = _constant(start), _constant(stop)
  if first is None or last is None:
    return NOMINAL_SIZE
  if last - first > MAX_STEPS:
    raise _refusal(f"a loop of more than {MAX_STEPS} steps")
  return max(last - first, 0)


def _is_static(value: Any) -> bool:
  """Tells whether a number follows from constants and shapes alone."""
  pending = [value]
  for _ in range(MAX_OPERATIONS):
    if not pending:
      return True
    item = pending.pop()
    owner = _owner(item)
    if owner is None:
      if not _is_size_argument(item):
        return False
    elif owner.name == "stablehlo.get_dimension_size":
      continue
    elif owner.name in _SHAPE_ARITHMETIC:
      pending += list(owner.operands)
    elif owner.name != "stablehlo.constant":
      return False
  return False


def _is_size_argument(value: Any) -> bool:
  """Tells whether a function argument is one of the sizes of the batch."""
  argument = ir.BlockArgument(value)
  function = argument.owner.owner.operation
  if function.name != "func.func" or "arg_attrs" not in function.attributes:
    return False
  attributes = ir.ArrayAttr(function.attributes["arg_attrs"])
  return "jax.global_constant" in ir.DictAttr(attributes[argument.arg_number])


def _constant(value: Any, depth: int = 0) -> int | None:
  """Evaluates an integer that follows from constants alone.

  Exactly, where the program would wrap around: at other sizes it would not.
  """
  owner = _owner(value)
  if owner is None or depth > MAX_DEPTH:
    return None
  if owner.name == "stablehlo.constant":
    attribute = owner.attributes["value"]
    if not isinstance(attribute, ir.DenseIntElementsAttr):
      return None
    numbers = ir.DenseIntElementsAttr(attribute)
    return int(numbers[0]) if len(numbers) == 1 else None
  evaluate = _EVALUATED.get(owner.name.removeprefix("stablehlo."))
  if evaluate is None:
    return None
  operands = [_constant(operand, depth + 1) for operand in owner.operands]
  if None in operands:
    return None
  with contextlib.suppress(ZeroDivisionError):
    return evaluate(*operands)
  return None


def _owner(value: Any) -> Any:
  """The operation that makes a value; None for an argument of a block."""
  return None if isinstance(value.owner, ir.Block) else value.owner.operation


def _position(value: Any, block: Any) -> int | None:
  """Which argument of a block a value is."""
  for index, argument in enumerate(block.arguments):
    if value == argument:
      return index
  return None


def _last(block: Any) -> Any:
  """The operation that ends a block."""
  return list(block.operations)[-1].operation


def _children(operation: Any) -> list[Any]:
  """The operations directly inside one."""
  return [
      inner.operation
      for region in operation.regions
      for block in region.blocks
      for inner in block.operations
  ]


def _elements(kind: Any) -> int:
  """Number of elements of a type, as far as its shape is known."""
  if not isinstance(kind, ir.RankedTensorType):
    return 1
  shape = ir.RankedTensorType(kind)
  known = [
      shape.get_dim_size(axis)
      for axis in range(shape.rank)
      if not shape.is_dynamic_dim(axis)
  ]
  return math.prod(known)


def _refusal(what: str) -> findings.RefusedError:
  """Words the refusal of a module."""
  return findings.RefusedError(
      "operations",
      f"the compiled program contains {what}",
      "compute with array operations; loop with jax.lax.scan, or with"
      " fori_loop between small constants",
  )
