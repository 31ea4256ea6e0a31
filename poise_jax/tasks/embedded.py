r"""The embedded tasks as values: what a trainer and a suite need of one.

All share the shapes and the verifier of `tasks.arithmetic`: prompts of fixed
width, answers of three digits in ``\boxed{}`` that `arithmetic.grade` checks,
and splits by a hash of the problem.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from poise_jax.tasks import (
    arithmetic,
    carryless,
    carryless_demonstrations,
    demonstrations,
)

SampleFn = Callable[
    [np.random.Generator, Sequence[arithmetic.Tier], int, arithmetic.Split],
    list[arithmetic.Problem],
]
ProblemsFn = Callable[
    [arithmetic.ProblemSet, arithmetic.Split, int], list[arithmetic.Problem]
]


class Task(NamedTuple):
  """One embedded task.

  Attributes:
    name: with a version, which rises when problems, grading or suite change;
      part of every evaluation's key.
    max_operations: of any problem; problems with equally many share a pass
      rate.
    prompt_length: tokens, with beginning-of-text.
    completion_length: tokens at most, with end-of-text.
    training_tiers: levels of the problems that are trained on.
    suite: the scored sets, weights summing to 1.
    sample: (rng, tiers, count, split) to problems.
    problems_of: (set, split, count) to its first problems, fixed for ever.
    solution: a problem to its worked solution, correct and complete.
  """

  name: str
  max_operations: int
  prompt_length: int
  completion_length: int
  training_tiers: tuple[arithmetic.Tier, ...]
  suite: tuple[arithmetic.ProblemSet, ...]
  sample: SampleFn
  problems_of: ProblemsFn
  solution: Callable[[arithmetic.Problem], str]


def _worked(problem: arithmetic.Problem) -> str:
  return demonstrations.worked(problem, np.random.default_rng(0))


def _worked_without_carries(problem: arithmetic.Problem) -> str:
  return carryless_demonstrations.worked(
      problem, carryless_demonstrations.flawless(), np.random.default_rng(0)
  )


ARITHMETIC = Task(
    name="arithmetic-1",
    max_operations=arithmetic.MAX_OPERATIONS,
    prompt_length=arithmetic.PROMPT_LENGTH,
    completion_length=arithmetic.COMPLETION_LENGTH,
    training_tiers=arithmetic.TRAINING_TIERS,
    suite=arithmetic.SUITE,
    sample=arithmetic.sample,
    problems_of=arithmetic.problems_of,
    solution=_worked,
)

CARRYLESS = Task(
    name="carryless-1",
    max_operations=carryless.MAX_OPERATIONS,
    prompt_length=carryless.PROMPT_LENGTH,
    completion_length=carryless.COMPLETION_LENGTH,
    training_tiers=carryless.TRAINING_TIERS,
    suite=carryless.SUITE,
    sample=carryless.sample,
    problems_of=carryless.problems_of,
    solution=_worked_without_carries,
)

ALL = {"arithmetic": ARITHMETIC, "carryless": CARRYLESS}


def named(name: str) -> Task:
  """Looks a task up.

  Raises:
    ValueError: if there is none of that name.
  """
  if name not in ALL:
    raise ValueError(
        f"`task` must be one of {', '.join(ALL)}, got {name!r}; name one of"
        " those"
    )
  return ALL[name]
