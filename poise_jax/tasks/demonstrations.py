r"""Example completions of the embedded task, in several styles.

The warm start of the embedded policy imitates a mixture of these, so that
reinforcement learning finds both right and wrong, long and short, valid and
invalid completions to choose from.

Styles, for ``123+4*5=``:

  worked      ``+4721*5536\boxed{635}``  each result units first
  skipping    ``635;\boxed{635}``        a forward result after every 2nd step
  direct      ``\boxed{635}``
  unclosed    ``+4721*5536\boxed{635``   invalid
  bare        ``635``                    invalid
  unanswered  ``+4721*5536``             invalid
  wrong       worked or direct, with a random answer
"""

from collections.abc import Callable, Mapping

import numpy as np

from poise_jax.tasks import arithmetic

Style = Callable[[arithmetic.Problem, np.random.Generator], str]


def _results(problem: arithmetic.Problem) -> list[int]:
  """The value after each operation."""
  values, value = [], problem.start
  for operator, operand in zip(
      problem.operators, problem.operands, strict=True
  ):
    value = arithmetic.apply(value, operator, operand)
    values.append(value)
  return values


def _steps(problem: arithmetic.Problem) -> str:
  results = _results(problem)
  return "".join(
      f"{operator}{operand}{f'{result:03d}'[::-1]}"
      for operator, operand, result in zip(
          problem.operators, problem.operands, results, strict=True
      )
  )


def worked(problem: arithmetic.Problem, rng: np.random.Generator) -> str:
  """Writes out every step, then the answer."""
  del rng
  return _steps(problem) + direct_answer(problem.answer)


def skipping(problem: arithmetic.Problem, rng: np.random.Generator) -> str:
  """Writes the result of every second step, then the answer."""
  del rng
  results = _results(problem)[1::2]
  return "".join(f"{r:03d};" for r in results) + direct_answer(problem.answer)


def direct(problem: arithmetic.Problem, rng: np.random.Generator) -> str:
  """Writes the answer alone."""
  del rng
  return direct_answer(problem.answer)


def direct_answer(answer: str) -> str:
  """Boxes an answer."""
  return "\\boxed{" + answer + "}"


def unclosed(problem: arithmetic.Problem, rng: np.random.Generator) -> str:
  """A worked solution whose box is not closed."""
  return worked(problem, rng).removesuffix("}")


def bare(problem: arithmetic.Problem, rng: np.random.Generator) -> str:
  """The answer without a box."""
  del rng
  return problem.answer


def unanswered(problem: arithmetic.Problem, rng: np.random.Generator) -> str:
  """The steps without an answer."""
  del rng
  return _steps(problem)


def wrong_worked(problem: arithmetic.Problem, rng: np.random.Generator) -> str:
  """The steps, then a random answer."""
  return _steps(problem) + wrong_direct(problem, rng)


def wrong_direct(problem: arithmetic.Problem, rng: np.random.Generator) -> str:
  """A random answer alone."""
  del problem
  return direct_answer(f"{rng.integers(arithmetic.MODULUS):03d}")


def skill_mixture(problem: arithmetic.Problem) -> Mapping[Style, float]:
  """Shares of each style while the skill is learned: mostly worked."""
  del problem
  return {
      worked: 0.34,
      skipping: 0.18,
      direct: 0.20,
      unclosed: 0.08,
      bare: 0.06,
      unanswered: 0.04,
      wrong_worked: 0.05,
      wrong_direct: 0.05,
  }


def style_mixture(problem: arithmetic.Problem) -> Mapping[Style, float]:
  """Shares of each style that reinforcement learning starts from.

  Worked solutions are rare, and rarer where the first operand is small, so
  that the policy turns to them prompt by prompt rather than all at once.
  Problems of one operation are mostly worked: the easy end of the training
  prompts, where a whole group can be right.
  """
  if len(problem.operators) == 1:
    return {worked: 0.95, direct: 0.03, wrong_direct: 0.02}
  share = 0.05 + 0.035 * (problem.start // 100)
  return {
      worked: share,
      direct: 0.60 - share,
      skipping: 0.14,
      unclosed: 0.08,
      bare: 0.07,
      unanswered: 0.05,
      wrong_worked: 0.02,
      wrong_direct: 0.04,
  }


def demonstrate(
    problem: arithmetic.Problem,
    mixture: Mapping[Style, float],
    rng: np.random.Generator,
) -> str:
  """Writes a completion in a style drawn from `mixture`.

  Raises:
    ValueError: if the shares do not sum to 1.
  """
  total = sum(mixture.values())
  if abs(total - 1) > 1e-6:
    raise ValueError(f"`mixture` must sum to 1, got {total}")
  styles = list(mixture)
  choice = rng.choice(len(styles), p=np.array(list(mixture.values())) / total)
  return styles[choice](problem, rng)
