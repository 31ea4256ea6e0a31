"""Grades completions in processes of their own, each under a hard time limit.

Computer algebra hangs on expressions that a policy may well write, 9^(9^9) for
one, and cannot be stopped from within; signals would need the trainer's main
thread. So algebra runs in child processes that are killed at the limit. It
counts the processor's time that a comparison takes, so that a busy machine
makes no right answer wrong; `PATIENCE` times as long on the clock is for what
waits without computing. Whatever is cut off is told, answer by answer. They
import neither jax nor the caller's main module, which rules out the pools of
multiprocessing. Most pairs need no algebra and never leave this process.
"""

import atexit
from collections.abc import Sequence
import concurrent.futures
import functools
import json
import os
import pathlib
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Any, NamedTuple

from poise_jax.tasks import answer_equivalence, answer_extraction

SECONDS = 3.0
PATIENCE = 20.0
_START_SECONDS = 120.0
_MARGIN_SECONDS = 5.0
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
_BOOTSTRAP = (
    "import json, signal, sys; sys.path[:] = json.loads(sys.argv[1]);"
    # What ends a job is for the caller, who may still want verdicts.
    " signal.signal(signal.SIGINT, signal.SIG_IGN);"
    " signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " from poise_jax.tasks import grading_worker; grading_worker.main()"
)


class Grade(NamedTuple):
  r"""What the verifier says of one completion.

  Attributes:
    correct: the answer means what the gold answer means.
    format_valid: the answer stands in a ``\boxed{}`` that is closed.
    answer: as it was written; None if there is none.
    timed_out: the comparison was cut off, and counts as incorrect.
  """

  correct: bool
  format_valid: bool
  answer: str | None
  timed_out: bool = False


class _Keeper:
  """A child process that judges pairs, one at a time."""

  def __init__(self) -> None:
    root = str(pathlib.Path(__file__).resolve().parents[2])
    paths = [path for path in sys.path if os.path.isabs(path)]
    self._ready = False
    self._rest = b""
    self._process = subprocess.Popen(
        [
            sys.executable,
            "-s",
            "-P",
            "-c",
            _BOOTSTRAP,
            json.dumps([*paths, root]),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env=_ENVIRONMENT,
        # An interrupt at the terminal is for the caller, who closes the pool.
        start_new_session=True,
    )

  def wait_until_ready(self) -> None:
    """Waits until it has imported what it needs."""
    if not self._ready:
      try:
        self._ready = self._read(_START_SECONDS) == {"ready": True}
      except (BrokenPipeError, TimeoutError):
        pass
      if not self._ready:
        raise RuntimeError(
            "a grading process does not start; run `python -c 'import"
            " poise_jax.tasks.grading_worker'` to see why"
        )

  def ask(self, gold: str, answer: str, seconds: float) -> bool | None:
    """Whether the two mean the same; None if it took too long.

    Raises:
      BrokenPipeError: if the process is gone.
      TimeoutError: if it does not answer.
    """
    self.wait_until_ready()
    wall = PATIENCE * seconds
    request = {
        "gold": gold,
        "answer": answer,
        "seconds": seconds,
        "wall": wall,
    }
    line = json.dumps(request).encode() + b"\n"
    while line:
      line = line[self._process.stdin.write(line) :]
    return self._read(wall + _MARGIN_SECONDS)["same"]

  def close(self) -> None:
    """Ends it and its inmate, and reaps it."""
    try:
      os.killpg(self._process.pid, signal.SIGKILL)
    except ProcessLookupError:
      pass
    self._process.wait()
    self._process.stdin.close()
    self._process.stdout.close()

  def _read(self, seconds: float) -> dict[str, Any]:
    """One line; raises as `ask` if it does not come."""
    pipe = self._process.stdout.fileno()
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    end = time.monotonic() + seconds
    while b"\n" not in self._rest:
      left = end - time.monotonic()
      if left <= 0 or not poller.poll(1e3 * left):
        raise TimeoutError("no reply from a grading process")
      part = os.read(pipe, 1 << 16)
      if not part:
        raise BrokenPipeError("a grading process is gone")
      self._rest += part
    line, _, self._rest = self._rest.partition(b"\n")
    return json.loads(line)


@functools.lru_cache(maxsize=1 << 16)
def _decide(gold: str, answer: str) -> bool | None:
  """Judges without algebra; None if it takes some."""
  try:
    return answer_equivalence.equivalent(gold, answer, lambda g, a: None)
  except (RecursionError, ValueError, ArithmeticError, MemoryError):
    return False


def _text(text: str) -> str:
  """Text that can be sent: halves of surrogate pairs are replaced."""
  return text.encode("utf-8", "replace").decode()


class GradingPool:
  """A few processes that grade, for one or many threads.

  Use it as a context manager, or call `close`. Processes start with the first
  pair that needs them, and take a second or two to do so.

  Attributes:
    timeouts: how many comparisons were cut off so far.
  """

  def __init__(self, workers: int = 2, seconds: float = SECONDS) -> None:
    """Starts nothing yet.

    Args:
      workers: how many processes.
      seconds: limit for each comparison, in time of the processor, and
        `PATIENCE` times that by the clock.

    Raises:
      ValueError: if either is not positive.
    """
    if workers < 1:
      raise ValueError(f"`workers` must be at least 1, got {workers}; use 2")
    if not 0 < seconds <= 3600:
      raise ValueError(
          f"`seconds` must be positive and at most 3600, got {seconds}"
      )
    self.timeouts = 0
    self._seconds = float(seconds)
    self._workers = workers
    self._idle: queue.SimpleQueue[_Keeper | None] = queue.SimpleQueue()
    self._lock = threading.Lock()
    self._alive: set[_Keeper] = set()
    self._closed = False
    for _ in range(workers):
      self._idle.put(None)

  def __enter__(self) -> "GradingPool":
    return self

  def __exit__(
      self,
      kind: type[BaseException] | None,
      error: BaseException | None,
      trace: TracebackType | None,
  ) -> None:
    self.close()

  def close(self) -> None:
    """Ends all processes; waits for them; may be called twice."""
    with self._lock:
      self._closed = True
      alive, self._alive = self._alive, set()
    for keeper in alive:
      keeper.close()

  def _start(self) -> _Keeper:
    with self._lock:
      if self._closed:
        raise RuntimeError("the pool is closed; open another one")
      keeper = _Keeper()
      self._alive.add(keeper)
      return keeper

  def _drop(self, keeper: _Keeper) -> None:
    with self._lock:
      mine = keeper in self._alive
      self._alive.discard(keeper)
    if mine:
      keeper.close()

  def _ask(self, gold: str, answer: str, seconds: float) -> bool | None:
    """Asks an idle process; one that is gone is replaced, and asked again."""
    keeper = self._idle.get()
    try:
      for _ in range(2):
        keeper = keeper or self._start()
        try:
          keeper.wait_until_ready()
          return keeper.ask(gold, answer, seconds)
        except (OSError, ValueError) as error:
          if self._closed:
            raise RuntimeError("the pool was closed while it graded") from None
          self._drop(keeper)
          keeper = None
          if isinstance(error, TimeoutError):
            return None
      return None
    except BaseException:
      # Whatever interrupts leaves a reply on its way: nobody may read it.
      if keeper is not None:
        self._drop(keeper)
        keeper = None
      raise
    finally:
      self._idle.put(keeper)

  def same_many(
      self,
      golds: Sequence[str],
      answers: Sequence[str | None],
      *,
      seconds: float | None = None,
  ) -> list[bool | None]:
    """Judges pairs, each distinct one once.

    Args:
      golds: gold answers.
      answers: what to compare them with; None is never right.
      seconds: limit for each comparison; None for that of the pool.

    Returns:
      In the order of the pairs; None where the limit was met.

    Raises:
      ValueError: if there are not as many of both.
      RuntimeError: if the pool is closed, or its processes do not start.
    """
    if len(golds) != len(answers):
      raise ValueError(
          f"`answers` must be as many as `golds`, got {len(answers)} and"
          f" {len(golds)}"
      )
    if self._closed:
      raise RuntimeError("the pool is closed; open another one")
    pairs = [
        (_text(g), _text(a) if a is not None else None)
        for g, a in zip(golds, answers, strict=True)
    ]
    verdicts: dict[tuple[str, str | None], bool | None] = {}
    for pair in dict.fromkeys(pairs):
      verdicts[pair] = _decide(*pair) if pair[1] is not None else False
    hard = [pair for pair, verdict in verdicts.items() if verdict is None]
    found = self._ask_all(hard, seconds or self._seconds)
    for pair, verdict in zip(hard, found, strict=True):
      verdicts[pair] = verdict
      if verdict is None:
        with self._lock:
          self.timeouts += 1
    return [verdicts[pair] for pair in pairs]

  def _ask_all(
      self, pairs: Sequence[tuple[str, str]], seconds: float
  ) -> list[bool | None]:
    """Asks about many pairs, as many at once as there are processes."""
    if self._workers == 1 or len(pairs) <= 1:
      return [self._ask(*pair, seconds) for pair in pairs]
    executor = concurrent.futures.ThreadPoolExecutor(self._workers)
    try:
      return list(executor.map(lambda p: self._ask(*p, seconds), pairs))
    except BaseException:
      executor.shutdown(wait=False, cancel_futures=True)
      raise
    finally:
      executor.shutdown(wait=False)

  def grade_many(
      self, completions: Sequence[str], golds: Sequence[str]
  ) -> list[Grade]:
    """Grades completions, in their order; the result is deterministic.

    Args:
      completions: decoded texts.
      golds: the gold answer of each.

    Raises:
      ValueError: if there are not as many of both.
      RuntimeError: if the pool is closed, or its processes do not start.
    """
    if len(golds) != len(completions):
      raise ValueError(
          f"`golds` must be as many as `completions`, got {len(golds)} and"
          f" {len(completions)}"
      )
    found = [answer_extraction.extract(text) for text in completions]
    same = self.same_many(golds, [f.answer for f in found])
    return [
        Grade(bool(s), f.closed_box, f.answer, s is None)
        for f, s in zip(found, same, strict=True)
    ]


@functools.cache
def shared() -> GradingPool:
  """The pool of this process, with one worker, closed when it exits."""
  pool = GradingPool(workers=1)
  atexit.register(pool.close)
  return pool
