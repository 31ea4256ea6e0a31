"""Grades stored completions again, into files of their own.

The policy is not asked, so only verdicts can change. New files say in their
header, under `graded`, which code gave the verdicts; `code` stays that which
wrote the completions. The old files are only read.
"""

from collections.abc import Callable, Mapping
import os
import pathlib
from typing import Any

from poise_jax.evaluation import (
    judging,
    problem_sets,
    provenance,
    results,
)
from poise_jax.tasks import grading_pool

_AT_ONCE = 16  # problems that are graded together


def regrade(
    stored: Mapping[str, results.Results],
    directory: str | os.PathLike[str],
    pool: grading_pool.GradingPool,
    on_done: Callable[[str, int, bool], None] = lambda name, count, fresh: None,
) -> dict[str, list[judging.Change]]:
  """Grades all completions of some sets again.

  A file appears when it is whole; if it is there already, from the same results
  and the same grader, it stays.

  Args:
    stored: results by set.
    directory: for the new files, not that of the old ones.
    pool: judges mathematical answers.
    on_done: told of each batch its set, how many completions it has, and
      whether they were graded now.

  Returns:
    Of each set the verdicts that changed.

  Raises:
    FileExistsError: if other results are in the directory; nothing is written.
  """
  targets = {name: results.path_of(directory, name) for name in stored}
  headers = {name: _header(result) for name, result in stored.items()}
  there = {
      name: _there(targets[name], headers[name], stored[name])
      for name in stored
      if targets[name].exists()
  }
  found = {}
  for name, result in stored.items():
    if name in there:
      after = there[name]
      on_done(name, _count(result), False)
    else:
      after = result._replace(
          header=headers[name],
          id=provenance.digest(headers[name]),
          records=_judged(name, result, pool, on_done),
      )
      results.write_whole(targets[name], after)
    found[name] = judging.changes(result.records, after.records)
  return found


def _header(result: results.Results) -> dict[str, Any]:
  return {**result.header, "graded": provenance.code()}


def _there(
    path: pathlib.Path, header: Mapping[str, Any], old: results.Results
) -> results.Results:
  """What is in a file that is there, if it is what would be written."""
  found = results.read(path)
  different = provenance.differences(found.header, header)
  if different or found.records.keys() != old.records.keys():
    why = "; ".join(different) or "other problems"
    raise FileExistsError(
        f"{path} is there already and has other results (there, here: {why});"
        " name another directory"
    )
  return found


def _judged(
    name: str,
    result: results.Results,
    pool: grading_pool.GradingPool,
    on_done: Callable[[str, int, bool], None],
) -> dict[str, results.Record]:
  grade, same = problem_sets.graders(name, pool)
  records = list(result.records.values())
  judged = {}
  for first in range(0, len(records), _AT_ONCE):
    part = records[first : first + _AT_ONCE]
    judged |= {r.id: r for r in judging.judge(part, grade, same)}
    on_done(name, sum(len(r.completions) for r in part), True)
  return judged


def _count(result: results.Results) -> int:
  return sum(len(r.completions) for r in result.records.values())


def as_json(
    found: Mapping[str, list[judging.Change]],
) -> dict[str, list[dict[str, Any]]]:
  """What changed, by set: verdicts before and after."""
  fields = ("answer", "correct", "format_valid", "timed_out")
  told = lambda c: {field: getattr(c, field) for field in fields}
  return {
      name: [
          {
              "id": change.id,
              "sample": change.sample,
              "gold": change.gold,
              "before": told(change.before),
              "after": told(change.after),
          }
          for change in changes
      ]
      for name, changes in found.items()
  }


def lines(
    found: Mapping[str, list[judging.Change]], most: int = 10
) -> list[str]:
  """What changed, in words; of each set the first `most` changes."""
  told = []
  for name, changes in found.items():
    now = sum(c.after.correct and not c.before.correct for c in changes)
    lost = sum(c.before.correct and not c.after.correct for c in changes)
    told.append(
        f"{name}: {len(changes)} verdicts changed, {now} to right and {lost} to"
        " wrong."
    )
    told += [f"  {_line(change)}" for change in changes[:most]]
    if len(changes) > most:
      told.append(f"  and {len(changes) - most} more, in regraded.json")
  return told


def _line(change: judging.Change) -> str:
  verdict = lambda c: (
      "not graded in time"
      if c.timed_out
      else ("right" if c.correct else "wrong")
      + ("" if c.format_valid else ", not in its place")
  )
  answer = lambda c: " ".join((c.answer or "no answer").split())[:60]
  old, new = change.before, change.after
  return (
      f"{change.id}, sample {change.sample}, reference"
      f" {' '.join(change.gold.split())[:60]}: {answer(old)} ({verdict(old)}) ->"
      f" {answer(new)} ({verdict(new)})"
  )
