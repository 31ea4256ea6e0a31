"""What the child gives up, for good, before it reads a source.

Four layers, each of which stands alone: no descriptor can be opened any more
(`RLIMIT_NOFILE` 0); processor time, memory, file size and threads are bounded;
where it was root, it becomes a user that nobody else is, without capabilities;
and on Linux a seccomp filter answers EPERM to every system call but the few
that tracing makes. `jax.export` has been seen to need no other ones once it has
traced something.
"""

import contextlib
import ctypes
import errno
import math
import os
import resource
import signal
import sys
import time
from typing import Any

from poise_jax.candidates import limits

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_THREAD = 0x00010000
_CAPABILITY_VERSION = 0x20080522
_CAP_KILL, _CAP_SETGID, _CAP_SETUID = 5, 6, 7
# Threads beyond those of the warm-up: of a user that only this process is, and
# of one that others are too, which may start some in the meantime.
_OWN_THREADS = 64
_MORE_TASKS = 512
# No distribution gives out user ids from here to 2^31.
_FIRST_USER = 1_900_000_000
# What is beyond concerns other processes, or the machine.
_ADVICE = 100

_ALLOWED_CALLS = (
    # Memory.
    "brk mmap mprotect mremap munmap",
    # Threads that exist, and their locks.
    "futex get_robust_list gettid membarrier rseq sched_getaffinity"
    " sched_getparam sched_getscheduler sched_yield set_robust_list getcpu",
    # Time and chance.
    "clock_getres clock_gettime clock_nanosleep getrandom gettimeofday"
    " nanosleep time times",
    # Descriptors that are open: the two pipes.
    "close fstat lseek poll ppoll read readv write writev",
    # Signals to itself, and the end.
    "exit exit_group restart_syscall rt_sigaction rt_sigprocmask rt_sigreturn"
    " sigaltstack",
    # Facts.
    "getegid geteuid getgid getpgrp getpid getppid getrlimit getrusage getsid"
    " getuid sysinfo uname",
)


def die_with_parent(parent: int) -> None:
  """Asks the kernel to kill this process when its parent dies (Linux)."""
  if sys.platform == "linux":
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
  # The parent may have died before the request; then nobody would notice.
  if os.getppid() != parent:
    os._exit(1)


def lock(bounds: limits.Limits) -> bool:
  """Applies every layer to this process; cannot be undone.

  Returns:
    Whether the system-call filter is active.
  """
  # Finding the library opens files, loading the filter does not.
  if sys.platform != "linux":
    limit_resources(bounds)
    return False
  rules = _system_call_rules()
  threads, tasks = len(os.listdir("/proc/self/task")), _tasks_of_user()
  capable = _capabilities()
  limit_resources(bounds)
  # Nothing that is executed gets them back.
  _prctl(_PR_SET_NO_NEW_PRIVS, 1)
  if _become_nobody(capable):
    # jax and XLA start some for each core when they first need them.
    _limit_threads(threads + _OWN_THREADS + 2 * (os.cpu_count() or 1))
  elif rules is None:
    # Of a user that others share they cannot be told from those of others;
    # where there is a filter, that forbids processes.
    _limit_threads(tasks + _MORE_TASKS)
  # An outer sandbox may have taken the call away, and with it what it is for.
  with contextlib.suppress(OSError):
    _drop_capabilities()
  if rules is not None:
    try:
      rules.load()
      return True
    except OSError:
      pass
  return False


def limit_resources(bounds: limits.Limits) -> None:
  """Bounds what may be used beyond what the warm-up has used."""
  used = math.ceil(time.process_time())
  cpu = used + bounds.cpu_seconds
  resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
  if sys.platform == "linux":
    size = _address_space() + bounds.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
  else:
    # Counts processes here; on Linux it counts threads, which jax needs, and
    # the filter forbids processes.
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
  resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _limit_threads(most: int) -> None:
  """Bounds the threads of all processes of this user; root is not bound."""
  _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
  most = most if hard == resource.RLIM_INFINITY else min(most, hard)
  resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def _become_nobody(capable: int) -> bool:
  """Becomes a user that no other process and no file belongs to.

  Only root can. It stays what it is where its parent, which has the same
  capabilities, could not kill it then, or where there is no such user.

  Returns:
    Whether it did.
  """
  needed = (_CAP_KILL, _CAP_SETGID, _CAP_SETUID)
  if not all(capable >> bit & 1 for bit in needed):
    return False
  parent, user = os.getppid(), _FIRST_USER + os.getpid()
  try:
    os.setgroups([])
    os.setresgid(user, user, user)
    # For all threads, and all capabilities go with it.
    os.setresuid(user, user, user)
  except OSError:
    return False
  # Forgotten by the kernel when the user changes.
  die_with_parent(parent)
  return True


def _capabilities() -> int:
  """Effective capabilities, one bit each; none if that cannot be read."""
  try:
    with open("/proc/self/status", encoding="ascii") as file:
      lines = dict(line.split(":", 1) for line in file)
    return int(lines["CapEff"], 16)
  except (OSError, KeyError, ValueError):
    return 0


def _drop_capabilities() -> None:
  """Gives up those of this thread and of all that it starts."""
  libc = ctypes.CDLL(None, use_errno=True)
  header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
  nothing = (ctypes.c_uint32 * 6)()
  if libc.capset(header, nothing) != 0:
    code = ctypes.get_errno()
    raise OSError(code, f"capset: {os.strerror(code)}")


def _address_space() -> int:
  """Size of this process's address space in bytes."""
  with open("/proc/self/statm", encoding="ascii") as file:
    return int(file.read().split()[0]) * resource.getpagesize()


def _tasks_of_user() -> int:
  """Counts the threads of all processes of this user."""
  count = 0
  for entry in os.scandir("/proc"):
    try:
      if entry.name.isdigit() and entry.stat().st_uid == os.getuid():
        count += len(os.listdir(f"{entry.path}/task"))
    except OSError:
      continue  # It has ended, or is not ours to see.
  return count


def _system_call_rules() -> Any:
  """Writes the seccomp filter for all threads; None without the library."""
  try:
    import pyseccomp
  except (ImportError, RuntimeError, OSError):
    return None
  rules = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
  rules.set_attr(pyseccomp.Attr.CTL_TSYNC, 1)
  # Calls by the numbers of another architecture are not told by this list.
  # Kernels before 4.14 can end the thread alone, which is the default.
  with contextlib.suppress(OSError):
    rules.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)
  for name in " ".join(_ALLOWED_CALLS).split():
    # A few do not exist on every machine, e.g. `time` on arm64.
    if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) >= 0:
      rules.add_rule(pyseccomp.ALLOW, name)
  # New threads, but no new process. The library falls back from clone3, whose
  # flags a filter cannot see, to clone only if clone3 does not exist.
  rules.add_rule(
      pyseccomp.ALLOW,
      "clone",
      pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _CLONE_THREAD, _CLONE_THREAD),
  )
  rules.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
  rules.add_rule(
      pyseccomp.ALLOW, "prctl", pyseccomp.Arg(0, pyseccomp.EQ, _PR_SET_NAME)
  )
  rules.add_rule(
      pyseccomp.ALLOW, "madvise", pyseccomp.Arg(2, pyseccomp.LT, _ADVICE)
  )
  # Reading a limit, with no new value.
  rules.add_rule(
      pyseccomp.ALLOW, "prlimit64", pyseccomp.Arg(2, pyseccomp.EQ, 0)
  )
  return rules


def _prctl(option: int, value: int) -> None:
  """Sets one attribute of this process."""
  libc = ctypes.CDLL(None, use_errno=True)
  if libc.prctl(option, value, 0, 0, 0) != 0:
    code = ctypes.get_errno()
    raise OSError(code, f"prctl({option}): {os.strerror(code)}")
