"""What the examiner does with an artifact: parse it, compile it, run it.

Runs in a child of its own, as the parser and the compiler are large programs
that were not written for hostile input, and as either may take for ever.
"""

from collections.abc import Mapping
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from poise_jax import types
from poise_jax.candidates import (
    artifact,
    bandit,
    contract,
    declared,
    findings,
    fingerprint,
    intrinsic,
    invariance,
    limits,
    probes,
    scale,
    screen,
)

# Operations of the compiled step, with its gradient, for each that was traced.
EXPANSION = 10

_NOT_COMPARED = findings.Finding(
    "advisory",
    "neutral",
    "NEUTRAL was not checked, as the loss or its parent accepts batches of one"
    " size only",
    "let jnp infer sizes: reduce over axes, and use *_like functions",
)
_NO_PARENT = findings.Finding(
    "advisory",
    "neutral",
    "NEUTRAL was not checked, as no fingerprint of a parent was given to"
    " compare with",
    "verify it again with its parent, or take NEUTRAL out",
)
_EMPTY = findings.Finding(
    "advisory",
    "neutral",
    "NEUTRAL is empty, which says nothing: at its own constants the loss is"
    " what it is",
    "name the constants at which the new mechanism vanishes, or take it out",
)


@dataclasses.dataclass(frozen=True)
class Examination:
  """What came of one artifact.

  Attributes:
    findings: one of level contract refuses the artifact.
    fingerprint: its gradients on the probes, packed; None if it was refused,
      or if they are too many to be stored.
    metrics: its numbers; those of the canonical form are missing. None if it
      was refused.
  """

  findings: tuple[findings.Finding, ...]
  fingerprint: bytes | None = None
  metrics: intrinsic.Metrics | None = None


def examine(
    data: bytes,
    *,
    parent: bytes | None = None,
    must_learn: bool = True,
    grpo: fingerprint.Fingerprint | None = None,
    bounds: limits.Limits | None = None,
) -> Examination:
  """Checks everything in an artifact, and what its loss does.

  In this order: what it would take in a training run; the contract on the
  probes; what must change nothing; whether it learns; what its source declares
  of it; what it grew out of.

  Args:
    data: what came out of the jail; may be anything.
    parent: packed fingerprint of the loss that NEUTRAL leads back to.
    must_learn: refuse a loss that does not solve a bandit.
    grpo: its fingerprint, to measure the length of steps by.
    bounds: of the artifact; the usual ones if left out.

  Returns:
    Findings and, if none of them refuses it, numbers. Never raises.
  """
  try:
    parts = artifact.read(data)
    algorithm = artifact.algorithm(parts, "candidate")
    _check_run(algorithm, parts.metadata, bounds or limits.Limits())
    batches = probe_batches(parts.metadata)
    state = contract.first_state(algorithm)
    step = contract.compile_step(algorithm, state, next(iter(batches.values())))
    found = contract.check(algorithm, batches, step)
    if any(f.level == "contract" for f in found):
      return Examination(found)
    hparams = {k: jnp.float32(v) for k, v in algorithm.hparams.items()}
    ragged = isinstance(parts.metadata.shapes["T"], str)
    found += _unaltered(algorithm, step, state, batches, ragged)
    if any(f.level == "contract" for f in found):
      return Examination(found)
    taken = fingerprint.take(step, hparams, state, batches)
    if must_learn:
      sizes = bandit.sizes_of(next(iter(batches.values())))
      found += bandit.check(step, hparams, state, sizes)
      if any(f.level == "contract" for f in found):
        return Examination(found)
    subject = declared.Subject(step, algorithm.hparams, state, batches)
    found += declared.check(subject, parts.metadata.declares)
    if parts.metadata.neutral is not None:
      found += _reduction(subject, parts.metadata.neutral, algorithm, parent)
    comparable = grpo is not None and grpo.suite == taken.suite
    metrics = intrinsic.measure(
        step,
        hparams,
        state,
        batches,
        taken,
        grpo=grpo if comparable else None,
        compiled=step.program,
    )
    packed = fingerprint.to_bytes(taken)
    kept = packed if len(packed) <= limits.FINGERPRINT_BYTES else None
    return Examination(found, kept, metrics)
  except findings.RefusedError as error:
    return Examination((error.finding,))
  except Exception as error:  # XLA may refuse what nobody foresaw.
    return Examination((_not_runnable(error),))


def forget() -> None:
  """Frees what was compiled, for a process that examines many artifacts."""
  artifact.read.cache_clear()
  jax.clear_caches()


def probe_batches(
    metadata: artifact.Metadata,
) -> Mapping[str, types.RolloutBatch]:
  """The usual probes, or where an artifact fixes sizes, probes of those."""
  sizes = {
      "P": probes.PROMPTS,
      "G": probes.GROUP_SIZE,
      "T": probes.TOKENS,
      "K": probes.COMPONENTS,
  }
  sizes |= {k: v for k, v in metadata.shapes.items() if isinstance(v, int)}
  return _suite(sizes["P"], sizes["G"], sizes["T"], sizes["K"])


# The usual one, and one for a series of losses of another size.
@functools.lru_cache(maxsize=2)
def _suite(
    prompts: int, group_size: int, tokens: int, components: int
) -> Mapping[str, types.RolloutBatch]:
  return probes.suite(prompts, group_size, tokens, components)


def _check_run(
    algorithm: types.Algorithm,
    metadata: artifact.Metadata,
    bounds: limits.Limits,
) -> None:
  """Screens the program for the sizes of training."""
  for sizes in (scale.LARGE, scale.SHORT):
    sizes = scale.fixed(sizes, metadata.shapes)
    program = scale.program(algorithm, metadata, sizes)
    slots = sizes["P"] * sizes["G"] * sizes["T"]
    screen.check_run(program, slots, EXPANSION * bounds.operations)


def _unaltered(
    algorithm: types.Algorithm,
    step: contract.StepFn,
    state: types.State,
    batches: Mapping[str, types.RolloutBatch],
    ragged: bool,
) -> tuple[findings.Finding, ...]:
  """Checks what must change nothing; compiles again for more padding.

  Whether padding tells cannot be seen in the program: a softmax over tokens
  has the same operations for any number of them.
  """
  hparams = {k: np.float32(v) for k, v in algorithm.hparams.items()}
  seen = step(hparams, state, batches["mixed"]).state
  subject = invariance.Subject(step, hparams, seen, batches)
  found = invariance.check(subject)
  if ragged:
    batch = invariance.widened(batches["mixed"])
    wider = contract.compile_step(algorithm, state, batch)
    found += invariance.check_padding(subject, wider)
  return found


def _reduction(
    subject: declared.Subject,
    neutral: Mapping[str, float],
    algorithm: types.Algorithm,
    parent: bytes | None,
) -> tuple[findings.Finding, ...]:
  """Compares with the parent, if they were seen on the same probes."""
  if not neutral:
    return (_EMPTY,)
  if parent is None:
    return (_NO_PARENT,)
  try:
    other = fingerprint.from_bytes(parent)
  except ValueError:  # Of another version, or damaged: no fault of the loss.
    return (_NO_PARENT,)
  if other.suite != fingerprint.suite_hash(subject.batches):
    return (_NOT_COMPARED,)
  return declared.check_reduction(subject, neutral, algorithm.init, other)


def _not_runnable(error: Exception) -> findings.Finding:
  """Words an error of the compiler; its text may hold addresses."""
  return findings.contract(
      "compile",
      "the exported program does not compile or run:"
      f" {type(error).__name__}",
      "use simpler array operations",
  )
