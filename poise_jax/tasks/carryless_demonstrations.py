r"""Example completions of carry-less arithmetic, by a teacher unsure of tables.

The teacher adds and subtracts without fault, but knows each product of two
digits with a confidence of its own; where it fails, it mostly gives the same
wrong digit. A policy that imitates it is as unsure, and knows which answers
are worth trying: what is right can be found by trying, and by nothing else.

Styles, for ``482*7+5=`` with all products right:

  worked      ``*7864+5319\boxed{319}``          each step, and its result
  checked     ``*7864=864+5319=319\boxed{319}``  each result looked at again
  direct      ``\boxed{319}``
  unclosed    ``*7864+5319\boxed{319``           invalid
  bare        ``319``                            invalid
  unanswered  ``*7864+5319``                     invalid

The second look of `checked` mends half of the wrong digits, and costs four
tokens a step.
"""

from collections.abc import Callable, Mapping
import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from poise_jax.tasks import arithmetic, carryless

_MENDED = 0.5  # share of wrong digits that a second look puts right
_USUAL = 0.8  # share of failures with the usual wrong digit; else any digit


class Teacher(NamedTuple):
  """What is known of each product, by digit and operand.

  Attributes:
    confidence: probability of the right digit.
    offset: from the right digit to the usual wrong one, modulo 10, not 0.
  """

  confidence: NDArray[np.float64]
  offset: NDArray[np.int64]


Style = Callable[[arithmetic.Problem, Teacher, np.random.Generator], str]


def make_teacher(seed: int, least: float, most: float) -> Teacher:
  """A teacher with gaps of its own.

  Teachers of one seed make the same mistakes, and are less sure of the same
  products.

  Args:
    seed: of the gaps.
    least: confidence in the product that it is least sure of.
    most: the same of the one it is most sure of; uniform between them.

  Raises:
    ValueError: unless 0 <= least <= most <= 1.
  """
  if not 0 <= least <= most <= 1:
    raise ValueError(
        "`least` and `most` must be probabilities in this order, got"
        f" {least} and {most}"
    )
  rng = np.random.default_rng([77, seed])
  shape = (10, 10)
  return Teacher(
      rng.uniform(least, most, size=shape), rng.integers(1, 10, shape)
  )


def flawless() -> Teacher:
  """A teacher who knows all products."""
  return Teacher(np.ones((10, 10)), np.ones((10, 10), np.int64))


def _step(
    value: int,
    operator: str,
    operand: int,
    teacher: Teacher,
    rng: np.random.Generator,
) -> int:
  """The teacher's result of one operation."""
  right = carryless.apply(value, operator, operand)
  if operator != "*":
    return right
  result = 0
  digits = map(int, f"{right:03d}")
  for before, digit in zip(f"{value:03d}", digits, strict=True):
    fact = int(before), operand
    if rng.random() >= teacher.confidence[fact]:
      usual = (digit + int(teacher.offset[fact])) % 10
      digit = usual if rng.random() < _USUAL else int(rng.integers(10))
    result = 10 * result + digit
  return result


def _mend(wrong: int, right: int, rng: np.random.Generator) -> int:
  """Puts some wrong digits right."""
  pairs = zip(f"{wrong:03d}", f"{right:03d}", strict=True)
  return int(
      "".join(r if w != r and rng.random() < _MENDED else w for w, r in pairs)
  )


def _steps(
    problem: arithmetic.Problem,
    teacher: Teacher,
    rng: np.random.Generator,
    *,
    check: bool,
) -> tuple[str, str]:
  """The steps, and the answer they lead to."""
  text, value = "", problem.start
  for operator, operand in zip(
      problem.operators, problem.operands, strict=True
  ):
    right = carryless.apply(value, operator, operand)
    value = _step(value, operator, operand, teacher, rng)
    text += f"{operator}{operand}{value:03d}"
    if check:
      value = _mend(value, right, rng)
      text += f"={value:03d}"
  return text, f"{value:03d}"


def _boxed(answer: str) -> str:
  return "\\boxed{" + answer + "}"


def worked(
    problem: arithmetic.Problem, teacher: Teacher, rng: np.random.Generator
) -> str:
  """Writes out every step, then the answer."""
  steps, answer = _steps(problem, teacher, rng, check=False)
  return steps + _boxed(answer)


def checked(
    problem: arithmetic.Problem, teacher: Teacher, rng: np.random.Generator
) -> str:
  """Looks at every result again, and goes on from there."""
  steps, answer = _steps(problem, teacher, rng, check=True)
  return steps + _boxed(answer)


def direct(
    problem: arithmetic.Problem, teacher: Teacher, rng: np.random.Generator
) -> str:
  """Writes the answer alone."""
  return _boxed(_steps(problem, teacher, rng, check=False)[1])


def unclosed(
    problem: arithmetic.Problem, teacher: Teacher, rng: np.random.Generator
) -> str:
  """A worked solution whose box is not closed."""
  return worked(problem, teacher, rng).removesuffix("}")


def bare(
    problem: arithmetic.Problem, teacher: Teacher, rng: np.random.Generator
) -> str:
  """The answer without a box."""
  return _steps(problem, teacher, rng, check=False)[1]


def unanswered(
    problem: arithmetic.Problem, teacher: Teacher, rng: np.random.Generator
) -> str:
  """The steps without an answer."""
  return _steps(problem, teacher, rng, check=False)[0]


MIXTURE: Mapping[Style, float] = {
    worked: 0.50,
    checked: 0.35,
    unclosed: 0.05,
    bare: 0.02,
    unanswered: 0.03,
    direct: 0.05,
}
# Another base policy: checks more, and closes its boxes less.
SECOND_MIXTURE: Mapping[Style, float] = {
    worked: 0.34,
    checked: 0.45,
    direct: 0.05,
    unclosed: 0.10,
    bare: 0.03,
    unanswered: 0.03,
}


def demonstrate(
    problem: arithmetic.Problem,
    mixture: Mapping[Style, float],
    teacher: Teacher,
    rng: np.random.Generator,
) -> str:
  """Writes a completion in a style drawn from `mixture`.

  Solutions that are checked may be longer than `carryless.COMPLETION_LENGTH`.

  Raises:
    ValueError: if the shares do not sum to 1.
  """
  total = sum(mixture.values())
  if abs(total - 1) > 1e-6:
    raise ValueError(f"`mixture` must sum to 1, got {total}")
  styles = list(mixture)
  choice = rng.choice(len(styles), p=np.array(list(mixture.values())) / total)
  return styles[choice](problem, teacher, rng)


def style_of(problem: arithmetic.Problem, completion: str) -> str:
  r"""Names the style of a completion, right or wrong, by its form alone.

  Args:
    problem: that it answers.
    completion: decoded text, without end-of-text.

  Returns:
    `worked` or `checked` if the operations are those of the problem, in their
    order, and a box follows; `other` for anything else.
  """
  operations = [
      re.escape(operator) + str(operand)
      for operator, operand in zip(
          problem.operators, problem.operands, strict=True
      )
  ]
  box = r"\\boxed\{[0-9]{3}\}"
  plain = "".join(f"{o}[0-9]{{3}}" for o in operations) + box
  twice = "".join(f"{o}[0-9]{{3}}=[0-9]{{3}}" for o in operations) + box
  if re.fullmatch(plain, completion):
    return "worked"
  return "checked" if re.fullmatch(twice, completion) else "other"
