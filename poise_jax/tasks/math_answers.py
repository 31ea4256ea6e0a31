r"""Grades answers to mathematical problems.

`grade` finds the answer of a completion (`answer_extraction`) and compares it
with the gold answer: without algebra where that decides
(`answer_equivalence`), else by math-verify (`answer_algebra`) in a process
that is killed at a limit (`grading_pool`). For many completions at once, use
`GradingPool(workers, seconds).grade_many(completions, golds)`.
"""

from poise_jax.tasks import grading_pool

Grade = grading_pool.Grade
GradingPool = grading_pool.GradingPool


def equivalent(gold: str, answer: str) -> bool:
  r"""Whether an answer means what the gold answer means.

  ``1/2`` is ``0.5`` and ``\frac{2}{4}``; ``{2,1}`` is ``1, 2`` but ``(2,1)``
  is not ``(1,2)``; ``x=5`` is ``5`` but not ``y=5``; currency and
  degree signs are ignored, and units unless both name different ones; ``8\%`` is ``8`` and ``0.08``. Exact values
  must be equal, decimals to six places.

  Args:
    gold: as it stands in a file of problems, with or without dollar signs.
    answer: any text.

  Returns:
    Also false where the comparison takes longer than `grading_pool.SECONDS` of
    the processor's time. Never raises on any string.
  """
  return bool(grading_pool.shared().same_many([gold], [answer])[0])


def grade(completion: str, gold: str) -> Grade:
  r"""Grades one completion.

  Args:
    completion: decoded text; its last ``\boxed{}`` is the answer, and without
      one what it announces or ends with, which is not `format_valid`.
    gold: the gold answer.

  Returns:
    Never raises on any string.
  """
  return grading_pool.shared().grade_many([completion], [gold])[0]
