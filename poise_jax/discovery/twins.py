"""Candidates that do what another one does: found, and not trained again.

What a twin would have shown is shown by its original, which is measured with
one more seed for each of them.
"""

from collections.abc import Iterator, Sequence
import functools

import jax

from poise_jax.archive import records
from poise_jax.candidates import (
    artifact,
    fingerprint,
    probes,
    verification,
)


def find(
    verdict: verification.Verdict, candidates: Sequence[records.Candidate]
) -> tuple[records.Candidate, str] | None:
  """The first accepted candidate that trains alike, and how that is known.

  The same program, or the same gradients on all probes and on batches of other
  sizes. Gradients alone say little of a loss with a state, as a memory may tell
  two apart later than on the last probe; such are twins only if their canonical
  form is the same too. That form alone says nothing: it is the word of the
  child that read the source.

  Args:
    verdict: on the new one; it passed.
    candidates: those that it is compared with.
  """
  described = verdict.canonical
  for other in candidates:
    if not other.accepted:
      continue
    if other.artifact_sha256 == verdict.artifact_sha256:
      return other, "compiles to the same program as"
    written = bool(described) and other.canonical_sha256 == described.digest
    held = verdict.metadata.state or artifact.header(other.artifact).state
    if (written or not held) and _alike(verdict, other):
      if written:
        return other, "is the same loss, written otherwise, as"
      return other, "has the same gradients on all probes as"
  return None


def replicas(
    fresh: Sequence[records.Candidate],
    candidates: Sequence[records.Candidate],
) -> Iterator[tuple[records.Candidate, int]]:
  """For each twin its original, and the seed to measure that one with.

  A function of what is stored, so that a resumed search plans the same. The
  seeds are none that a race uses, and shared by all originals, so that the
  root's runs beside them are too.

  Args:
    fresh: candidates of a round, twins among them.
    candidates: all of the campaign.
  """
  by_id = {candidate.id: candidate for candidate in candidates}
  for twin in (c for c in fresh if c.twin_of is not None):
    siblings = [c for c in candidates if c.twin_of == twin.twin_of]
    earlier = sum(c.index < twin.index for c in siblings)
    yield by_id[twin.twin_of], FIRST_SEED + earlier


FIRST_SEED = 100


def _alike(verdict: verification.Verdict, other: records.Candidate) -> bool:
  """Whether fingerprints are those of twins, on batches of other sizes too."""
  if verdict.fingerprint is None or other.fingerprint is None:
    return False
  one = fingerprint.from_bytes(verdict.fingerprint)
  known = fingerprint.from_bytes(other.fingerprint)
  if one.suite != known.suite or not fingerprint.twins(one, known):
    return False
  programs = (verdict.artifact, other.artifact)
  fixed = {}
  for sizes in (artifact.header(program).shapes for program in programs):
    fixed |= {axis: n for axis, n in sizes.items() if isinstance(n, int)}
  try:
    one, known = (_elsewhere(p, tuple(fixed.items())) for p in programs)
  except (ValueError, jax.errors.JaxRuntimeError):
    return False  # Not proven, as one does not run on long completions.
  return fingerprint.twins(one, known)


# An original is compared with many.
@functools.lru_cache(maxsize=16)
def _elsewhere(
    program: bytes, fixed: tuple[tuple[str, int], ...]
) -> fingerprint.Fingerprint:
  """Gradients on batches of other sizes; some 0.5 s."""
  loss = artifact.load(program, "candidate")
  return fingerprint.of(loss, probes.other_suite(dict(fixed)))
