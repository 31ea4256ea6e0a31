"""Runs independent jobs side by side."""

from collections.abc import Callable, Iterator, Sequence
import concurrent.futures
from typing import TypeVar

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


def as_completed(
    work: Callable[[_Job], _Result], jobs: Sequence[_Job], *, workers: int
) -> Iterator[tuple[_Job, _Result]]:
  """Yields each job with its result as soon as it is done.

  Threads share compiled programs, and XLA releases the interpreter while it
  computes. If a job raises, or the caller stops early, jobs that have not
  begun are dropped and those that have are waited for.

  Args:
    work: called once for each job, from any of the threads.
    jobs: what to do, begun in this order.
    workers: how many to do at once.
  """
  pool = concurrent.futures.ThreadPoolExecutor(workers)
  try:
    futures = {pool.submit(work, job): job for job in jobs}
    for future in concurrent.futures.as_completed(futures):
      yield futures[future], future.result()
  finally:
    pool.shutdown(cancel_futures=True)
