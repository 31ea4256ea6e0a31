"""One jailed process, seen from the parent: start, ask, kill.

The process is fresh Python in a session of its own, with an empty environment
and no descriptors but two pipes. It warms up, locks itself down (`lockdown`),
and answers frames (`wire`). Why no answer came is told from the kernel's own
accounts, which the child cannot forge: a source that computes or sleeps too
long is to blame, a machine that gave it no processor is not.
"""

from collections.abc import Mapping
import dataclasses
import json
import os
from pathlib import Path
import select
import signal
import subprocess
import sys
import time
from typing import Any, Literal

from poise_jax.candidates import limits, wire

Role = Literal["trace", "examine"]

# Why a child gave no answer. `cpu`: it used up its processor time. `idle`: it
# waited for something for most of the time. `starved`: it wanted to run for
# most of the time, and used less than it may. `killed`: somebody else killed
# it. `died`: it ended by itself. `garbled`: what it sent is no answer.
Cause = Literal["cpu", "idle", "starved", "killed", "died", "garbled"]

# Everything the child's environment holds. The hash seed makes the order of
# sets, and with it the artifact, the same in every process.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "MALLOC_ARENA_MAX": "2",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]);"
    "from poise_jax.candidates import inmate; inmate.main()"
)
_GLANCE = 0.2
_LAST_BREATH = 5.0


class JailError(RuntimeError):
  """The jail itself does not work, whatever the source."""


class SilentError(Exception):
  """The child gave no answer, and why."""

  def __init__(self, cause: Cause) -> None:
    super().__init__(cause)
    self.cause: Cause = cause


class Child:
  """One process, from its start to its end.

  Starting one raises `OSError` where the machine has no room for it.

  Attributes:
    filtered: whether the system-call filter is active; known once warm.
    uses: requests that it answered.
  """

  def __init__(self, bounds: limits.Limits, role: Role) -> None:
    self.filtered = False
    self.uses = 0
    self._bounds = bounds
    self._warm = False
    self._deadline = 0.0
    self._allowed = float("inf")
    root = str(Path(__file__).resolve().parents[2])
    paths = [p for p in sys.path if os.path.isabs(p)]
    self._process = subprocess.Popen(
        [
            sys.executable,
            "-s",
            "-P",
            "-c",
            _BOOTSTRAP,
            str(os.getpid()),
            json.dumps(dataclasses.asdict(bounds)),
            json.dumps([*paths, root]),
            role,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        env=_ENVIRONMENT,
        start_new_session=True,
    )

  @property
  def pid(self) -> int:
    """Its process id, and that of its group and session."""
    return self._process.pid

  def wait_until_warm(self, deadline: float) -> None:
    """Waits for the child's word that it has locked itself down.

    Args:
      deadline: on the monotonic clock, in seconds.

    Raises:
      JailError: if it does not get that far.
    """
    if self._warm and _exit(self.pid) is None:
      return
    self._deadline = deadline
    try:
      header, _ = wire.decode(self._read, max_body=0)
    except (SilentError, wire.FrameError) as error:
      raise JailError(
          "the jail's child does not start; run `python -c 'import"
          " poise_jax.candidates.tracing'` to see why"
      ) from error
    if header.get("ready") is not True:
      raise JailError(f"the jail's child cannot warm up: {header}")
    self.filtered = header.get("filtered") is True
    self._warm = True

  def ask(
      self, header: Mapping[str, Any], body: bytes, *, deadline: float
  ) -> tuple[dict[str, Any], bytes]:
    """Sends a request and reads the answer.

    Args:
      header: becomes JSON.
      body: the source, or the artifact.
      deadline: on the monotonic clock, in seconds.

    Raises:
      SilentError: if no answer comes; the child is then of no use any more.
    """
    start, before = time.monotonic(), _processor(self.pid)
    waited = _waited(self.pid)
    self._deadline, self._allowed = deadline, before + self._bounds.cpu_seconds
    try:
      self._write(wire.encode(dict(header), body))
      answer = wire.decode(self._read, max_body=self._bounds.answer_bytes)
    except wire.FrameError as error:
      raise SilentError("garbled") from error
    except SilentError as error:
      if error.cause == "starved":
        wanted = _processor(self.pid) - before + _waited(self.pid) - waited
        if wanted < 0.5 * (time.monotonic() - start):
          error.cause = "idle"
      raise
    finally:
      self._allowed = float("inf")
    self.uses += 1
    return answer

  def kill(self) -> None:
    """Ends the child and everything in its session, and reaps it."""
    # Before it is reaped: until then the number is nobody else's.
    try:
      os.killpg(self.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
      self._process.kill()
    self._process.wait()
    for pipe in (self._process.stdin, self._process.stdout):
      pipe.close()

  def _read(self, count: int) -> bytes:
    """Reads exactly `count` bytes before the deadline."""
    pipe = self._process.stdout.fileno()
    data = bytearray()
    while len(data) < count:
      self._wait(pipe, select.POLLIN)
      part = os.read(pipe, min(count - len(data), 1 << 16))
      if not part:
        raise SilentError(self._end())
      data += part
    return bytes(data)

  def _write(self, data: bytes) -> None:
    """Writes all bytes before the deadline."""
    pipe = self._process.stdin.fileno()
    os.set_blocking(pipe, False)
    view = memoryview(data)
    while view:
      self._wait(pipe, select.POLLOUT)
      try:
        view = view[os.write(pipe, view) :]
      except BlockingIOError:
        continue
      except BrokenPipeError:
        raise SilentError(self._end()) from None

  def _wait(self, pipe: int, event: int) -> None:
    """Waits until a pipe can be used or is closed, or time is up."""
    ready = select.poll()
    ready.register(pipe, event)
    while True:
      left = self._deadline - time.monotonic()
      if ready.poll(1000.0 * min(max(left, 0.0), _GLANCE)):
        return
      # `RLIMIT_CPU` counts whole seconds and all that a child ever did.
      if _processor(self.pid) > self._allowed:
        raise SilentError("cpu")
      if left <= 0:
        raise SilentError("starved")

  def _end(self) -> Cause:
    """Tells how a child ended that has closed its pipe."""
    latest = time.monotonic() + _LAST_BREATH
    while (status := _exit(self.pid)) is None:
      if time.monotonic() > latest:
        return "died"
      time.sleep(0.01)
    spent = _processor(self.pid) > self._allowed - 0.25
    if status == signal.SIGXCPU or (status == signal.SIGKILL and spent):
      return "cpu"
    return "killed" if status == signal.SIGKILL else "died"


def _exit(pid: int) -> int | None:
  """The signal that ended a child, 0 if none did; None while it runs.

  Does not reap it, so that its number stays taken.
  """
  flags = os.WEXITED | os.WNOWAIT | os.WNOHANG
  try:
    end = os.waitid(os.P_PID, pid, flags)
  except ChildProcessError:
    return 0
  if end is None:
    return None
  return 0 if end.si_code == os.CLD_EXITED else end.si_status


def _processor(pid: int) -> float:
  """Processor time that a child has used, in seconds; 0 if unknown."""
  if sys.platform != "linux":
    return 0.0
  try:
    # The clock that `clock_getcpuclockid` names.
    return time.clock_gettime((~pid << 3) | 2)
  except OSError:
    return 0.0


def _waited(pid: int) -> float:
  """How long a child's threads were ready but not run, in seconds."""
  total = 0
  try:
    for thread in Path(f"/proc/{pid}/task").iterdir():
      total += int((thread / "schedstat").read_text("ascii").split()[1])
  except (OSError, ValueError, IndexError):
    pass
  return total * 1e-9
