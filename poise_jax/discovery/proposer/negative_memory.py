"""What failed, so that it is not tried again under another name.

A draft that is close to a failure is made with a smaller probability,

    accept = 1 - max_f w_f exp(-½ (d_f / r)²),

where d_f is in how many slots they differ, r the radius and w_f < 1 how much
the failure is believed.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

from poise_jax.discovery.proposer import genome as genomes

# In slots; one choice counts 1, a constant at most 1/2.
RADIUS = 0.5
_BELIEF = 0.95


class Failure(NamedTuple):
  """A candidate that was refused, diverged or did clearly worse.

  Attributes:
    genome: its description.
    parent: what it was made from, None if not known.
    belief: in [0, 1]; below 1, or nothing near it is ever tried again.
  """

  genome: genomes.Genome
  parent: genomes.Genome | None = None
  belief: float = _BELIEF


def acceptance(genome: genomes.Genome, failures: Sequence[Failure]) -> float:
  """The probability with which a draft is made.

  Args:
    genome: of the draft.
    failures: what it is compared with.

  Returns:
    In [0, 1]; 1 if nothing near it failed.
  """
  close = [f.belief * closeness(genome, f.genome) for f in failures]
  return 1.0 - max(close, default=0.0)


def closeness(genome: genomes.Genome, failed: genomes.Genome) -> float:
  """How near a draft is to a failure: 1 for the same, towards 0 far away."""
  slots = len(genomes.SLOTS) * genomes.distance(genome, failed)
  return math.exp(-0.5 * (slots / RADIUS) ** 2)
