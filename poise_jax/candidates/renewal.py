"""Old artifacts on a new jax: read them, or make them again from the source.

Exported modules expire: jax reads those of the last months only. What is kept
for ever is the source, which is archived beside the artifact.
"""

from typing import NamedTuple

from poise_jax.candidates import (
    artifact,
    findings,
    fingerprint,
    verification,
)
from poise_jax.candidates import jail as jail_lib


class Renewed(NamedTuple):
  """An artifact that this jax can read.

  Attributes:
    data: the artifact.
    exported_again: whether it had expired. Its hash is then another one; what
      is archived under the old hash stays there.
  """

  data: bytes
  exported_again: bool


# The parts of the header that say what the program is, not who wrote it.
_SAME = ("hparams", "neutral", "declares", "shapes", "state", "metrics")


def renew(
    data: bytes,
    source: str,
    jail: jail_lib.Jail,
    *,
    taken: bytes | None = None,
) -> Renewed:
  """Returns an artifact as it is if it can be read, else makes it again.

  Args:
    data: the artifact, as it was archived.
    source: the text that it was made from.
    jail: where the source is executed, if it must be.
    taken: its packed fingerprint, as it was archived; without it, or where the
      probes have changed since, headers alone are compared.

  Raises:
    findings.RefusedError: if the source does not pass any more, or gives
      another program than the archived one, by its header or its fingerprint.
    jail_lib.JailError: if the machine cannot tell.
  """
  try:
    artifact.read(data)
    return Renewed(data, False)
  except findings.RefusedError:
    old = _header(data)
  sizes = {} if old is None else old.shapes
  arguments = {}
  if isinstance(sizes.get("G"), int):
    arguments["group_size"] = sizes["G"]
  if isinstance(sizes.get("P"), int) and isinstance(sizes.get("T"), int):
    arguments["fallback_shape"] = (sizes["P"], sizes["T"])
  # Whether it learns was a question when it was admitted.
  verdict = verification.verify(source, jail, must_learn=False, **arguments)
  if not verdict.conclusive:
    raise jail_lib.JailError(verdict.findings[0].message)
  if not verdict.ok:
    raise findings.RefusedError(
        "artifact",
        "the archived program has expired, and its source does not pass any"
        f" more: {verdict.findings[0].message}",
        "load it with the version of jax that exported it",
    )
  for name in _SAME if old is not None else ():
    before, after = getattr(old, name), getattr(verdict.metadata, name)
    if before != after:
      raise findings.RefusedError(
          "artifact",
          f"the source gives another program than the archived one: `{name}`"
          f" was {before} and is {after}",
          "check that source and artifact belong together",
      )
  if difference := _apart(taken, verdict.fingerprint):
    raise findings.RefusedError(
        "artifact",
        "the source gives another program than the archived one: its gradient"
        f" differs {difference}",
        "check that source and artifact belong together",
    )
  return Renewed(verdict.artifact, True)


def _apart(taken: bytes | None, now: bytes | None) -> str:
  """Says by how much two programs differ; empty if that cannot be seen."""
  if taken is None or now is None:
    return ""
  try:
    before, after = map(fingerprint.from_bytes, (taken, now))
  except ValueError:  # Of another version: nothing to compare with.
    return ""
  if before.suite != after.suite:
    return ""
  name, difference = fingerprint.worst(before, after)
  if difference <= fingerprint.TOLERANCE:
    return ""
  return f"on the probe {name} by {difference:.1g} of its largest value"


def _header(data: bytes) -> artifact.Metadata | None:
  """Reads the old header; None if even that is damaged."""
  try:
    return artifact.header(data)
  except findings.RefusedError:
    return None
