"""What failed, so that it is not tried again under another name.

A draft that is close to a failure is made with a smaller probability,

    accept = 1 - max_f w_f exp(-½ (d_f / r)²),

where d_f is how far apart their gradients are on the probes, if both are
known, else in how many slots they differ; r is the radius of the measure that
is used and w_f < 1 how much the failure is believed. What does exactly what
another candidate does is never made, if gradients can be looked at before.
"""

from collections.abc import Callable, Sequence
import math
from typing import NamedTuple

from poise_jax.candidates import fingerprint as fingerprints
from poise_jax.discovery.proposer import genome as genomes

# Distance of gradients at which a loss trains differently; that of `dapo` and
# `grpo`, which differ in one clip range, is about 0.01.
GRADIENT_RADIUS = 0.03
# In slots; one choice counts 1, a constant at most 1/2.
SLOT_RADIUS = 0.5
_BELIEF = 0.95


class Failure(NamedTuple):
  """A candidate that was refused, diverged or did clearly worse.

  Attributes:
    genome: its description.
    parent: what it was made from, None if not known.
    fingerprint: its gradients on the probes, None if there are none.
    belief: in [0, 1]; below 1, or nothing near it is ever tried again.
  """

  genome: genomes.Genome
  parent: genomes.Genome | None = None
  fingerprint: fingerprints.Fingerprint | None = None
  belief: float = _BELIEF


class Memory(NamedTuple):
  """What a proposer should keep away from.

  Attributes:
    failures: see `Failure`.
    known: gradients of all candidates so far, for twins not to be made.
    preview: gradients of a source before it is sent to the gate, such as
      `preview.fingerprint_of`; None looks at genomes alone.
  """

  failures: Sequence[Failure] = ()
  known: Sequence[fingerprints.Fingerprint] = ()
  preview: Callable[[str], fingerprints.Fingerprint | None] | None = None


def acceptance(
    genome: genomes.Genome,
    taken: fingerprints.Fingerprint | None,
    failures: Sequence[Failure],
) -> float:
  """The probability with which a draft is made.

  Args:
    genome: of the draft.
    taken: its gradients, None if they were not looked at.
    failures: what it is compared with.

  Returns:
    In [0, 1]; 1 if nothing near it failed.
  """
  close = [f.belief * closeness(genome, taken, f) for f in failures]
  return 1.0 - max(close, default=0.0)


def closeness(
    genome: genomes.Genome,
    taken: fingerprints.Fingerprint | None,
    failure: Failure,
) -> float:
  """How near a draft is to one failure: 1 for the same, towards 0 far away."""
  if genome == failure.genome:
    return 1.0
  other = failure.fingerprint
  if taken is not None and other is not None and taken.suite == other.suite:
    apart = fingerprints.distance(taken, other) / GRADIENT_RADIUS
  else:
    slots = len(genomes.SLOTS) * genomes.distance(genome, failure.genome)
    apart = slots / SLOT_RADIUS
  return math.exp(-0.5 * apart**2)


def is_twin(
    taken: fingerprints.Fingerprint | None,
    known: Sequence[fingerprints.Fingerprint],
) -> bool:
  """Whether some known loss has the same gradients on all probes."""
  return taken is not None and any(
      taken.suite == other.suite and fingerprints.twins(taken, other)
      for other in known
  )
