"""The parent's end of the jail: warm children, each used for one source.

A source is traced in a process that is killed afterwards; the next one warms up
while the caller does other work, see `Jail.refill`. What comes back is examined
in another process, as it has to be parsed, compiled and run. That one only ever
sees artifacts, never a source, and serves many of them.
"""

import collections
from collections.abc import Callable
import contextlib
import time
from typing import TypeVar

from poise_jax.candidates import answers, limits
from poise_jax.candidates import child as child_lib

JailError = child_lib.JailError
Traced, Examined = answers.Traced, answers.Examined
Refusal = answers.Refusal

_Answer = TypeVar("_Answer")

# An examiner is replaced before what the compiler keeps adds up.
MAX_USES = 40
# Before a process is started again that could not be, in seconds.
_PAUSE = 0.5
# Findings for which the memory of a used examiner may be to blame.
_OF_EXAMINER = frozenset({"compile"})


class Jail:
  """Keeps warm children ready and hands each one source.

  Use as a context manager. For one thread at a time: a child dies with the
  thread that started it, and is then replaced at the next use.

  Attributes:
    bounds: what a source may consume.
    require_jail: refuse every source where seccomp is missing.
  """

  def __init__(
      self,
      bounds: limits.Limits | None = None,
      *,
      require_jail: bool = False,
      spares: int = 1,
  ) -> None:
    """Starts the children.

    Args:
      bounds: what a source may consume.
      require_jail: refuse every source where seccomp is missing.
      spares: children that wait for a source, each some 300 MB.
    """
    if spares < 1:
      raise ValueError(f"`spares` must be at least 1, got {spares}")
    self.bounds = bounds or limits.Limits()
    self.require_jail = require_jail
    self._open = True
    self._count = spares
    self._spares: collections.deque[child_lib.Child] = collections.deque()
    self._examiner: child_lib.Child | None = None
    self.refill()

  def __enter__(self) -> "Jail":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def close(self) -> None:
    """Kills every child."""
    if self._open:
      self._open = False
      while self._spares:
        self._drop_tracer()
      self._drop_examiner()

  def wait_until_warm(self) -> None:
    """Blocks until the next requests will find warm children.

    Raises:
      JailError: if no child gets ready.
    """
    deadline = time.monotonic() + 2 * self.bounds.warm_seconds
    try:
      self._tracer(deadline)
      self._warm_examiner(deadline)
    except child_lib.SilentError as error:
      raise JailError(
          "the machine is too busy to start the jail's children, or has no"
          " memory or process left for them; end what it can do without"
      ) from error

  def refill(self) -> None:
    """Starts the children that are missing, and returns at once.

    They warm up for some seconds of processor time, which is best done while
    nothing waits for an answer. Without it, the next request starts its own.
    Where none can be started, the next request tries again.
    """
    with contextlib.suppress(OSError):
      while self._open and len(self._spares) < self._count:
        self._spares.append(child_lib.Child(self.bounds, "trace"))
      if self._open and self._examiner is None:
        self._examiner = child_lib.Child(self.bounds, "examine")

  def trace(
      self,
      source: bytes,
      *,
      group_size: int = 8,
      fallback_shape: tuple[int, int] | None = None,
      deadline: float = float("inf"),
  ) -> Traced | Refusal:
    """Has a child trace a source, and kills it.

    Args:
      source: UTF-8 text; need not have passed the syntax gate.
      group_size: completions of a prompt, if the size must be fixed.
      fallback_shape: (prompts, tokens) of the trainer, for a loss that cannot
        be traced with unknown sizes.
      deadline: on the monotonic clock, in seconds.

    Raises:
      JailError: if no child gets ready.
      ValueError: if the jail is closed.
    """
    if len(source) > limits.SOURCE_BYTES:
      return answers.refuse(
          "source-size",
          f"the source has {len(source)} bytes, the limit is"
          f" {limits.SOURCE_BYTES}",
          "keep the constants, init and loss; drop the rest",
      )
    request = {"group_size": group_size, "fallback_shape": fallback_shape}

    def attempt() -> Traced | Refusal:
      child = self._tracer(deadline)
      try:
        header, body = child.ask(
            request, source, deadline=self._until(deadline)
        )
      finally:
        self._drop_tracer()
      advisories = () if child.filtered else (answers.NO_FILTER,)
      return answers.read_trace(header, body, advisories, self.bounds)

    return self._insist(attempt, answers.TRACE_REFUSALS, deadline)

  def examine(
      self,
      artifact: bytes,
      *,
      parent: bytes | None = None,
      must_learn: bool = True,
      deadline: float = float("inf"),
  ) -> Examined | Refusal:
    """Has the examiner parse, compile and run an artifact.

    Args:
      artifact: bytes that nobody has looked at.
      parent: packed fingerprint of the loss that it says it grew out of.
      must_learn: refuse a loss that does not solve a bandit.
      deadline: on the monotonic clock, in seconds.

    Raises:
      JailError: if no child gets ready.
      ValueError: if the jail is closed.
    """
    if len(artifact) > self.bounds.artifact_bytes:
      return answers.too_large(self.bounds)
    if parent is None or len(parent) > limits.FINGERPRINT_BYTES:
      parent = b""  # Not compared, which the examiner says.
    request = {"artifact_bytes": len(artifact), "must_learn": must_learn}
    body = artifact + parent

    def attempt() -> Examined | Refusal:
      examiner = self._warm_examiner(deadline)
      # What earlier artifacts left in it is not the fault of this one.
      blameless = examiner.uses > 0
      try:
        answer = examiner.ask(request, body, deadline=self._until(deadline))
      except child_lib.SilentError as error:
        self._drop_examiner()
        if blameless and error.cause in ("died", "garbled"):
          return attempt()
        raise
      found = answers.read_examination(*answer)
      faulty = any(f.rule in _OF_EXAMINER for f in found.findings)
      if faulty or examiner.uses >= MAX_USES:
        self._drop_examiner()
      return attempt() if faulty and blameless else found

    return self._insist(attempt, answers.EXAMINE_REFUSALS, deadline)

  def _insist(
      self,
      attempt: Callable[[], _Answer],
      refusals: dict[child_lib.Cause, Refusal],
      deadline: float,
  ) -> _Answer | Refusal:
    """Tries once more where the machine may be to blame."""
    for last in (False, True):
      try:
        return attempt()
      except child_lib.SilentError as error:
        repeatable = error.cause in ("starved", "idle", "killed")
        if time.monotonic() >= deadline:
          return refusals["cpu"] if error.cause == "cpu" else answers.STARVED
        if last or not repeatable:
          return refusals.get(error.cause, answers.STARVED)
    raise AssertionError("unreachable")

  def _until(self, deadline: float) -> float:
    return min(deadline, time.monotonic() + self.bounds.wall_seconds)

  def _tracer(self, deadline: float) -> child_lib.Child:
    """Returns the first spare, or a new one if it died waiting."""

    def current() -> child_lib.Child:
      if not self._spares:
        self._spares.append(child_lib.Child(self.bounds, "trace"))
      return self._spares[0]

    return self._warm(current, self._drop_tracer, deadline)

  def _warm_examiner(self, deadline: float) -> child_lib.Child:
    def current() -> child_lib.Child:
      if self._examiner is None:
        self._examiner = child_lib.Child(self.bounds, "examine")
      return self._examiner

    return self._warm(current, self._drop_examiner, deadline)

  def _drop_tracer(self) -> None:
    if self._spares:
      self._spares.popleft().kill()

  def _drop_examiner(self) -> None:
    examiner, self._examiner = self._examiner, None
    if examiner is not None:
      examiner.kill()

  def _warm(
      self,
      current: Callable[[], child_lib.Child],
      drop: Callable[[], None],
      deadline: float,
  ) -> child_lib.Child:
    """Waits for a child, and for another one if the first fails."""
    if not self._open:
      raise ValueError("the jail is closed; make a new one")
    for last in (False, True):
      latest = time.monotonic() + self.bounds.warm_seconds
      try:
        child = current()
        child.wait_until_warm(min(deadline, latest))
      except OSError as error:
        # No room for a process: the machine is full, and may have some later.
        if last:
          raise child_lib.SilentError("starved") from error
        time.sleep(min(_PAUSE, max(deadline - time.monotonic(), 0.0)))
      except JailError as error:
        drop()
        if time.monotonic() >= deadline:
          raise child_lib.SilentError("starved") from error
        if last:
          raise
      else:
        if self.require_jail and not child.filtered:
          raise JailError(
              f"{answers.NO_FILTER.message}: {answers.NO_FILTER.hint}"
          )
        return child
    raise AssertionError("unreachable")
