"""A verifier that errs: verdicts flipped at given rates, the same every time.

Which verdicts flip is a function of (seed, step, prompt, completion) alone, so
two losses trained with one seed meet the same errors, and what is flipped at a
low rate is flipped at every higher one.
"""

from collections.abc import Callable
import dataclasses

from jaxtyping import Float
import numpy as np

# (verdicts, seed, step) to verdicts; how a trainer takes it.
Flip = Callable[[Float[np.ndarray, "P G"], int, int], Float[np.ndarray, "P G"]]


@dataclasses.dataclass(frozen=True)
class Rates:
  """How often the verifier errs.

  Attributes:
    false_positive: share of wrong answers that it accepts.
    false_negative: share of right answers that it refuses.
  """

  false_positive: float = 0.0
  false_negative: float = 0.0

  def __post_init__(self):
    for name in ("false_positive", "false_negative"):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(
            f"`{name}` must be a share in [0, 1], got {getattr(self, name)}"
        )


def draws(
    seed: int, step: int, prompts: int, completions: int
) -> Float[np.ndarray, "P G"]:
  """Uniform numbers in [0, 1), each a function of its own place alone.

  More prompts or completions do not change those that are there.

  Args:
    seed: of the training run.
    step: counted from 0.
    prompts: P.
    completions: G.
  """
  # Streams of NumPy are the same in all versions for `random` (NEP 19 covers
  # bit generators; doubles are their upper 53 bits).
  rows = [
      np.random.Generator(np.random.Philox([seed, step, p])).random(completions)
      for p in range(prompts)
  ]
  return np.stack(rows)


def make_flip(rates: Rates) -> Flip:
  """Makes the function that errs.

    c' = c (u >= false_negative) + (1 - c) (u < false_positive)

  with u from `draws`; exactly `correct` where both rates are 0. To be applied
  to `Grades.correct` before rewards, `correct`, the first reward component and
  the history of pass rates are made of it, and never to evaluation.
  """

  def flip(
      correct: Float[np.ndarray, "P G"], seed: int, step: int
  ) -> Float[np.ndarray, "P G"]:
    u = draws(seed, step, *correct.shape)
    accepted = np.where(
        correct > 0.5, u >= rates.false_negative, u < rates.false_positive
    )
    return accepted.astype(correct.dtype)

  return flip
