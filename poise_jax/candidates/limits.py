"""What a candidate's source may consume."""

import dataclasses

SOURCE_BYTES = 64 * 1024
# The traced program as text, and the canonical one, which come along.
TEXT_BYTES = 1024**2
# Packed gradients on the probes: of the usual sizes some 20 kB.
FINGERPRINT_BYTES = 256 * 1024


@dataclasses.dataclass(frozen=True)
class Limits:
  """Bounds on one trip through the jail.

  Attributes:
    wall_seconds: from handing over a request to the complete answer.
    cpu_seconds: processor time of the child beyond its warm-up.
    memory_bytes: address space of the child beyond its warm-up.
    artifact_bytes: size of the artifact.
    operations: primitive operations in the traced loss.
    warm_seconds: how long a child may take to get ready.
    verify_seconds: the whole of a verification, waiting included.
  """

  wall_seconds: float = 60.0
  cpu_seconds: int = 10
  memory_bytes: int = 4 * 1024**3
  artifact_bytes: int = 1024**2
  operations: int = 2000
  warm_seconds: float = 180.0
  verify_seconds: float = 240.0

  @property
  def answer_bytes(self) -> int:
    """The longest answer that is read."""
    return self.artifact_bytes + 2 * TEXT_BYTES

  @property
  def request_bytes(self) -> int:
    """The longest request that an examiner reads."""
    return self.artifact_bytes + FINGERPRINT_BYTES
