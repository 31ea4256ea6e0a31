"""The parent's end of the jail: one standby child, used once, then killed.

The child is a fresh Python process in a session of its own, with an empty
environment, no descriptors but two pipes, and `lockdown` applied before it
sees a source. It warms up while the caller does other work.
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
from typing import Any

from poise_jax.candidates import findings, limits, wire

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
_NO_FILTER = findings.Finding(
    "advisory",
    "jail",
    "the system-call filter is not available on this machine",
    "install libseccomp and pyseccomp (Linux) for the full jail",
)


class JailError(RuntimeError):
  """The jail itself does not work, whatever the source."""


@dataclasses.dataclass(frozen=True)
class Traced:
  """What came back for a source that could be traced; bytes not yet trusted."""

  data: bytes
  findings: tuple[findings.Finding, ...]


@dataclasses.dataclass(frozen=True)
class Refusal:
  """Why nothing usable came back."""

  findings: tuple[findings.Finding, ...]


class Jail:
  """Keeps one warm child ready and hands it one source.

  Use as a context manager. For one thread at a time: the child dies with the
  thread that started it, and is then replaced at the next use.

  Attributes:
    require_jail: refuse every source where seccomp is missing.
  """

  def __init__(
      self,
      bounds: limits.Limits | None = None,
      *,
      require_jail: bool = False,
  ) -> None:
    self.bounds = bounds or limits.Limits()
    self.require_jail = require_jail
    self._standby: _Child | None = _Child(self.bounds)

  def __enter__(self) -> "Jail":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def close(self) -> None:
    """Kills the standby child."""
    if self._standby is not None:
      self._standby.kill()
      self._standby = None

  def wait_until_warm(self) -> None:
    """Blocks until the next `trace` will find a warm child.

    Raises:
      JailError: if no child gets ready.
    """
    self._warm_child()

  def trace(
      self,
      source: bytes,
      *,
      group_size: int = 8,
      fallback_shape: tuple[int, int] | None = None,
  ) -> Traced | Refusal:
    """Has a child trace a source, kills it, and warms the next one.

    Args:
      source: UTF-8 text; need not have passed the syntax gate.
      group_size: completions of a prompt, if the size must be fixed.
      fallback_shape: (prompts, tokens) of the trainer, for a loss that cannot
        be traced with unknown sizes.

    Raises:
      JailError: if no child gets ready.
      ValueError: if the jail is closed.
    """
    if len(source) > limits.SOURCE_BYTES:
      return _refuse(
          "source-size",
          f"the source has {len(source)} bytes, the limit is"
          f" {limits.SOURCE_BYTES}",
          "keep the constants, init and loss; drop the rest",
      )
    child = self._warm_child()
    advisories = () if child.filtered else (_NO_FILTER,)
    if self.require_jail and not child.filtered:
      raise JailError(f"{_NO_FILTER.message}: {_NO_FILTER.hint}")
    request = {"group_size": group_size, "fallback_shape": fallback_shape}
    try:
      header, data = child.ask(request, source)
    except _NoAnswerError as error:
      return error.refusal
    finally:
      child.kill()
      self._standby = _Child(self.bounds)
    return _read_answer(header, data, advisories)

  def _warm_child(self) -> "_Child":
    """Returns the standby, after replacing it once if it died while waiting."""
    if self._standby is None:
      raise ValueError("the jail is closed; make a new one")
    for attempt in range(2):
      try:
        self._standby.wait_until_warm()
        return self._standby
      except JailError:
        self._standby.kill()
        if attempt:
          raise
        self._standby = _Child(self.bounds)
    raise AssertionError("unreachable")


class _NoAnswerError(Exception):
  """The child was stopped before it answered."""

  def __init__(self, refusal: Refusal) -> None:
    super().__init__(refusal)
    self.refusal = refusal


class _Child:
  """One process, from its start to its end."""

  def __init__(self, bounds: limits.Limits) -> None:
    self.filtered = False
    self._bounds = bounds
    self._warm = False
    self._deadline = 0.0
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
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        env=_ENVIRONMENT,
        start_new_session=True,
    )

  def wait_until_warm(self) -> None:
    """Waits for the child's word that it has locked itself down."""
    if self._warm and self._process.poll() is None:
      return
    self._deadline = time.monotonic() + self._bounds.warm_seconds
    try:
      header, _ = wire.decode(self._read, max_body=0)
    except (_SilenceError, wire.FrameError) as error:
      raise JailError(
          "the jail's child does not start; run `python -c 'import"
          " poise_jax.candidates.tracing'` to see why"
      ) from error
    if header.get("ready") is not True:
      raise JailError(f"the jail's child cannot warm up: {header}")
    self.filtered = header.get("filtered") is True
    self._warm = True

  def ask(
      self, header: Mapping[str, Any], body: bytes
  ) -> tuple[dict[str, Any], bytes]:
    """Sends the request and reads the answer.

    Raises:
      _NoAnswerError: with the refusal, if none comes.
    """
    self._deadline = time.monotonic() + self._bounds.wall_seconds
    try:
      self._write(wire.encode(dict(header), body))
      return wire.decode(self._read, max_body=self._bounds.artifact_bytes)
    except wire.FrameError as error:
      raise _NoAnswerError(_GARBLED) from error
    except _SilenceError as error:
      refusal = _TOO_SLOW if error.late or self._spent() else _DIED
      raise _NoAnswerError(refusal) from error

  def kill(self) -> None:
    """Ends the child and everything in its session, and reaps it."""
    try:
      os.killpg(self._process.pid, signal.SIGKILL)
    except ProcessLookupError:
      pass
    self._process.wait()
    for pipe in (self._process.stdin, self._process.stdout):
      pipe.close()

  def _spent(self) -> bool:
    """Tells whether the child ended for having used its processor time."""
    try:
      status = self._process.wait(timeout=5.0)
    except subprocess.TimeoutExpired:
      return False
    return status in (-signal.SIGXCPU, -signal.SIGKILL)

  def _read(self, count: int) -> bytes:
    """Reads exactly `count` bytes before the deadline."""
    pipe = self._process.stdout.fileno()
    data = bytearray()
    while len(data) < count:
      self._wait(pipe, select.POLLIN)
      part = os.read(pipe, min(count - len(data), 1 << 16))
      if not part:
        raise _SilenceError(late=False)
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
        raise _SilenceError(late=False) from None

  def _wait(self, pipe: int, event: int) -> None:
    """Waits until a pipe can be used, or is closed, or it is too late."""
    left = self._deadline - time.monotonic()
    ready = select.poll()
    ready.register(pipe, event)
    if left <= 0 or not ready.poll(left * 1000.0):
      raise _SilenceError(late=True)


class _SilenceError(Exception):
  """The other end of a pipe gave nothing: too late, or closed."""

  def __init__(self, *, late: bool) -> None:
    super().__init__()
    self.late = late


def _read_answer(
    header: dict[str, Any],
    data: bytes,
    advisories: tuple[findings.Finding, ...],
) -> Traced | Refusal:
  """Makes sense of an answer, which may be forged."""
  if header.get("ok") is True and data:
    return Traced(data, advisories)
  finding = header.get("finding")
  keys = ("rule", "message", "hint")
  if isinstance(finding, dict) and all(
      isinstance(finding.get(k), str) for k in keys
  ):
    text = {k: finding[k][:1000] for k in keys}
    return Refusal((findings.contract(**text), *advisories))
  return _GARBLED


def _refuse(rule: str, message: str, hint: str) -> Refusal:
  """Makes a refusal of one finding."""
  return Refusal((findings.contract(rule, message, hint),))


_TOO_SLOW = _refuse(
    "time",
    "tracing did not end within its time",
    "a loss of a few dozen array operations traces in a fraction of a second;"
    " avoid Python loops and huge constants",
)
_DIED = _refuse(
    "jail",
    "the process that traced the source died before it answered",
    "the source uses more memory than allowed, or does what a loss may not",
)
_GARBLED = _refuse(
    "jail",
    "the process that traced the source gave an answer that is none",
    "do not write to standard output or tamper with the tracing process",
)
