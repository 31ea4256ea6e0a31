"""What a loss does: its gradients on the probes, and how far two are apart.

A trainer uses a loss through dL/dlogprobs and dL/dentropy alone. Recorded on
batches that reach every branch, with the state carried from one to the next,
they tell losses apart however they are written, and find those that are the
same. Adam hardly sees a common factor, so losses are also compared without.
"""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import json
from typing import Any
import zlib

import jax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from poise_jax import types
from poise_jax.candidates import contract, probes

# Largest difference on any probe, relative to the largest slope there, at
# which two losses train alike: as a change of the learning rate by 0.1 %.
# Rounding of the same loss written otherwise stays below 1e-4.
TOLERANCE = 1e-3
# Slopes below this part of the usual ones are no signal.
_FLOOR = 1e-3
# More than any suite that a loss may be fixed to.
_MAX_BYTES = 64 * 1024**2


@dataclasses.dataclass(frozen=True)
class Fingerprint:
  """Gradients on a suite of probes.

  Attributes:
    suite: hash of the probes; only fingerprints of one suite are comparable.
    names: of the probes.
    slopes: dL/dlogprobs and dL/dentropy on each.
  """

  suite: str
  names: tuple[str, ...]
  slopes: Float[np.ndarray, "N 2 P G T"]

  # What comparisons with many others need again and again.
  @functools.cached_property
  def _exact(self) -> Float[np.ndarray, "N 2 P G T"]:
    return self.slopes.astype(np.float64)

  @functools.cached_property
  def _largest(self) -> Float[np.ndarray, "N"]:
    """The largest slope on each probe."""
    return np.max(np.abs(self._exact), axis=(1, 2, 3, 4))

  @functools.cached_property
  def _lengths(self) -> Float[np.ndarray, "N"]:
    """Length of the gradient on each probe; 0 for what is rounding."""
    lengths = _norms(self._exact)
    positive = lengths[lengths > 0]
    usual = np.median(positive) if positive.size else 0.0
    return np.where(lengths > 1e-6 * usual, lengths, 0.0)


def take(
    step: contract.StepFn,
    hparams: types.HParams,
    state: types.State,
    batches: Mapping[str, types.RolloutBatch],
) -> Fingerprint:
  """Takes the fingerprint of a compiled loss.

  Args:
    step: from `contract.compile_step`.
    hparams: the constants to use.
    state: the first state; it is carried along.
    batches: of the shape that `step` is compiled for.

  Raises:
    ValueError: if a gradient is not finite.
  """
  hparams = {k: np.float32(v) for k, v in hparams.items()}
  slopes = []
  for name, batch in batches.items():
    result = step(hparams, state, batch)
    state = result.state
    slopes.append(np.stack(result.gradients))
    if not np.all(np.isfinite(slopes[-1])):
      raise ValueError(
          f"the gradient must be finite, it is not on the probe {name!r}; see"
          " contract.check"
      )
  return Fingerprint(suite_hash(batches), tuple(batches), np.stack(slopes))


def of(
    algorithm: types.Algorithm,
    batches: Mapping[str, types.RolloutBatch] | None = None,
) -> Fingerprint:
  """Compiles a loss and takes its fingerprint; some 0.2 s.

  Args:
    algorithm: any loss.
    batches: the probes; `probes.suite()` if left out.
  """
  batches = probes.suite() if batches is None else batches
  hparams = {k: jnp.float32(v) for k, v in algorithm.hparams.items()}
  state = contract.first_state(algorithm)
  step = contract.compile_step(algorithm, state, next(iter(batches.values())))
  return take(step, hparams, state, batches)


def suite_hash(batches: Mapping[str, types.RolloutBatch]) -> str:
  """Names the probes: their order, shapes and values."""
  digest = hashlib.sha256()
  for name, batch in batches.items():
    digest.update(name.encode("utf-8"))
    for leaf in jax.tree.leaves(batch):
      array = np.asarray(leaf)
      digest.update(str(array.shape).encode("utf-8") + array.tobytes())
  return digest.hexdigest()


def common_factor(a: Fingerprint, b: Fingerprint) -> float:
  """How many times longer the steps of `a` are than those of `b`.

  The median, over the probes on which both have a gradient, of the ratio of
  their lengths; 1 if there is none.
  """
  _check_comparable(a, b)
  one, other = a._lengths, b._lengths
  both = (one > 0) & (other > 0)
  if not np.any(both):
    return 1.0
  return float(np.exp(np.median(np.log(one[both]) - np.log(other[both]))))


def distance(a: Fingerprint, b: Fingerprint) -> float:
  """How differently two losses push, whatever the length of their steps.

    d = mean over probes of |a - s b| / (|a| + s |b|)

  s is their `common_factor`. 0 for the same loss times a number, at most 1: for
  opposite signs, or where one has a gradient and the other none. Probes on
  which neither has one are left out.
  """
  scale = common_factor(a, b)
  one, other = a._lengths, scale * b._lengths
  apart = _norms(a._exact - scale * b._exact)
  total = one + other
  seen = total > 0
  if not np.any(seen):
    return 0.0
  return float(np.mean(np.minimum(apart[seen] / total[seen], 1.0)))


def differences(
    a: Fingerprint, b: Fingerprint, factor: float = 1.0
) -> dict[str, float]:
  """Largest difference on each probe, relative to the largest slope there.

    d = max |a - factor b| / max(|a|, |factor b|)

  What is small against the usual slopes of both is no slope: the divisor is at
  least 1/1000 of their median over probes.
  """
  _check_comparable(a, b)
  sizes = np.maximum(a._largest, abs(factor) * b._largest)
  usual = np.median(sizes[sizes > 0]) if np.any(sizes > 0) else 1.0
  apart = np.max(np.abs(a._exact - factor * b._exact), axis=(1, 2, 3, 4))
  relative = apart / np.maximum(sizes, _FLOOR * usual)
  return dict(zip(a.names, relative.tolist(), strict=True))


def worst(
    a: Fingerprint, b: Fingerprint, factor: float = 1.0
) -> tuple[str, float]:
  """The probe on which two losses differ most, and by how much."""
  apart = differences(a, b, factor)
  return max(apart.items(), key=lambda item: item[1])


def twins(
    a: Fingerprint, b: Fingerprint, *, tolerance: float = TOLERANCE
) -> bool:
  """Whether two losses train alike: no probe tells them apart.

  With the same steps: a loss times 2 is no twin, but at distance 0.
  """
  return worst(a, b)[1] <= tolerance


def normalized(a: Fingerprint) -> Float[np.ndarray, "N 2 P G T"]:
  """The slopes divided by the median of their lengths over probes."""
  lengths = a._lengths
  usual = np.median(lengths[lengths > 0]) if np.any(lengths > 0) else 1.0
  return a.slopes / np.float32(usual)


def to_bytes(a: Fingerprint) -> bytes:
  """Packs a fingerprint to be stored: a header in JSON, then the slopes."""
  slopes = np.ascontiguousarray(a.slopes, "<f4")
  header = {"suite": a.suite, "names": a.names, "shape": slopes.shape}
  text = json.dumps(header, sort_keys=True).encode("utf-8")
  return zlib.compress(text + b"\n" + slopes.tobytes(), 9)


def from_bytes(data: bytes) -> Fingerprint:
  """Reads what `to_bytes` wrote; what is not trusted may be tried.

  Raises:
    ValueError: if it is something else, or would be very large.
  """
  try:
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(data, _MAX_BYTES)
    text, _, rest = content.partition(b"\n")
    header = json.loads(text)
    slopes = np.frombuffer(rest, "<f4").reshape(header["shape"])
    names = tuple(str(n) for n in header["names"])
    if not unpacker.eof or slopes.ndim != 5 or len(names) != len(slopes):
      raise ValueError("cut off")
    return Fingerprint(str(header["suite"]), names, slopes)
  except Exception as error:
    raise ValueError(
        "`data` must be a packed fingerprint, got something else"
        f" ({type(error).__name__}); take it again from the artifact"
    ) from error


def _norms(slopes: np.ndarray) -> np.ndarray:
  return np.sqrt(np.sum(slopes**2, axis=(1, 2, 3, 4)))


def _check_comparable(a: Any, b: Any) -> None:
  if a.suite != b.suite:
    raise ValueError(
        "`a` and `b` must be of one suite of probes, got different ones; take"
        " both again with the same sizes and the same version"
    )
