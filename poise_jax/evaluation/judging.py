"""Verdicts on what a policy wrote: new ones, or again on what is stored.

A verdict is a function of the text, the gold answer, and whether the text came
to its end; so stored completions can be graded again by a better grader.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from poise_jax.evaluation import problem_sets, results, votes


class Change(NamedTuple):
  """A completion on which two graders disagree.

  Attributes:
    id: of the problem.
    sample: which of its completions, from 0.
    gold: the reference answer.
    before: the completion with its old verdict.
    after: with its new one.
  """

  id: str
  sample: int
  gold: str
  before: results.Completion
  after: results.Completion


def judge(
    records: Sequence[results.Record],
    grade: problem_sets.GradeFn,
    same: votes.SameFn | None = None,
) -> list[results.Record]:
  """Grades all completions, whatever verdict they have.

  Args:
    records: problems with their completions.
    grade: judges completions.
    same: compares answers; wrong ones that mean the same get one `vote`. None:
      they vote as they are written.
  """
  flat = [(r.gold, c) for r in records for c in r.completions]
  grades = grade(
      [c.text for _, c in flat],
      [gold for gold, _ in flat],
      [c.finished for _, c in flat],
  )
  told, first = [], 0
  for record in records:
    last = first + len(record.completions)
    judged = tuple(
        c._replace(
            answer=g.answer,
            correct=bool(g.correct),
            format_valid=bool(g.format_valid),
            timed_out=bool(g.timed_out),
            vote=None,
        )
        for c, g in zip(record.completions, grades[first:last], strict=True)
    )
    first = last
    told.append(record._replace(completions=_voting(judged, same)))
  return told


def _voting(
    completions: tuple[results.Completion, ...], same: votes.SameFn | None
) -> tuple[results.Completion, ...]:
  """Gives wrong answers that mean the same one vote."""
  if same is None or len(completions) == 1:
    return completions
  # What could not be compared with the gold answer would hang again.
  wrong = [None if c.correct or c.timed_out else c.answer for c in completions]
  return tuple(
      c if vote in (None, c.answer) else c._replace(vote=vote)
      for c, vote in zip(completions, votes.group(wrong, same), strict=True)
  )


def changes(
    before: Mapping[str, results.Record], after: Mapping[str, results.Record]
) -> list[Change]:
  """Completions whose verdicts differ, in the order of the problems.

  A verdict is whether the answer is right, stands where it should, and was
  judged in time, and what the answer is.
  """
  verdict = lambda c: (c.answer, c.correct, c.format_valid, c.timed_out)
  return [
      Change(name, sample, record.gold, old, new)
      for name, record in before.items()
      for sample, (old, new) in enumerate(
          zip(record.completions, after[name].completions, strict=True)
      )
      if verdict(old) != verdict(new)
  ]
