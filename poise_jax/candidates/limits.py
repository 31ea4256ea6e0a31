"""What a candidate's source may consume."""

import dataclasses

SOURCE_BYTES = 64 * 1024


@dataclasses.dataclass(frozen=True)
class Limits:
  """Bounds on one trip through the jail.

  Attributes:
    wall_seconds: from handing over the source to the complete answer.
    cpu_seconds: processor time of the child beyond its warm-up.
    memory_bytes: address space of the child beyond its warm-up.
    artifact_bytes: size of the answer.
    operations: primitive operations in the traced loss.
    warm_seconds: how long a child may take to get ready.
  """

  wall_seconds: float = 60.0
  cpu_seconds: int = 10
  memory_bytes: int = 4 * 1024**3
  artifact_bytes: int = 1024**2
  operations: int = 2000
  warm_seconds: float = 180.0
