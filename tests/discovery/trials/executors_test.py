"""Jobs run side by side, and nothing is left behind."""

import threading
import time

import pytest

from poise_jax.discovery.trials import executors


def test_a_result_comes_as_soon_as_it_is_done():
  others_are_done = threading.Event()

  def work(job):
    if job == "first":
      assert others_are_done.wait(10)
    return job.upper()

  jobs = ["first", "second", "third"]
  results = executors.as_completed(work, jobs, workers=2)
  early = [next(results), next(results)]
  assert sorted(early) == [("second", "SECOND"), ("third", "THIRD")]
  others_are_done.set()
  assert list(results) == [("first", "FIRST")]


def test_jobs_begin_in_their_order():
  begun = []
  list(executors.as_completed(begun.append, range(20), workers=1))
  assert begun == list(range(20))


def test_equal_jobs_are_each_done():
  results = executors.as_completed(str, [7, 7, 7], workers=2)
  assert list(results) == [(7, "7")] * 3


def test_as_many_at_once_as_there_are_workers():
  meet = threading.Barrier(3)
  work = lambda job: meet.wait(10)
  results = list(executors.as_completed(work, range(6), workers=3))
  assert sorted(place for _, place in results) == [0, 0, 1, 1, 2, 2]


def test_one_worker_does_one_job_after_the_other():
  running, most = [], []

  def work(job):
    running.append(job)
    most.append(len(running))
    time.sleep(0.001)
    running.pop()

  list(executors.as_completed(work, range(8), workers=1))
  assert most == [1] * 8


def test_an_exception_reaches_the_caller_and_drops_what_has_not_begun():
  failed, begun, ended = threading.Event(), [], []

  def work(job):
    begun.append(job)
    if job == 1:
      failed.set()
      raise ArithmeticError("job 1")
    assert failed.wait(10)
    # Long enough for the caller to hear of the failure.
    time.sleep(0.1)
    ended.append(job)

  with pytest.raises(ArithmeticError, match="job 1"):
    list(executors.as_completed(work, range(50), workers=2))
  assert {0, 1} <= set(begun) and len(begun) < 6
  # Whatever had begun has also ended: nothing runs on behind the caller.
  assert sorted(ended) == sorted(set(begun) - {1})


def test_stopping_early_drops_what_has_not_begun():
  begun, ended = [], []

  def work(job):
    begun.append(job)
    time.sleep(0.02)
    ended.append(job)

  for _ in executors.as_completed(work, range(50), workers=2):
    break
  assert 1 <= len(begun) < 8
  assert ended and sorted(ended) == sorted(begun)


def test_no_jobs_give_no_results():
  assert list(executors.as_completed(str, [], workers=2)) == []
