"""Why a child gave no answer, told from processes that really gave none."""

import os
import signal
import sys
import threading
import time

import psutil
import pytest

from poise_jax.candidates import child as child_lib
from poise_jax.candidates import limits

_REQUEST = {"group_size": 8, "fallback_shape": None}
_BOUNDS = limits.Limits(cpu_seconds=1, memory_bytes=2**30)
_ESCAPE = b"""
__builtins__.update(jnp.sum.__globals__["__builtins__"])
import os, time
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="reads the kernel's accounts"
)


@pytest.fixture
def child():
  process = child_lib.Child(_BOUNDS, "trace")
  process.wait_until_warm(time.monotonic() + 180.0)
  yield process
  process.kill()
  assert not psutil.pid_exists(process.pid)


def _cause(child, source, seconds):
  with pytest.raises(child_lib.SilentError) as caught:
    child.ask(_REQUEST, source, deadline=time.monotonic() + seconds)
  return caught.value.cause


def test_a_source_that_computes_is_to_blame_and_is_stopped_early(child):
  start = time.monotonic()
  assert _cause(child, _ESCAPE + b"while True: pass", 60.0) == "cpu"
  assert time.monotonic() - start < 30.0


def test_a_source_that_waits_is_to_blame(child):
  assert _cause(child, _ESCAPE + b"time.sleep(1000)", 1.0) == "idle"


@pytest.mark.slow
def test_a_source_that_gets_no_processor_is_not(child):
  # At the lowest priority, on one core with two busy processes.
  core = min(os.sched_getaffinity(0))
  for thread in psutil.Process(child.pid).threads():
    os.sched_setaffinity(thread.id, {core})
    os.setpriority(os.PRIO_PROCESS, thread.id, 19)
  end = time.monotonic() + 6.0
  spin = f"import time, os; os.sched_setaffinity(0, {{{core}}})\n"
  spin += f"while time.monotonic() < {end}: pass"
  busy = [
      os.posix_spawn(sys.executable, [sys.executable, "-c", spin], os.environ)
      for _ in range(2)
  ]
  try:
    time.sleep(0.5)
    assert _cause(child, _ESCAPE + b"while True: pass", 1.5) == "starved"
  finally:
    for pid in busy:
      os.kill(pid, signal.SIGKILL)
      os.waitpid(pid, 0)


def test_a_child_that_somebody_kills_is_told_from_one_that_leaves(child):
  timer = threading.Timer(0.3, os.kill, (child.pid, signal.SIGKILL))
  timer.start()
  assert _cause(child, _ESCAPE + b"time.sleep(1000)", 30.0) == "killed"
  timer.join()


def test_a_child_that_leaves_died(child):
  assert _cause(child, _ESCAPE + b"os._exit(0)", 30.0) == "died"


@pytest.mark.slow
def test_an_answer_without_bounds_is_garbled(child):
  flood = b"[os.write(i, b'x' * 99999) for i in range(3, 6)]"
  assert _cause(child, _ESCAPE + flood, 30.0) == "garbled"


def test_a_child_that_is_not_warm_in_time_is_an_error_of_the_jail():
  process = child_lib.Child(_BOUNDS, "trace")
  with pytest.raises(child_lib.JailError, match="does not start"):
    process.wait_until_warm(time.monotonic() + 0.01)
  process.kill()
