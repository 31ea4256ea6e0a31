"""Ways to run independent jobs, as functions that may be passed on.

An executor is a function of (work, jobs) that yields each job with its result,
or with the exception that it raised: one job that fails ends nothing.
"""

from collections.abc import Callable, Iterator, Sequence
import functools
import multiprocessing
import multiprocessing.connection
import queue
import signal
from typing import Any, TypeVar

from poise_jax.discovery.trials import executors

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
Executor = Callable[
    [Callable[[Any], Any], Sequence[Any]], Iterator[tuple[Any, Any]]
]


class WorkerDiedError(RuntimeError):
  """A worker process ended in the middle of a job."""


def serial(
    work: Callable[[_Job], _Result], jobs: Sequence[_Job]
) -> Iterator[tuple[_Job, _Result | Exception]]:
  """One job after the other, here."""
  for job in jobs:
    yield job, _caught(work, job)


def threads(count: int) -> Executor:
  """Several at once in this process, which share compiled programs."""
  _check(count)

  def run(
      work: Callable[[_Job], _Result], jobs: Sequence[_Job]
  ) -> Iterator[tuple[_Job, _Result | Exception]]:
    caught = functools.partial(_caught, work)
    yield from executors.as_completed(caught, jobs, workers=count)

  return run


def processes(count: int) -> Executor:
  """Several at once, each in a process that takes one job after the other.

  A process that dies costs its job alone: another one takes its place. Work
  and jobs are pickled. Each process compiles for itself.
  """
  _check(count)

  def run(
      work: Callable[[_Job], _Result], jobs: Sequence[_Job]
  ) -> Iterator[tuple[_Job, _Result | Exception]]:
    slots: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    workers = [_Worker(work) for _ in range(min(count, len(jobs)))]
    for worker in workers:
      slots.put(worker)

    def ask(job: _Job) -> _Result | Exception:
      worker = slots.get()
      try:
        return _caught(worker.ask, job)
      finally:
        slots.put(worker)

    try:
      yield from executors.as_completed(ask, jobs, workers=max(len(workers), 1))
    finally:
      for worker in workers:
        worker.stop()

  return run


def _check(count: int) -> None:
  if count < 1:
    raise ValueError(f"`count` must be at least 1, got {count}")


def _caught(work: Callable[[_Job], _Result], job: _Job) -> _Result | Exception:
  try:
    return work(job)
  except Exception as error:  # Whatever a job may raise is its result.
    return error


class _Worker:
  """A child process that is asked one thing after the other."""

  def __init__(self, work: Callable[[Any], Any]):
    self._work = work
    self._start()

  def _start(self) -> None:
    # jax has threads of its own: a forked copy of it could hang.
    context = multiprocessing.get_context("spawn")
    self._pipe, theirs = context.Pipe()
    self._process = context.Process(
        target=_serve, args=(theirs, self._work), daemon=True
    )
    self._process.start()
    # With its only other end in the child, the pipe ends when the child does.
    theirs.close()

  def ask(self, job: Any) -> Any:
    """Sends a job and waits for what comes of it."""
    try:
      self._pipe.send(job)
      result = self._pipe.recv()
    except (EOFError, OSError):
      self._process.join()
      status = self._process.exitcode
      self._start()
      raise WorkerDiedError(
          f"the process ended with status {status} (below 0: by a signal)"
      ) from None
    if isinstance(result, Exception):
      raise result
    return result

  def stop(self) -> None:
    """Ends the process, whatever it does."""
    self._pipe.close()
    self._process.terminate()
    self._process.join()


def _serve(
    pipe: multiprocessing.connection.Connection, work: Callable[[Any], Any]
) -> None:
  """Does jobs until the parent closes its end, or is gone."""
  # Ctrl-C reaches the whole group: end without a word, the parent speaks.
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  while True:
    try:
      job = pipe.recv()
    except EOFError:
      return
    try:
      pipe.send(_portable(_caught(work, job)))
    except BrokenPipeError:
      return


class RemoteError(RuntimeError):
  """An error of a worker process.

  Attributes:
    kind: name of its type there.
  """

  def __init__(self, kind: str, text: str):
    super().__init__(kind, text)
    self.kind = kind

  def __str__(self) -> str:
    return self.args[1]


def _portable(result: Any) -> Any:
  """Errors by their type and words: some cannot be pickled."""
  if isinstance(result, Exception):
    return RemoteError(type(result).__name__, str(result))
  return result
