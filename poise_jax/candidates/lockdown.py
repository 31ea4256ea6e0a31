"""What the child gives up, for good, before it reads a source.

Three layers, each of which stands alone: no descriptor can be opened any more
(`RLIMIT_NOFILE` 0), processor time, memory and file size are bounded, and on
Linux a seccomp filter answers EPERM to every system call but the few that
tracing makes. `jax.export` has been seen to need no other ones once it has
traced something.
"""

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
# What a fork bomb may come to where nothing else stops it.
_MORE_TASKS = 512

_ALLOWED_CALLS = (
    # Memory.
    "brk madvise mmap mprotect mremap munmap",
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
  rules = _system_call_rules() if sys.platform == "linux" else None
  tasks = _tasks_of_user() if sys.platform == "linux" else 0
  limit_resources(bounds)
  if rules is not None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    try:
      rules.load()
      return True
    except OSError:
      pass
  if sys.platform == "linux":
    # Counts the threads of all processes of a user, so it needs some room, and
    # does not bind root. It is for want of better.
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    most = tasks + _MORE_TASKS
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
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
