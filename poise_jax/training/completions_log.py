"""A few completions of every step, as text, for people to read.

Numbers do not show that a policy repeats itself or games the verifier; its text
does. Which completions are kept depends on the step and the seed alone, so a
resumed run keeps the same.
"""

from collections.abc import Callable
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from poise_jax.training import sinks


class Completion(NamedTuple):
  """What is known of one completion.

  Attributes:
    prompt: text that was completed; bytes are read as UTF-8.
    completion: text that the policy wrote; bytes are read as UTF-8.
    reward: its reward.
    correct: the verifier accepted the answer.
    valid: an answer could be parsed.
    truncated: the length limit came before end-of-text.
    length: in tokens, end-of-text included.
    policy_version: optimizer updates made before it was sampled.
    advantage: its advantage, if the algorithm has one.
  """

  prompt: str | bytes
  completion: str | bytes
  reward: float | None
  correct: bool
  valid: bool
  truncated: bool
  length: int
  policy_version: int
  advantage: float | None = None


class Entry(NamedTuple):
  """A completion that was kept.

  Attributes:
    step: rollout step, counted from 0.
    row: its number in the rollout, prompt · group size + copy.
    completion: what is known of it; `reward` and `advantage` are None where
      they were not finite.
  """

  step: int
  row: int
  completion: Completion


class CompletionsLog(NamedTuple):
  """A function of (step, rows, describe), with an end.

  Attributes:
    write: takes the number of completions of a step, and what describes the
      one of a given row; only rows that are kept are described.
    close: writes out what is left; the last call.
  """

  write: Callable[[int, int, Callable[[int], Completion]], None]
  close: Callable[[], None]

  def __call__(
      self, step: int, rows: int, describe: Callable[[int], Completion]
  ) -> None:
    """Keeps some of the completions of one step."""
    self.write(step, rows, describe)


def choose(step: int, rows: int, keep: int, *, seed: int = 0) -> list[int]:
  """Chooses which rows of a step to keep: distinct, rising, all if few."""
  rng = np.random.default_rng([seed, step])
  return sorted(rng.choice(rows, min(rows, keep), replace=False).tolist())


def open_log(
    path: str | os.PathLike[str],
    *,
    start_step: int = 0,
    keep: int = 4,
    seed: int = 0,
) -> CompletionsLog:
  r"""Opens a file with one line of JSON for each completion that is kept.

  All lines of a step are written at once. Text that is not UTF-8 is escaped,
  ``\xff`` or ``\ud800``; numbers that are not finite become null, with a note.

  Args:
    path: of the file; made with its directory if it is not there.
    start_step: first step that will be written. Lines of it and of later
      steps, which this run repeats, are dropped, and so is a last line that a
      kill left unfinished.
    keep: completions kept of each step, 0 or more.
    seed: of the choice, 0 or more.

  Returns:
    A log; it raises ValueError for a step that is not after the last one.

  Raises:
    ValueError: if `keep` is negative, or the file is not such a file; it is
      left as it is.
  """
  if keep < 0:
    raise ValueError(f"`keep` must not be negative, got {keep}")
  log = sinks.StepLog(path, start_step=start_step)

  def write(
      step: int, rows: int, describe: Callable[[int], Completion]
  ) -> None:
    chosen = choose(step, rows, keep, seed=seed)
    log.append(step, [_line(row, describe(row)) for row in chosen])

  return CompletionsLog(write, log.close)


def _line(row: int, completion: Completion) -> dict[str, Any]:
  """Writes a completion with plain numbers; numpy's are welcome too."""
  read_as = {
      "prompt": sinks.printable,
      "completion": sinks.printable,
      "reward": float,
      "correct": bool,
      "valid": bool,
      "truncated": bool,
      "length": int,
      "policy_version": int,
      "advantage": float,
  }
  line = {
      name: None if field is None else read_as[name](field)
      for name, field in completion._asdict().items()
  }
  numbers, not_finite = sinks.finite(
      {name: line[name] for name in ("reward", "advantage")}
  )
  note = {"not_finite": not_finite} if not_finite else {}
  return {"row": row} | line | numbers | note


def read(path: str | os.PathLike[str]) -> list[Entry]:
  """Reads what was kept, in order, also while it is being written.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the file is not such a file.
  """
  lines = [line for _, line in sinks.scan(pathlib.Path(path))]
  try:
    return [
        Entry(
            line["step"],
            line["row"],
            Completion(**{name: line[name] for name in Completion._fields}),
        )
        for line in lines
    ]
  except KeyError as error:
    raise ValueError(
        f"{os.fspath(path)} is not a file of completions: a line has no"
        f" {error}; name the one that a training wrote"
    ) from error
