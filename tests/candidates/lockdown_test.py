"""What is left to a process after `lock`: tried out in real processes."""

import os
from pathlib import Path
import platform
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
assert not filtered and 64 < most < 512 + 100_000, most
print("bounded")
""",
      lock=_LOCK.replace(
          "filtered =", "lockdown._system_call_rules = lambda: None\nfiltered ="
      ),
  )
  assert result.stdout == "bounded\n", result


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has users to give")
def test_threads_are_bounded_with_the_filter_too():
  # With small stacks, memory would hold thousands.
  result = _run("""
threading.stack_size(32 * 1024)
lock = threading.Lock()
lock.acquire()
started = 0
try:
  for _ in range(4000):
    threading.Thread(target=lock.acquire, daemon=True).start()
    started += 1
except RuntimeError:
  pass
print("bounded" if filtered and 4 < started < 600 else started, flush=True)
os._exit(0)
""")
  assert result.stdout == "bounded\n", result


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give it up")
def test_root_becomes_a_user_that_nobody_is():
  status = _LOCK.replace(
      "filtered =", "status = open('/proc/self/status')\nfiltered ="
  )
  result = _run(
      """
assert os.getuid() == os.geteuid() == os.getgid() > 10**9
text = status.read()
for line in text.splitlines():
  if line.startswith(("CapEff", "CapPrm", "CapInh")):
    assert int(line.split()[1], 16) == 0, line
assert "NoNewPrivs:\\t1" in text
print("given up")
""",
      lock=status,
  )
  assert result.stdout == "given up\n", result


@pytest.mark.skipif(platform.machine() != "x86_64", reason="raw numbers")
def test_every_call_outside_the_list_is_refused():
  result = _run(
      """
import errno
libc = ctypes.CDLL(None, use_errno=True)
assert filtered and libc.syscall(79, 0, 0) == -1  # getcwd
assert ctypes.get_errno() == errno.EPERM
passed = []
for number in range(640):
  # The kernel asks no filter about its probes, and ends who is not one.
  if number in allowed or number in (335, 336):
    continue
  ctypes.set_errno(0)
  value = libc.syscall(ctypes.c_long(number), 0, 0, 0, 0, 0, 0)
  if value != -1 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
    passed.append((number, value, ctypes.get_errno()))
assert not passed, passed
# Of those that are allowed for one purpose, the others.
madvise = lambda advice: libc.syscall(28, 0, 0, ctypes.c_long(advice))
assert madvise(4) == 0  # MADV_DONTNEED
for advice in (100, 101, 2**31, 2**32 - 1):  # MADV_HWPOISON, ...
  assert madvise(advice) == -1 and ctypes.get_errno() == errno.EPERM, advice
assert libc.syscall(56, 17, 0, 0, 0, 0) == -1  # clone of a process
assert libc.syscall(157, 38, 1, 0, 0, 0) == -1  # prctl(PR_SET_NO_NEW_PRIVS)
print("refused")
""",
      lock="""
import pyseccomp
names = " ".join(lockdown._ALLOWED_CALLS).split()
names += ["clone", "prctl", "prlimit64", "madvise"]
allowed = {pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, n) for n in names}
""" + _LOCK,
  )
  assert result.stdout == "refused\n", result


@pytest.mark.skipif(platform.machine() != "x86_64", reason="raw numbers")
@pytest.mark.parametrize("convention", ["x32", "i386"])
def test_calls_by_other_numbers_end_the_process(convention):
  # The second in machine code: getpid as 32-bit programs call it.
  call = {
      "x32": "ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39))",
      "i386": "function()",
  }[convention]
  result = _run(
      f"""
{call}
print("alive", flush=True)
""",
      lock="""
import mmap
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("b814000000cd80c3"))
address = ctypes.addressof(ctypes.c_char.from_buffer(code))
function = ctypes.CFUNCTYPE(ctypes.c_int)(address)
""" + _LOCK,
  )
  assert (
      result.returncode in (-31, -11) and "alive" not in result.stdout
  ), result


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
