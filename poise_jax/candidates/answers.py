"""What comes back from the children of the jail, made sense of.

An answer of the child that executed a source may be forged; nothing in it is
more than bytes until it has been checked.
"""

import dataclasses
import itertools
from typing import Any

from poise_jax.candidates import canonical as canonical_lib
from poise_jax.candidates import child as child_lib
from poise_jax.candidates import findings, fingerprint, intrinsic, limits

NO_FILTER = findings.Finding(
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


def read_trace(
    header: dict[str, Any],
    body: bytes,
    advisories: tuple[findings.Finding, ...],
    bounds: limits.Limits,
) -> Traced | Refusal:
  """Makes sense of an answer, which may be forged."""
  if header.get("ok") is True:
    parts = _cut(body, header.get("sizes"))
    if not parts or not parts[0]:
      return _refuse_garbled()
    data, *texts = parts
    if len(data) > bounds.artifact_bytes:
      return too_large(bounds)
    if any(len(text) > limits.TEXT_BYTES for text in texts):
      return _refuse_garbled()
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


def read_examination(header: dict[str, Any], body: bytes) -> Examined | Refusal:
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


def refuse(rule: str, message: str, hint: str) -> Refusal:
  """Makes a refusal of one finding."""
  return Refusal((findings.contract(rule, message, hint),))


def too_large(bounds: limits.Limits) -> Refusal:
  """The refusal of an artifact beyond its size."""
  return refuse(
      "artifact-size",
      f"the exported program exceeds {bounds.artifact_bytes} bytes",
      "build large constants from jnp.arange and arithmetic; use jax.lax.scan"
      " instead of a loop that is written out",
  )


def _refuse_garbled() -> Refusal:
  return refuse(
      "jail",
      "the process that traced the source gave an answer that is none",
      "do not write to standard output or tamper with the tracing process",
  )


STARVED = Refusal(
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
_KILLED = Refusal(
    (
        findings.contract(
            "machine",
            "the machine killed the check, twice, as it does where memory runs"
            " out; this says nothing about the source",
            "verify it again when the machine has more memory to spare",
        ),
    ),
    conclusive=False,
)
_TIME_HINT = (
    "a loss of a few dozen array operations traces in a fraction of a second;"
    " avoid Python loops and huge constants"
)
_SLOW = refuse("time", "tracing did not end within its time", _TIME_HINT)
_DIED = refuse(
    "jail",
    "the process that traced the source died before it answered",
    "the source uses more memory than allowed, or does what a loss may not",
)
_SLOW_PROGRAM = refuse(
    "time",
    "compiling the program and running it on small batches did not end within"
    " its time",
    "use fewer and smaller array operations; sorts and scans are slow",
)
_DEAD_PROGRAM = refuse(
    "compile",
    "the compiler died on the exported program",
    "use fewer, simpler and smaller array operations",
)
TRACE_REFUSALS: dict[child_lib.Cause, Refusal] = {
    "cpu": _SLOW,
    "idle": _SLOW,
    "killed": _KILLED,
    "died": _DIED,
    "garbled": _refuse_garbled(),
}
EXAMINE_REFUSALS: dict[child_lib.Cause, Refusal] = {
    "cpu": _SLOW_PROGRAM,
    "idle": _SLOW_PROGRAM,
    "killed": _KILLED,
    "died": _DEAD_PROGRAM,
    "garbled": _DEAD_PROGRAM,
}
