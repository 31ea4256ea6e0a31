"""The worker as a process of its own, over its pipes."""

import json
import subprocess
import sys

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
    "gold, answer, seconds, same",
    [
        ("x+1", "1+x", 20.0, True),
        ("5", "9^{9^{9}}", 0.5, None),
        ("x+1", "1-x", 20.0, False),
    ],
)
def test_requests(worker, gold, answer, seconds, same):
  request = {"gold": gold, "answer": answer, "seconds": seconds}
  worker.stdin.write(json.dumps(request).encode() + b"\n")
  assert json.loads(worker.stdout.readline()) == {"same": same}


def test_strings_that_are_no_mathematics_are_wrong():
  assert grading_worker.judge("x", "\\int \\\\ & ^ _ x") is False
