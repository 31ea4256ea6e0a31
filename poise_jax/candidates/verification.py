"""The gate between whoever writes losses and whoever trains with them."""

import dataclasses

from poise_jax import types
from poise_jax.candidates import artifact, contract, findings, probes, syntax
from poise_jax.candidates import jail as jail_lib


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What came of one source.

  Attributes:
    ok: whether it may be trained.
    findings: what was found; empty, or advisory, if `ok`.
    artifact: the exported program, None unless `ok`.
    artifact_sha256: its hash, None unless `ok`.
    hparams: the constants that the source declares, empty unless `ok`.
  """

  ok: bool
  findings: tuple[findings.Finding, ...]
  artifact: bytes | None = None
  artifact_sha256: str | None = None
  hparams: dict[str, float] = dataclasses.field(default_factory=dict)


def verify(
    source: str,
    jail: jail_lib.Jail,
    *,
    group_size: int = probes.GROUP_SIZE,
    fallback_shape: tuple[int, int] | None = None,
) -> Verdict:
  """Takes a source through syntax gate, jail, screen and contract.

  The verdict is a function of the source (and of the limits of the jail):
  neither its findings nor the artifact vary between runs.

  Args:
    source: any text.
    jail: with a warm child it takes about a second.
    group_size: completions of a prompt; matters only to a loss that cannot be
      traced with an unknown size.
    fallback_shape: (prompts, tokens) of the trainer. Without it, a loss that
      cannot be traced with unknown sizes is refused.

  Returns:
    The verdict. No source makes this raise.

  Raises:
    jail_lib.JailError: if the jail does not work at all.
  """
  faults = syntax.check(source)
  if faults:
    return Verdict(False, faults)
  outcome = jail.trace(
      source.encode("utf-8"),
      group_size=group_size,
      fallback_shape=fallback_shape,
  )
  if isinstance(outcome, jail_lib.Refusal):
    return Verdict(False, outcome.findings)
  try:
    parts = artifact.read(outcome.data)
    algorithm = artifact.algorithm(parts, "candidate")
    found = contract.check(algorithm, _probes(parts, group_size))
  except findings.RefusedError as error:
    found = (error.finding,)
  except Exception as error:  # XLA may refuse what nobody foresaw.
    found = (_not_runnable(error),)
  found += outcome.findings
  if any(f.level == "contract" for f in found):
    return Verdict(False, found)
  return Verdict(
      True,
      found,
      outcome.data,
      artifact.sha256(outcome.data),
      dict(parts.metadata.hparams),
  )


def _probes(
    parts: artifact.Artifact, group_size: int
) -> dict[str, types.RolloutBatch]:
  """Builds probes of a shape that the artifact accepts."""
  sizes = {
      "P": probes.PROMPTS,
      "G": group_size,
      "T": probes.TOKENS,
      "K": probes.COMPONENTS,
  }
  fixed = {k: v for k, v in parts.metadata.shapes.items() if isinstance(v, int)}
  sizes |= fixed
  return probes.suite(sizes["P"], sizes["G"], sizes["T"], sizes["K"])


def _not_runnable(error: Exception) -> findings.Finding:
  """Words an error of the compiler; its text may hold addresses."""
  return findings.contract(
      "compile",
      "the exported program does not compile or run:"
      f" {type(error).__name__}",
      "use simpler array operations",
  )
