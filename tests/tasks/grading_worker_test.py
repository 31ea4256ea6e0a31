"""The worker as a process of its own, over its pipes."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from poise_jax.tasks import grading_worker


@pytest.fixture(scope="module")
def worker():
  script = "from poise_jax.tasks import grading_worker as w; w.main()"
  process = subprocess.Popen(
      [sys.executable, "-c", script],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      bufsize=0,
  )
  assert json.loads(process.stdout.readline()) == {"ready": True}
  yield process
  process.stdin.close()
  assert process.wait(20) == 0
  process.stdout.close()


@pytest.mark.parametrize(
    "gold, answer, seconds, wall, same",
    [
        ("x+1", "1+x", 20.0, 60.0, True),
        ("5", "9^{9^{9}}", 0.5, 60.0, None),
        ("5", "9^{9^{9}}", 60.0, 0.5, None),
        ("x+1", "1-x", 20.0, 60.0, False),
    ],
)
def test_requests(worker, gold, answer, seconds, wall, same):
  before = time.monotonic()
  _request(worker, gold=gold, answer=answer, seconds=seconds, wall=wall)
  assert json.loads(worker.stdout.readline()) == {"same": same}
  assert time.monotonic() - before < 30


def _request(worker, **fields):
  worker.stdin.write(json.dumps(fields).encode() + b"\n")


def test_time_that_it_does_not_get_does_not_count(worker):
  # As on a machine that others keep busy: stopped for longer than the limit.
  (inmate,) = psutil.Process(worker.pid).children()
  os.kill(inmate.pid, signal.SIGSTOP)
  _request(worker, gold="x+1", answer="1+x", seconds=0.8, wall=60.0)
  time.sleep(1.6)
  os.kill(inmate.pid, signal.SIGCONT)
  assert json.loads(worker.stdout.readline()) == {"same": True}


def test_each_request_has_its_own_time(worker):
  # Together more than the limit of one.
  for i in range(60):
    gold, answer = rf"\frac{{{i + 1}x}}{{7}}+y", rf"y+\frac{{{i + 1}}}{{7}}x"
    _request(worker, gold=gold, answer=answer, seconds=0.4, wall=60.0)
    assert json.loads(worker.stdout.readline()) == {"same": True}


def test_strings_that_are_no_mathematics_are_wrong():
  assert grading_worker.judge("x", "\\int \\\\ & ^ _ x") is False
