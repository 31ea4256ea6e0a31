r"""Chained arithmetic modulo 1000: the embedded task.

A prompt such as ``123+4*5=`` asks for the value of its operations, applied
strictly from left to right, each step modulo 1000. It is padded with ``_`` to
a fixed width, so that operand j always stands at the same place. A completion
is free text that must end with its answer, three digits, in ``\boxed{}``:
``+4721*5536\boxed{635}`` here (each step writes its operation and its result,
units first), or just ``\boxed{635}``.

Difficulty is set by the number of operations and the share of products. Every
problem belongs to exactly one split, decided by a hash of the problem itself,
so the splits are disjoint by construction and training never meets a problem
that is scored.
"""

from collections.abc import Sequence
import dataclasses
import enum
import re
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_OPERATIONS = 5
PROMPT_LENGTH = 15  # tokens, with the beginning-of-text token
COMPLETION_LENGTH = 31  # tokens, with end-of-text: longest worked answer
MODULUS = 1000

_ANSWER = re.compile(r"\\boxed\{([0-9]{3})\}\Z")


class Split(enum.Enum):
  """Which problems may be used for what; values are hash buckets of 16."""

  TRAIN = range(0, 7)
  SEARCH = range(7, 10)
  CONFIRM = range(10, 13)
  SEALED = range(13, 16)


class Tier(NamedTuple):
  """A level of difficulty.

  Attributes:
    operations: number of operations, 1 to 5.
    products: probability that an operation is a product.
  """

  operations: int
  products: float


class Problem(NamedTuple):
  """One question and its answer.

  Attributes:
    prompt: fixed-width text.
    answer: three digits.
    start: the first operand.
    operators: one of "+", "-", "*" for each operation.
    operands: one digit for each operation.
  """

  prompt: str
  answer: str
  start: int
  operators: str
  operands: tuple[int, ...]


class Grade(NamedTuple):
  """What the verifier says of one completion.

  Attributes:
    correct: the answer is right (implies `format_valid`).
    format_valid: the completion ends with a parseable answer.
    answer: the three digits, or None.
  """

  correct: bool
  format_valid: bool
  answer: str | None


def apply(value: int, operator: str, operand: int) -> int:
  """Applies one operation modulo 1000."""
  match operator:
    case "+":
      value += operand
    case "-":
      value -= operand
    case "*":
      value *= operand
    case _:
      raise ValueError(f"`operator` must be one of + - *, got {operator!r}")
  return value % MODULUS


def make_problem(
    start: int, operators: str, operands: Sequence[int]
) -> Problem:
  """Writes a problem and works out its answer."""
  value = start
  text = f"{start:03d}"
  for operator, operand in zip(operators, operands, strict=True):
    value = apply(value, operator, int(operand))
    text += f"{operator}{operand}"
  prompt = (text + "=").ljust(PROMPT_LENGTH - 1, "_")
  return Problem(
      prompt, f"{value:03d}", start, operators, tuple(map(int, operands))
  )


def grade(completion: str, answer: str, *, finished: bool = True) -> Grade:
  r"""Checks one completion.

  Args:
    completion: decoded text, without end-of-text.
    answer: the right answer, three digits.
    finished: whether end-of-text came within the length limit.

  Returns:
    `format_valid` if finished and the text ends with ``\boxed{ddd}``.
  """
  match = _ANSWER.search(completion) if finished else None
  if match is None:
    return Grade(False, False, None)
  return Grade(match.group(1) == answer, True, match.group(1))


def _draw(
    rng: np.random.Generator, tiers: Sequence[Tier], count: int
) -> tuple[NDArray, NDArray, NDArray, NDArray]:
  """Draws starts [n], operation counts [n], operators and operands [n, 5]."""
  tier = rng.integers(0, len(tiers), count)
  length = np.array([t.operations for t in tiers])[tier]
  products = np.array([t.products for t in tiers])[tier]
  shape = (count, MAX_OPERATIONS)
  is_product = rng.random(shape) < products[:, None]
  operators = np.where(is_product, 2, rng.integers(0, 2, shape))
  operands = np.where(
      is_product, rng.integers(2, 10, shape), rng.integers(1, 10, shape)
  )
  live = np.arange(MAX_OPERATIONS) < length[:, None]
  starts = rng.integers(0, MODULUS, count)
  return starts, length, np.where(live, operators, 3), operands * live


def _bucket(starts: NDArray, operators: NDArray, operands: NDArray) -> NDArray:
  """Hashes problems to 0..15 (the finaliser of SplitMix64)."""
  code = starts.astype(np.uint64)
  for j in range(MAX_OPERATIONS):
    digit = (operators[:, j] * 10 + operands[:, j]).astype(np.uint64)
    code = code * np.uint64(41) + digit
  with np.errstate(over="ignore"):
    code = (code ^ (code >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    code = (code ^ (code >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    code = code ^ (code >> np.uint64(31))
  return code % np.uint64(16)


def sample(
    rng: np.random.Generator,
    tiers: Sequence[Tier],
    count: int,
    split: Split,
) -> list[Problem]:
  """Draws problems of one split, tiers uniformly, with replacement.

  Args:
    rng: source of randomness.
    tiers: levels to draw from.
    count: number of problems.
    split: the split that every problem shall belong to.

  Returns:
    `count` problems.
  """
  problems: list[Problem] = []
  while len(problems) < count:
    starts, length, operators, operands = _draw(rng, tiers, 4 * count + 16)
    bucket = _bucket(starts, operators, operands)
    for i in np.flatnonzero(np.isin(bucket, split.value)):
      n = length[i]
      symbols = "".join("+-*"[k] for k in operators[i, :n])
      operand = operands[i, :n].tolist()
      problems.append(make_problem(int(starts[i]), symbols, operand))
  return problems[:count]


def split_of(problem: Problem) -> Split:
  """The split that a problem belongs to."""
  n = len(problem.operators)
  operators = np.full((1, MAX_OPERATIONS), 3)
  operands = np.zeros((1, MAX_OPERATIONS), np.int64)
  operators[0, :n] = ["+-*".index(o) for o in problem.operators]
  operands[0, :n] = problem.operands
  bucket = int(_bucket(np.array([problem.start]), operators, operands)[0])
  return next(split for split in Split if bucket in split.value)


@dataclasses.dataclass(frozen=True)
class ProblemSet:
  """One scored set of the suite.

  Attributes:
    name: identifier in metric names.
    tiers: levels of difficulty, drawn uniformly.
    metric: `pass_at_k` (sampled at temperature 1) or `accuracy` (greedy).
    weight: share in Overall.
  """

  name: str
  tiers: tuple[Tier, ...]
  metric: Literal["pass_at_k", "accuracy"]
  weight: float


SUITE: tuple[ProblemSet, ...] = (
    ProblemSet("products4", (Tier(4, 1.0),), "pass_at_k", 0.2),
    ProblemSet("mixed5", (Tier(5, 0.8),), "pass_at_k", 0.2),
    ProblemSet("mixed4", (Tier(4, 0.5),), "pass_at_k", 0.15),
    ProblemSet("sums2", (Tier(2, 0.2),), "accuracy", 0.15),
    ProblemSet("mixed3", (Tier(3, 0.4),), "accuracy", 0.15),
    ProblemSet(
        "assorted",
        (Tier(1, 0.5), Tier(2, 0.8), Tier(4, 0.2), Tier(5, 0.2)),
        "accuracy",
        0.15,
    ),
)

# The first is easy enough for some groups to be all right from the start.
TRAINING_TIERS = (
    Tier(1, 0.0),
    Tier(2, 0.4),
    Tier(3, 0.6),
    Tier(4, 0.6),
    Tier(5, 0.8),
)


def problems_of(
    problem_set: ProblemSet, split: Split, count: int
) -> list[Problem]:
  """The first `count` distinct problems of a set in a split; fixed for ever.

  A smaller `count` gives a prefix of a larger one.

  Raises:
    ValueError: if `split` is TRAIN, which has no fixed problems.
  """
  if split is Split.TRAIN:
    raise ValueError("`split` must be SEARCH, CONFIRM or SEALED, got TRAIN")
  position = [s.name for s in SUITE].index(problem_set.name)
  rng = np.random.default_rng([90001, position])
  distinct: dict[str, Problem] = {}
  while len(distinct) < count:
    for problem in sample(rng, problem_set.tiers, 64, split):
      distinct.setdefault(problem.prompt, problem)
  return list(distinct.values())[:count]
