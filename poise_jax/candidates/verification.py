"""The gate between whoever writes losses and whoever trains with them."""

from collections.abc import Callable
import dataclasses
import time
from typing import Any

from poise_jax.candidates import artifact as artifact_lib
from poise_jax.candidates import canonical as canonical_lib
from poise_jax.candidates import (
    findings,
    fingerprint,
    intrinsic,
    limits,
    probes,
    rediscovery,
    syntax,
)
from poise_jax.candidates import jail as jail_lib
from poise_jax.candidates import known as known_lib

Gate = Callable[[str], tuple[findings.Finding, ...]]

_SIMPLER = "write plain functions of arrays, with numbers of ordinary size"


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What came of one source.

  Attributes:
    ok: whether it may be trained.
    findings: what was found; none of level contract if `ok`, else those first.
    artifact: the exported program, None unless `ok`.
    artifact_sha256: its hash, None unless `ok`.
    hparams: the constants that the source declares, empty unless `ok`.
    metadata: the header of the artifact, None unless `ok`.
    jaxpr: the traced loss as text, None unless `ok`.
    canonical: the loss however it was written, with its hashes; None unless
      `ok`, or where it has no canonical form.
    fingerprint: its gradients on the probes, packed; None unless `ok`, or if
      they are too many.
    metrics: what can be told of it without training; None unless `ok`.
    nearest: known algorithms beside it, the nearest first; empty unless `ok`
      and compared.
    conclusive: whether it says something about the source. If not, the machine
      was too busy to tell; store nothing, verify again later.
  """

  ok: bool
  findings: tuple[findings.Finding, ...]
  artifact: bytes | None = None
  artifact_sha256: str | None = None
  hparams: dict[str, float] = dataclasses.field(default_factory=dict)
  metadata: artifact_lib.Metadata | None = None
  jaxpr: str | None = None
  canonical: canonical_lib.Canonical | None = None
  fingerprint: bytes | None = None
  metrics: intrinsic.Metrics | None = None
  nearest: tuple[rediscovery.Match, ...] = ()
  conclusive: bool = True

  @property
  def rediscovery(self) -> str:
    """What it is in words, such as "equals bn_grpo"; empty if not compared."""
    return rediscovery.verdict(self.nearest) if self.nearest else ""

  def explain(self, known: known_lib.Library) -> str:
    """What it is, constants fitted, such as "grpo with clip_eps_high 0.28".

    Takes some seconds, as members are compiled with other constants; empty
    without a fingerprint.

    Args:
      known: `known.catalogue()`.
    """
    if self.fingerprint is None:
      return ""
    hints = tuple(self.hparams.values())
    return rediscovery.in_words(self.fingerprint, known, hints=hints)


def verify(
    source: Any,
    jail: jail_lib.Jail,
    *,
    parent: bytes | None = None,
    known: known_lib.Library | None = None,
    must_learn: bool = True,
    group_size: int = probes.GROUP_SIZE,
    fallback_shape: tuple[int, int] | None = None,
    gate: Gate = syntax.check,
) -> Verdict:
  """Takes a source through syntax gate, jail, screen and contract.

  A conclusive verdict is a function of the arguments (and of the limits of the
  jail): neither its findings nor the artifact vary between runs. It takes at
  most `jail.bounds.verify_seconds`, and the moment that killing takes.

  Args:
    source: any text; bytes are taken for UTF-8, anything else is refused.
    jail: with warm children it takes one to two seconds.
    parent: packed fingerprint of the loss that its NEUTRAL leads back to; not
      checked without.
    known: algorithms to compare it with.
    must_learn: refuse a loss that does not solve a bandit; False is for those
      that are measured because they cannot work.
    group_size: completions of a prompt; matters only to a loss that cannot be
      traced with an unknown size.
    fallback_shape: (prompts, tokens) of the trainer. Without it, a loss that
      cannot be traced with unknown sizes is refused.
    gate: what looks at the text; another one only to test the jail.

  Returns:
    The verdict. No source makes this raise.

  Raises:
    jail_lib.JailError: if the jail does not work at all, or is not complete
      although it must be.
  """
  deadline = time.monotonic() + jail.bounds.verify_seconds
  admitted = _admit(source, gate)
  if not isinstance(admitted, bytes):
    return Verdict(False, admitted)
  try:
    traced = jail.trace(
        admitted,
        group_size=group_size,
        fallback_shape=fallback_shape,
        deadline=deadline,
    )
    if isinstance(traced, jail_lib.Refusal):
      return _refusal(traced)
    try:
      metadata = artifact_lib.header(traced.data)
    except findings.RefusedError as error:
      return Verdict(False, (error.finding, *traced.findings))
    examined = jail.examine(
        traced.data, parent=parent, must_learn=must_learn, deadline=deadline
    )
  finally:
    # Not before: the next child would take the processor from the examiner.
    jail.refill()
  if isinstance(examined, jail_lib.Refusal):
    return _refusal(examined)
  return _judge(traced, metadata, examined, known)


def _admit(source: Any, gate: Gate) -> bytes | tuple[findings.Finding, ...]:
  """A source as UTF-8 once the gate lets it in, or what keeps it out."""
  try:
    text, encoded = _decode(source)
    with findings.refusing("gate", "it cannot be checked", _SIMPLER):
      faults = gate(text)
  except findings.RefusedError as error:
    faults = (error.finding,)
  return faults or encoded


def _judge(
    traced: jail_lib.Traced,
    metadata: artifact_lib.Metadata,
    examined: jail_lib.Examined,
    known: known_lib.Library | None,
) -> Verdict:
  """The verdict on a loss that was traced and examined."""
  # What refuses it comes first, for whoever tells but one.
  found = tuple(
      sorted(
          examined.findings + traced.findings,
          key=lambda finding: finding.level != "contract",
      )
  )
  if any(f.level == "contract" for f in found):
    return Verdict(False, found)
  return Verdict(
      ok=True,
      findings=found,
      artifact=traced.data,
      artifact_sha256=artifact_lib.sha256(traced.data),
      hparams=dict(metadata.hparams),
      metadata=metadata,
      jaxpr=traced.jaxpr,
      canonical=traced.canonical,
      fingerprint=examined.fingerprint,
      metrics=_completed(examined.metrics, traced.canonical),
      nearest=_nearest(examined.fingerprint, known),
  )


def _completed(
    metrics: intrinsic.Metrics | None, described: canonical_lib.Canonical | None
) -> intrinsic.Metrics | None:
  """Adds the length of the description to what the examiner measured."""
  if metrics is None or described is None:
    return metrics
  names = ("operations", "constants", "bits")
  lengths = {name: getattr(described, name) for name in names}
  return dataclasses.replace(metrics, **lengths)


def _nearest(
    packed: bytes | None, known: known_lib.Library | None
) -> tuple[rediscovery.Match, ...]:
  """Compares with known algorithms seen on the same probes."""
  if packed is None or known is None:
    return ()
  found = fingerprint.from_bytes(packed)
  if found.suite != known.suite:
    return ()
  return rediscovery.nearest(found, known)


def _refusal(refusal: jail_lib.Refusal) -> Verdict:
  return Verdict(False, refusal.findings, conclusive=refusal.conclusive)


def _decode(source: Any) -> tuple[str, bytes]:
  """Gives a source as text and as UTF-8, if it is text and not too long."""
  if not isinstance(source, (str, bytes)):
    raise findings.RefusedError(
        "encoding",
        f"a source is text, this is a {type(source).__name__}",
        "give the text of a module",
    )
  if len(source) > limits.SOURCE_BYTES:
    # Before anything is made of it that is as large again.
    raise findings.RefusedError(
        "source-size",
        f"the source is longer than the limit of {limits.SOURCE_BYTES} bytes",
        "keep the constants, init and loss; drop the rest",
    )
  with findings.refusing(
      "encoding", "not text", "write the source as plain UTF-8"
  ):
    text = source.decode("utf-8") if isinstance(source, bytes) else source
    return text, text.encode("utf-8")
