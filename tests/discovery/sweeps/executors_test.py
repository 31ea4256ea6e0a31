"""Jobs that fail, hang on to processes, and die."""

import os
import signal
import time

import pytest

from poise_jax.discovery.sweeps import executors


def _work(job):
  """Runs in worker processes too."""
  if job == "bad":
    raise KeyError("no such thing")
  if job == "odd":
    raise _PickyError(1, 2)
  if job == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
  return job, os.getpid()


class _PickyError(Exception):
  """Cannot be unpickled."""

  def __init__(self, a, b):
    super().__init__("picky")


@pytest.mark.parametrize(
    "executor",
    [
        executors.serial,
        executors.threads(2),
    ],
)
def test_a_failure_is_a_result(executor):
  found = dict(executor(_work, ["a", "bad", "b"]))
  assert found["a"] == ("a", os.getpid()) and found["b"][0] == "b"
  assert isinstance(found["bad"], KeyError)
  assert list(executor(_work, [])) == []


def test_processes_outlive_errors_and_are_replaced_when_they_die():
  jobs = ["a", "bad", "killed", "odd", "b", "c"]
  found = dict(executors.processes(2)(_work, jobs))
  assert set(found) == set(jobs)
  for job in "abc":
    name, process = found[job]
    assert name == job and process != os.getpid()
  # One of the two took several jobs.
  assert len({found[job][1] for job in "abc"}) <= 3
  assert (found["bad"].kind, str(found["bad"])) == (
      "KeyError",
      "'no such thing'",
  )
  assert (found["odd"].kind, str(found["odd"])) == ("_PickyError", "picky")
  assert isinstance(found["killed"], executors.WorkerDiedError)
  assert "status -9" in str(found["killed"])


def _gone(process):
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return True
  return False


def test_processes_end_with_whoever_asked_them():
  results = executors.processes(1)(_work, ["a", "b", "c"])
  _, (_, process) = next(results)
  results.close()
  deadline = time.monotonic() + 10
  while not _gone(process):
    assert time.monotonic() < deadline
    time.sleep(0.01)


@pytest.mark.parametrize("make", [executors.threads, executors.processes])
def test_at_least_one_worker(make):
  with pytest.raises(ValueError, match="`count` must be at least 1, got 0"):
    make(0)
