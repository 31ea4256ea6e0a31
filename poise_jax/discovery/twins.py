"""Candidates that do what another one does: found, and not trained again.

What a twin would have shown is shown by its original, which is measured with
one more seed for each of them.
"""

from collections.abc import Iterator, Sequence

from poise_jax.archive import records
from poise_jax.candidates import artifact, fingerprint, verification


def find(
    verdict: verification.Verdict, candidates: Sequence[records.Candidate]
) -> tuple[records.Candidate, str] | None:
  """The first accepted candidate that trains alike, and how that is known.

  The same program, the same canonical form, or the same gradients on all
  probes. The last says little of a loss with a state, as a memory may tell two
  apart later than on the last probe; such are no twins by their gradients.

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
    if described and other.canonical_sha256 == described.digest:
      return other, "is the same loss, written otherwise, as"
    if not verdict.metadata.state and _alike(verdict.fingerprint, other):
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


def _alike(packed: bytes | None, other: records.Candidate) -> bool:
  """Whether fingerprints are of one suite, and those of twins."""
  if packed is None or other.fingerprint is None:
    return False
  one = fingerprint.from_bytes(packed)
  known = fingerprint.from_bytes(other.fingerprint)
  if one.suite != known.suite or not fingerprint.twins(one, known):
    return False
  return not artifact.header(other.artifact).state
