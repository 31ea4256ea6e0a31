"""The parent's end of the jail: warm children, each used for one source.

A source is traced in a process that is killed afterwards; the next one warms up
while the caller does other work. What comes back is examined in another
process, as it has to be parsed, compiled and run. That one only ever sees
artifacts, never a source, and serves many of them.
"""

import collections
from collections.abc import Callable
import dataclasses
import itertools
import time
from typing import Any, TypeVar

from poise_jax.candidates import canonical as canonical_lib
from poise_jax.candidates import child as child_lib
from poise_jax.candidates import findings, fingerprint, intrinsic, limits

JailError = child_lib.JailError

_Answer = TypeVar("_Answer")

# An examiner is replaced before what the compiler keeps adds up.
MAX_USES = 40

_NO_FILTER = findings.Finding(
    "advisory",
    "jail",
    "the system-call filter is not available on this machine",
    "install libseccomp and pyseccomp (Linux) for the full jail",
)


@dataclasses.dataclass(frozen=True)
class Traced:
  """What came back for a source that could be traced; bytes not yet trusted.

  Attributes:
    data: the artifact.
    findings: about the jail.
    jaxpr: the traced loss as text, for people.
    canonical: the canonical form, by the word of the child; None if it gave
      none.
  """

  data: bytes
  findings: tuple[findings.Finding, ...]
  jaxpr: str = ""
  canonical: canonical_lib.Canonical | None = None


@dataclasses.dataclass(frozen=True)
class Refusal:
  """Why nothing usable came back.

  Attributes:
    findings: the reasons.
    conclusive: whether the source is to blame; if not, ask again later.
  """

  findings: tuple[findings.Finding, ...]
  conclusive: bool = True


@dataclasses.dataclass(frozen=True)
class Examined:
  """What the examiner has to say about an artifact; see `examination`."""

  findings: tuple[findings.Finding, ...]
  fingerprint: bytes | None = None
  metrics: intrinsic.Metrics | None = None


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
    self._spares = collections.deque(
        child_lib.Child(self.bounds, "trace") for _ in range(spares)
    )
    self._examiner = child_lib.Child(self.bounds, "examine")

  def __enter__(self) -> "Jail":
    return self

  def __exit__(self, *_: object) -> None:
    self.close()

  def close(self) -> None:
    """Kills every child."""
    if self._open:
      self._open = False
      for child in (*self._spares, self._examiner):
        child.kill()

  def wait_until_warm(self) -> None:
    """Blocks until the next requests will find warm children.

    Raises:
      JailError: if no child gets ready.
    """
    deadline = time.monotonic() + 2 * self.bounds.warm_seconds
    self._tracer(deadline)
    self._warm_examiner(deadline)

  def trace(
      self,
      source: bytes,
      *,
      group_size: int = 8,
      fallback_shape: tuple[int, int] | None = None,
      deadline: float = float("inf"),
  ) -> Traced | Refusal:
    """Has a child trace a source, kills it, and warms the next one.

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
      return _refuse(
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
        self._spares.popleft().kill()
        self._spares.append(child_lib.Child(self.bounds, "trace"))
      advisories = () if child.filtered else (_NO_FILTER,)
      return _read_trace(header, body, advisories)

    return self._insist(attempt, _TRACE_REFUSALS, deadline)

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
    request = {"artifact_bytes": len(artifact), "must_learn": must_learn}
    body = artifact + (parent or b"")

    def attempt() -> Examined | Refusal:
      examiner = self._warm_examiner(deadline)
      try:
        answer = examiner.ask(request, body, deadline=self._until(deadline))
      except child_lib.SilentError:
        self._replace_examiner()
        raise
      if examiner.uses >= MAX_USES:
        self._replace_examiner()
      return _read_examination(*answer)

    return self._insist(attempt, _EXAMINE_REFUSALS, deadline)

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
          return refusals["cpu"] if error.cause == "cpu" else _STARVED
        if last or not repeatable:
          return refusals.get(error.cause, _STARVED)
    raise AssertionError("unreachable")

  def _until(self, deadline: float) -> float:
    return min(deadline, time.monotonic() + self.bounds.wall_seconds)

  def _tracer(self, deadline: float) -> child_lib.Child:
    """Returns the first spare, after replacing it once if it died waiting."""

    def replace() -> None:
      self._spares.popleft().kill()
      self._spares.appendleft(child_lib.Child(self.bounds, "trace"))

    return self._warm(lambda: self._spares[0], replace, deadline)

  def _warm_examiner(self, deadline: float) -> child_lib.Child:
    return self._warm(lambda: self._examiner, self._replace_examiner, deadline)

  def _replace_examiner(self) -> None:
    self._examiner.kill()
    self._examiner = child_lib.Child(self.bounds, "examine")

  def _warm(
      self,
      current: Callable[[], child_lib.Child],
      replace: Callable[[], None],
      deadline: float,
  ) -> child_lib.Child:
    """Waits for a child, and for another one if the first fails."""
    if not self._open:
      raise ValueError("the jail is closed; make a new one")
    for last in (False, True):
      latest = time.monotonic() + self.bounds.warm_seconds
      try:
        current().wait_until_warm(min(deadline, latest))
      except JailError as error:
        replace()
        if time.monotonic() >= deadline:
          raise child_lib.SilentError("starved") from error
        if last:
          raise
      else:
        if self.require_jail and not current().filtered:
          raise JailError(f"{_NO_FILTER.message}: {_NO_FILTER.hint}")
        return current()
    raise AssertionError("unreachable")


def _read_trace(
    header: dict[str, Any],
    body: bytes,
    advisories: tuple[findings.Finding, ...],
) -> Traced | Refusal:
  """Makes sense of an answer, which may be forged."""
  if header.get("ok") is True:
    parts = _cut(body, header.get("sizes"))
    if not parts or not parts[0]:
      return _refuse_garbled()
    data, *texts = parts
    decode = lambda text: findings.storable(text.decode("utf-8", "replace"))
    texts = [decode(text) for text in texts[:2]]
    jaxpr, canonical = (*texts, "", "")[:2]
    described = canonical_lib.from_json(header.get("canonical"), canonical)
    return Traced(data, advisories, jaxpr, described)
  found = _read_findings([header.get("finding")])
  if found is None:
    return _refuse_garbled()
  # A source may be refused, it may not choose to be praised.
  first = dataclasses.replace(found[0], level="contract")
  return Refusal((first, *advisories))


def _read_examination(
    header: dict[str, Any], body: bytes
) -> Examined | Refusal:
  """Makes sense of the answer of an examiner."""
  found = _read_findings(header.get("findings"))
  if found is None:
    return _refuse_garbled()
  metrics = intrinsic.from_json(header.get("metrics"))
  try:
    fingerprint.from_bytes(body)
  except ValueError:
    return Examined(found, None, metrics)
  return Examined(found, body, metrics)


def _cut(body: bytes, sizes: Any) -> list[bytes]:
  """Takes a body apart; empty if the sizes are not its own."""
  if not isinstance(sizes, list) or not all(
      type(size) is int and size >= 0 for size in sizes
  ):
    return []
  if sum(sizes) != len(body):
    return []
  ends = itertools.accumulate(sizes)
  return [body[e - n : e] for e, n in zip(ends, sizes, strict=True)]


def _read_findings(values: Any) -> tuple[findings.Finding, ...] | None:
  """Rebuilds findings; None if they are none."""
  if not isinstance(values, list) or len(values) > 100:
    return None
  found = tuple(findings.from_json(value) for value in values)
  return None if None in found else found


def _refuse(rule: str, message: str, hint: str) -> Refusal:
  """Makes a refusal of one finding."""
  return Refusal((findings.contract(rule, message, hint),))


def _refuse_garbled() -> Refusal:
  return _refuse(
      "jail",
      "the process that traced the source gave an answer that is none",
      "do not write to standard output or tamper with the tracing process",
  )


_STARVED = Refusal(
    (
        findings.contract(
            "machine",
            "the machine did not give the check its time, twice; this says"
            " nothing about the source",
            "verify it again when the machine is less busy",
        ),
    ),
    conclusive=False,
)
_TIME_HINT = (
    "a loss of a few dozen array operations traces in a fraction of a second;"
    " avoid Python loops and huge constants"
)
_SLOW = _refuse("time", "tracing did not end within its time", _TIME_HINT)
_DIED = _refuse(
    "jail",
    "the process that traced the source died before it answered",
    "the source uses more memory than allowed, or does what a loss may not",
)
_SLOW_PROGRAM = _refuse(
    "time",
    "compiling the program and running it on small batches did not end within"
    " its time",
    "use fewer and smaller array operations; sorts and scans are slow",
)
_DEAD_PROGRAM = _refuse(
    "compile",
    "the compiler died on the exported program",
    "use fewer, simpler and smaller array operations",
)
_TRACE_REFUSALS: dict[child_lib.Cause, Refusal] = {
    "cpu": _SLOW,
    "idle": _SLOW,
    "killed": _DIED,
    "died": _DIED,
    "garbled": _refuse_garbled(),
}
_EXAMINE_REFUSALS: dict[child_lib.Cause, Refusal] = {
    "cpu": _SLOW_PROGRAM,
    "idle": _SLOW_PROGRAM,
    "killed": _DEAD_PROGRAM,
    "died": _DEAD_PROGRAM,
    "garbled": _DEAD_PROGRAM,
}
