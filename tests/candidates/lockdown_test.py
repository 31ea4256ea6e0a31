"""What is left to a process after `lock`: tried out in real processes."""

from pathlib import Path
import subprocess
import sys

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_PROLOGUE = """
import ctypes, os, signal, socket, subprocess, sys, threading, time
from poise_jax.candidates import limits, lockdown
"""
_LOCK = """
filtered = lockdown.lock(limits.Limits(cpu_seconds=1, memory_bytes=2**28))
def attempt(action):
  try:
    action()
    return "done"
  except BaseException as error:
    return type(error).__name__
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the full jail needs Linux"
)


def _run(code: str, lock: str = _LOCK) -> subprocess.CompletedProcess[str]:
  return subprocess.run(
      [sys.executable, "-c", _PROLOGUE + lock + code],
      cwd=_ROOT,
      capture_output=True,
      text=True,
      timeout=30,
  )


def test_nothing_outside_can_be_reached(tmp_path):
  target = tmp_path / "kept"
  target.write_text("kept")
  result = _run(f"""
for action in (
    lambda: open("/etc/passwd"),
    lambda: open({str(tmp_path / "new")!r}, "w"),
    lambda: os.unlink({str(target)!r}),
    lambda: os.listdir("/"),
    lambda: os.stat("/"),
    lambda: socket.socket(),
    lambda: os.pipe(),
    lambda: os.fork(),
    lambda: subprocess.run(["true"]),
    lambda: os.execv("/bin/true", ["true"]),
    lambda: os.kill(os.getppid(), 0),
    lambda: os.killpg(0, signal.SIGKILL),
    lambda: os.setuid(1),
    lambda: os.chdir("/tmp"),
    lambda: lockdown.resource.setrlimit(lockdown.resource.RLIMIT_CPU, (99, 99)),
    lambda: os.memfd_create("x"),
    lambda: os.dup(0),
):
  outcome = attempt(action)
  assert outcome in ("PermissionError", "OSError", "ValueError"), outcome
assert filtered
ran = []
thread = threading.Thread(target=ran.append, args=(1,))
thread.start()
thread.join()
assert ran == [1]
print("contained")
""")
  assert result.stdout == "contained\n", result
  assert target.read_text() == "kept"
  assert list(tmp_path.iterdir()) == [target]


def test_limits_hold_without_the_filter():
  result = _run(
      """
assert attempt(lambda: bytearray(2**29)) == "MemoryError"
assert attempt(lambda: open("/etc/passwd")) == "OSError"
assert attempt(socket.socket) == "OSError"
assert attempt(os.pipe) == "OSError"
print("bounded")
""",
      lock=_LOCK.replace("lockdown.lock(", "lockdown.limit_resources("),
  )
  assert result.stdout == "bounded\n", result


def test_processes_are_bounded_where_the_filter_is_missing():
  result = _run(
      """
most, _ = lockdown.resource.getrlimit(lockdown.resource.RLIMIT_NPROC)
assert not filtered and 512 < most < 512 + 100_000, most
print("bounded")
""",
      lock=_LOCK.replace(
          "filtered =", "lockdown._system_call_rules = lambda: None\nfiltered ="
      ),
  )
  assert result.stdout == "bounded\n", result


def test_processor_time_runs_out_even_if_signals_are_ignored():
  result = _run("""
signal.signal(signal.SIGXCPU, signal.SIG_IGN)
while True:
  pass
""")
  assert result.returncode == -9, result


def test_orphan_ends_at_once():
  result = subprocess.run(
      [sys.executable, "-c", _PROLOGUE + "lockdown.die_with_parent(1)"],
      cwd=_ROOT,
      timeout=30,
  )
  assert result.returncode == 1
