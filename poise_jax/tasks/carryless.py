r"""Carry-less arithmetic: the embedded task in which a skill is learned.

A prompt such as ``482*7+5=`` asks for the value of its operations, applied
strictly from left to right, each to every digit alone, modulo 10:
482 * 7 = 864 (28, 56 and 14 without what would be carried), and 864 + 5 =
319. Prompts, padding, answers and their verification are those of
`tasks.arithmetic`; so are the splits, for a problem that is written the same
has the same hash.

A step with a product takes three facts from a table of 80, one for each digit,
and the same facts serve all problems. A policy that is unsure of some facts
gets long problems right by luck only; one that has settled them, always. That
is what reinforcement learning improves here, with the form of the answer held
constant.

Length costs. A completion has `COMPLETION_LENGTH` tokens: solutions that write
each step once always fit, exactly for four operations, and those that check
each step fit up to two operations only.
"""

from collections.abc import Sequence

import numpy as np

from poise_jax.tasks import arithmetic

MAX_OPERATIONS = 4
PROMPT_LENGTH = arithmetic.PROMPT_LENGTH
COMPLETION_LENGTH = 26  # tokens, with end-of-text: four steps written once


def apply(value: int, operator: str, operand: int) -> int:
  """Applies one operation to each digit of a three-digit number, modulo 10.

  Raises:
    ValueError: if `operator` is none of + - *.
  """
  match operator:
    case "+":
      change = lambda digit: digit + operand
    case "-":
      change = lambda digit: digit - operand
    case "*":
      change = lambda digit: digit * operand
    case _:
      raise ValueError(f"`operator` must be one of + - *, got {operator!r}")
  hundreds, tens, units = value // 100, value // 10 % 10, value % 10
  return (100 * (change(hundreds) % 10) + 10 * (change(tens) % 10)) + change(
      units
  ) % 10


def make_problem(
    start: int, operators: str, operands: Sequence[int]
) -> arithmetic.Problem:
  """Writes a problem and works out its answer."""
  return _answered(arithmetic.make_problem(start, operators, operands))


def _answered(problem: arithmetic.Problem) -> arithmetic.Problem:
  """The same question, asked without carrying."""
  value = problem.start
  for operator, operand in zip(
      problem.operators, problem.operands, strict=True
  ):
    value = apply(value, operator, operand)
  return problem._replace(answer=f"{value:03d}")


def sample(
    rng: np.random.Generator,
    tiers: Sequence[arithmetic.Tier],
    count: int,
    split: arithmetic.Split,
) -> list[arithmetic.Problem]:
  """Draws problems of one split, tiers uniformly, with replacement.

  Args:
    rng: source of randomness.
    tiers: levels to draw from, of at most `MAX_OPERATIONS`.
    count: number of problems.
    split: the split that every problem shall belong to.

  Returns:
    `count` problems.
  """
  drawn = arithmetic.sample(rng, tiers, count, split)
  return [_answered(problem) for problem in drawn]


SUITE: tuple[arithmetic.ProblemSet, ...] = (
    arithmetic.ProblemSet(
        "products2", (arithmetic.Tier(2, 1.0),), "pass_at_k", 0.2
    ),
    arithmetic.ProblemSet(
        "mixed4", (arithmetic.Tier(4, 0.5),), "pass_at_k", 0.2
    ),
    arithmetic.ProblemSet(
        "mixed3", (arithmetic.Tier(3, 0.4),), "pass_at_k", 0.15
    ),
    arithmetic.ProblemSet(
        "single", (arithmetic.Tier(1, 0.6),), "accuracy", 0.15
    ),
    arithmetic.ProblemSet(
        "mixed2", (arithmetic.Tier(2, 0.4),), "accuracy", 0.15
    ),
    arithmetic.ProblemSet(
        "assorted",
        (
            arithmetic.Tier(2, 0.7),
            arithmetic.Tier(3, 0.3),
            arithmetic.Tier(4, 0.1),
            arithmetic.Tier(4, 0.3),
        ),
        "accuracy",
        0.15,
    ),
)

TRAINING_TIERS = (
    arithmetic.Tier(1, 0.6),
    arithmetic.Tier(2, 0.4),
    arithmetic.Tier(3, 0.3),
    arithmetic.Tier(4, 0.2),
)


def problems_of(
    problem_set: arithmetic.ProblemSet, split: arithmetic.Split, count: int
) -> list[arithmetic.Problem]:
  """The first `count` distinct problems of a set in a split; fixed for ever.

  A smaller `count` gives a prefix of a larger one.

  Raises:
    ValueError: if `split` is TRAIN, which has no fixed problems.
  """
  if split is arithmetic.Split.TRAIN:
    raise ValueError("`split` must be SEARCH, CONFIRM or SEALED, got TRAIN")
  position = [s.name for s in SUITE].index(problem_set.name)
  rng = np.random.default_rng([90002, position])
  distinct: dict[str, arithmetic.Problem] = {}
  while len(distinct) < count:
    for problem in sample(rng, problem_set.tiers, 64, split):
      distinct.setdefault(problem.prompt, problem)
  return list(distinct.values())[:count]
