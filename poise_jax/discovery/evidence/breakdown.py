"""Why a run is no use, as one of a few kinds.

Training itself stops where a number is no longer finite. Two more ends show in
the curves: the policy has left the base policy altogether (KL), or it has
become deterministic, so that groups no longer differ and nothing can be learned
(entropy). Both are judged by the median of the last quarter of a run, three
steps at least, for single steps spike in healthy ones: on the embedded task KL
went above 20 nats at one step and back to 0.1, and entropy ended at a third of
where it began. A shorter run is not judged.
"""

from collections.abc import Mapping, Sequence
import enum
from typing import NamedTuple

import numpy as np


class Kind(enum.StrEnum):
  """What broke down."""

  NOT_FINITE = "not finite"
  NOT_RUN = "cannot be run"
  KL = "KL collapse"
  ENTROPY = "entropy collapse"
  OTHER = "other"


class Limits(NamedTuple):
  """Where a healthy run does not go.

  Attributes:
    kl: nats per token from the base policy.
    entropy: share of the entropy at the first step.
  """

  kl: float = 3.0
  entropy: float = 0.02


LIMITS = Limits()


class Breakdown(NamedTuple):
  """A run that broke down.

  Attributes:
    kind: see `Kind`.
    detail: a sentence.
  """

  kind: Kind
  detail: str


_STARTS = {
    "non-finite": Kind.NOT_FINITE,
    "cannot be run": Kind.NOT_RUN,
    "KL collapse": Kind.KL,
    "entropy collapse": Kind.ENTROPY,
}


def find(
    diverged: str,
    curve: Mapping[str, Sequence[float]],
    limits: Limits = LIMITS,
) -> Breakdown | None:
  """Tells whether and how a run broke down.

  Args:
    diverged: why training stopped early; empty if it did not.
    curve: `kl` and `entropy` by step; what is missing is not judged.
    limits: see `Limits`.

  Returns:
    The break-down, None for a healthy run.
  """
  if diverged:
    kinds = [k for start, k in _STARTS.items() if diverged.startswith(start)]
    return Breakdown((kinds or [Kind.OTHER])[0], diverged)
  kl, entropy = _late(curve.get("kl", ())), _late(curve.get("entropy", ()))
  if kl is not None and kl > limits.kl:
    return Breakdown(
        Kind.KL, f"KL of {kl:.3g} nats a token, above {limits.kl:g}"
    )
  least = limits.entropy * curve["entropy"][0] if entropy is not None else 0.0
  if entropy is not None and entropy < least:
    return Breakdown(
        Kind.ENTROPY, f"entropy of {entropy:.3g} nats, below {least:.3g}"
    )
  return None


def _late(values: Sequence[float]) -> float | None:
  """Median of the last quarter, at least three values; None with fewer."""
  if len(values) < _LEAST:
    return None
  return float(np.median(values[-max(len(values) // 4, _LEAST) :]))


_LEAST = 3
