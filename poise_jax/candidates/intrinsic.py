"""What can be said of a loss without training: numbers for the record.

None of them is a score. They describe candidates to whoever compares them, and
tell a better direction from a longer step.
"""

from collections.abc import Mapping
import dataclasses
import math
from typing import Any

import jax
import numpy as np

from poise_jax import types
from poise_jax.candidates import bandit, canonical, contract, fingerprint

RESAMPLES = 24

# Ordinary training: probes on which most tokens should count.
_ORDINARY = ("mixed", "near_clip", "streams")


@dataclasses.dataclass(frozen=True)
class Metrics:
  """Numbers about one loss; None where it was not measured, or has no value.

  Attributes:
    operations: number of different operations, see `canonical`.
    constants: free constants, likewise.
    bits: length of the canonical text, compressed.
    flops: of loss and gradient on a probe, as XLA counts them.
    bytes_accessed: likewise.
    temporary_bytes: working memory on a probe.
    effective_tokens: (Σ|w|)² / (n Σ w²) of the n token weights
      w = dL/dlogprobs on ordinary probes: 1 if all weigh the same.
    zero_gradient_share: of the tokens of ordinary probes.
    gradient_variance: of the gradient of a bandit's table over batches,
      relative to the square of its mean: E|g - ḡ|² / |ḡ|².
    policy_gradient_cosine: between minus that mean and the exact gradient of
      the expected reward.
    gradient_scale: length of its steps relative to GRPO's, the median over
      probes.
  """

  operations: int | None = None
  constants: int | None = None
  bits: int | None = None
  flops: float | None = None
  bytes_accessed: float | None = None
  temporary_bytes: int | None = None
  effective_tokens: float | None = None
  zero_gradient_share: float | None = None
  gradient_variance: float | None = None
  policy_gradient_cosine: float | None = None
  gradient_scale: float | None = None


def from_json(value: Any) -> Metrics | None:
  """Rebuilds metrics from what may be anything; None if it is none."""
  names = {field.name for field in dataclasses.fields(Metrics)}
  if not isinstance(value, dict) or not set(value) <= names:
    return None
  for number in value.values():
    real = type(number) in (int, float) and math.isfinite(number)
    if number is not None and not real:
      return None
  return Metrics(**value)


def measure(
    step: contract.StepFn,
    hparams: types.HParams,
    state: types.State,
    batches: Mapping[str, types.RolloutBatch],
    taken: fingerprint.Fingerprint,
    *,
    grpo: fingerprint.Fingerprint | None = None,
    described: canonical.Canonical | None = None,
    compiled: jax.stages.Compiled | None = None,
) -> Metrics:
  """Measures a compiled loss; some 20 ms.

  Args:
    step: from `contract.compile_step`.
    hparams: its constants.
    state: its first state.
    batches: the probes.
    taken: its fingerprint on them.
    grpo: that of GRPO.
    described: its canonical form.
    compiled: what `step` runs.
  """
  numbers: dict[str, Any] = {}
  if described is not None:
    names = ("operations", "constants", "bits")
    numbers |= {name: getattr(described, name) for name in names}
  if compiled is not None:
    numbers |= costs(compiled)
  if grpo is not None:
    numbers["gradient_scale"] = gradient_scale(taken, grpo)
  sizes = bandit.sizes_of(next(iter(batches.values())))
  cosine, variance = bandit_gradient(step, hparams, state, sizes)
  return Metrics(
      effective_tokens=effective_tokens(taken, batches),
      zero_gradient_share=zero_gradient_share(taken, batches),
      policy_gradient_cosine=cosine,
      gradient_variance=variance,
      **numbers,
  )


def costs(compiled: jax.stages.Compiled) -> dict[str, Any]:
  """XLA's own count of what one call of a compiled program costs."""
  analysis = compiled.cost_analysis() or {}
  memory = compiled.memory_analysis()
  return {
      "flops": _finite(analysis.get("flops")),
      "bytes_accessed": _finite(analysis.get("bytes accessed")),
      "temporary_bytes": (
          None if memory is None else int(memory.temp_size_in_bytes)
      ),
  }


def effective_tokens(
    taken: fingerprint.Fingerprint, batches: Mapping[str, types.RolloutBatch]
) -> float | None:
  """How evenly the tokens weigh, the mean over ordinary probes; see `Metrics`."""
  shares = []
  for weights in _live_weights(taken, batches):
    squares = np.sum(weights**2)
    if squares > 0:
      shares.append(np.sum(np.abs(weights)) ** 2 / (weights.size * squares))
  return float(np.mean(shares)) if shares else None


def zero_gradient_share(
    taken: fingerprint.Fingerprint, batches: Mapping[str, types.RolloutBatch]
) -> float:
  """Share of the tokens that a loss leaves alone, on ordinary probes."""
  silent = [np.mean(w == 0) for w in _live_weights(taken, batches)]
  return float(np.mean(silent))


def gradient_scale(
    taken: fingerprint.Fingerprint, grpo: fingerprint.Fingerprint
) -> float | None:
  """Length of the steps relative to GRPO's; None if there are none."""
  if not np.any(taken.slopes):
    return None
  return fingerprint.common_factor(taken, grpo)


def bandit_gradient(
    step: contract.StepFn,
    hparams: types.HParams,
    state: types.State,
    sizes: bandit.Sizes,
    *,
    resamples: int = RESAMPLES,
    seed: int = 1,
) -> tuple[float | None, float | None]:
  """Compares with the exact policy gradient where that is known.

  A table for two arms, see `bandit`, with the better arm at probabilities
  from 1/5 to 4/5.

  Returns:
    Cosine and relative variance; see `Metrics`. None without a gradient.
  """
  rng = np.random.default_rng(seed)
  hparams = {k: np.float32(v) for k, v in hparams.items()}
  logits = np.linspace(-math.log(4.0), math.log(4.0), sizes.prompts)
  gradients = []
  for _ in range(resamples):
    batch, arms = bandit.sample(logits, rng, sizes)
    result = step(hparams, state, batch)
    gradients.append(bandit.pulled_back(result.gradients, logits, arms))
  gradients = np.stack(gradients)
  mean = gradients.mean(axis=0)
  length = np.linalg.norm(mean)
  if not np.isfinite(length) or length == 0:
    return None, None
  exact = bandit.exact_gradient(logits)
  cosine = -mean @ exact / (length * np.linalg.norm(exact))
  spread = np.sum(np.var(gradients, axis=0, ddof=1))
  return float(cosine), float(spread / length**2)


def _live_weights(
    taken: fingerprint.Fingerprint, batches: Mapping[str, types.RolloutBatch]
) -> list[np.ndarray]:
  """dL/dlogprobs of the tokens that count, for each ordinary probe."""
  found = []
  for name in _ORDINARY:
    live = np.asarray(batches[name].completion_mask) > 0
    weights = taken.slopes[taken.names.index(name), 0].astype(np.float64)
    found.append(weights[live])
  return found


def _finite(value: Any) -> float | None:
  """A number that means something; XLA answers -1 where it does not know."""
  known = value is not None and math.isfinite(value) and value >= 0
  return float(value) if known else None
