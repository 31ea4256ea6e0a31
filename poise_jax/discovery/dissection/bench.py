"""Programs examined for nothing and measured for a price, each only once.

Two sources that train alike are one program: what is measured of one counts
for the other. Nothing here trains; `examine` and `measure` are given.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import NamedTuple

from poise_jax.archive import records
from poise_jax.candidates import artifact
from poise_jax.candidates import fingerprint as fingerprints


@dataclasses.dataclass(frozen=True)
class Examined:
  """What can be told of a source without training.

  Attributes:
    refused: why it cannot be trained; empty if it can.
    digest: sources with the same one are the same program; asked where there
      are no fingerprints.
    fingerprint: gradients on the probes; None where they do not say how it
      trains: it has a state, or they were too many.
    operations: of its canonical form, None if unknown.
  """

  refused: str
  digest: str = ""
  fingerprint: fingerprints.Fingerprint | None = None
  operations: int | None = None


class Outcome(NamedTuple):
  """What came of training with one seed.

  Attributes:
    score: the higher the better; the least there is if it diverged.
    diverged: why training broke down; empty if it did not.
  """

  score: float
  diverged: str = ""


ExamineFn = Callable[[str], Examined]
# Source and seed to what comes of it; equal arguments, equal outcome.
MeasureFn = Callable[[str, int], Outcome]


class SpentError(RuntimeError):
  """No more trainings are allowed."""


def of_candidate(candidate: records.Candidate) -> Examined:
  """What the gate said of a candidate, for `ExamineFn`."""
  if not candidate.accepted:
    return Examined(candidate.findings[0]["message"])
  packed = candidate.fingerprint
  if artifact.header(candidate.artifact).state:
    packed = None  # A state may tell two apart that look alike.
  return Examined(
      refused="",
      digest=candidate.canonical_sha256 or candidate.artifact_sha256,
      fingerprint=packed and fingerprints.from_bytes(packed),
      operations=candidate.intrinsic.get("operations"),
  )


class Bench:
  """Remembers every program.

  Attributes:
    max_trainings: allowed in all.
    trainings: made so far.
    spent: whether one more was ever asked for than allowed.
  """

  def __init__(
      self,
      examine: ExamineFn,
      measure: MeasureFn,
      max_trainings: float = math.inf,
  ):
    self._examine = examine
    self._measure = measure
    self.max_trainings = max_trainings
    self._examined: dict[str, Examined] = {}
    self._twin: dict[str, str] = {}
    self._outcomes: dict[tuple[str, int], Outcome] = {}
    self.trainings = 0
    self.spent = False

  def examined(self, source: str) -> Examined:
    """Examines a source."""
    if source not in self._examined:
      found = self._examine(source)
      twins = (
          other
          for other, known in self._examined.items()
          if _alike(found, known)
      )
      first = next(twins, source)
      self._twin[source] = self._twin.get(first, first)
      self._examined[source] = found
    return self._examined[source]

  def same(self, a: str, b: str) -> bool:
    """Whether two sources are proven to train alike."""
    return a == b or _alike(self.examined(a), self.examined(b))

  def measured(self, source: str, seed: int) -> Outcome:
    """Trains with a source that was not refused, unless its like was.

    Raises:
      SpentError: if that would be one training too many.
      ValueError: if the source was refused.
    """
    if refused := self.examined(source).refused:
      raise ValueError(f"`source` must pass the gate, but {refused}")
    key = (self._twin[source], seed)
    if key not in self._outcomes:
      if self.trainings >= self.max_trainings:
        self.spent = True
        raise SpentError(f"all {self.max_trainings:g} trainings are spent")
      self.trainings += 1
      self._outcomes[key] = self._measure(key[0], seed)
    return self._outcomes[key]

  def difference(self, new: str, old: str, seed: int) -> float:
    """New minus old with one seed.

    Minus infinity where only the new one breaks down. The same program is
    trained once, or not at all: 0 whatever it would score.
    """
    if self.same(new, old):
      return 0.0
    reference, found = self.measured(old, seed), self.measured(new, seed)
    if found.diverged and not reference.diverged:
      return -math.inf
    return found.score - reference.score


def _alike(a: Examined, b: Examined) -> bool:
  """Whether two are proven to train alike."""
  if a.refused or b.refused:
    return False
  one, other = a.fingerprint, b.fingerprint
  if one is None or other is None:
    return a.digest == b.digest
  return one.suite == other.suite and fingerprints.twins(one, other)
