"""From a draft and the verdict on it to the candidate that is stored."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

from poise_jax.archive import records
from poise_jax.candidates import findings, verification
from poise_jax.discovery import twins


@dataclasses.dataclass(frozen=True)
class Draft:
  """A candidate before verification.

  Attributes:
    name: unique in the campaign.
    role: see `records.Candidate`.
    generation: 0 for the seeds of the search, else the round.
    parents: ids, most important first.
    source: its text.
    mechanisms: structured description, JSON-like.
    rationale: what was changed and why.
    objections: why it may not stand for its mechanisms although the gate lets
      it through, such as that a second implementation of them differs.
  """

  name: str
  role: records.Role
  generation: int
  parents: tuple[str, ...]
  source: str
  mechanisms: Mapping[str, Any]
  rationale: str
  objections: tuple[findings.Finding, ...] = ()

  @property
  def text(self) -> str:
    """The source without halves of surrogate pairs, which no archive holds."""
    return self.source.encode("utf-8", "replace").decode("utf-8")


def judged(
    draft: Draft,
    verdict: verification.Verdict,
    campaign_id: str,
    index: int,
    candidates: Sequence[records.Candidate],
) -> records.Candidate:
  """The `index`-th candidate of a campaign, admitted or not.

  A generated draft that passed, but does what one of `candidates` does, is not
  admitted: it is the twin of that one. Nor is one with objections, which is
  nobody's twin, as it is not what it was meant to be.

  Args:
    draft: what was proposed.
    verdict: on it, conclusive.
    campaign_id: of the campaign.
    index: of the draft in it.
    candidates: those that the campaign has.
  """
  twin = None
  stands = verdict.ok and not draft.objections
  if draft.role == "generated" and stands:
    twin = twins.find(verdict, candidates)
  said = (*verdict.findings, *draft.objections)
  found = [finding.to_json() for finding in said]
  if twin is not None:
    found.append(
        {
            "level": "contract",
            "rule": "twin",
            "message": f"{twin[1]} {twin[0].name}",
            "hint": "change the algorithm, not only its text",
        }
    )
  accepted = stands and twin is None
  canonical = verdict.canonical
  return records.Candidate(
      id=f"{campaign_id}-{index:03d}",
      campaign_id=campaign_id,
      index=index,
      name=draft.name,
      role=draft.role,
      generation=draft.generation,
      parents=draft.parents,
      source=draft.text,
      source_sha256=records.sha256(draft.text),
      mechanisms=draft.mechanisms,
      rationale=draft.rationale,
      accepted=accepted,
      findings=tuple(found),
      artifact=verdict.artifact if accepted else None,
      artifact_sha256=verdict.artifact_sha256 if accepted else None,
      hparams=verdict.hparams if accepted else {},
      created_at=records.now(),
      jaxpr=verdict.jaxpr,
      canonical=canonical and canonical.text,
      canonical_sha256=canonical and canonical.digest,
      structure_sha256=canonical and canonical.structure,
      fingerprint=verdict.fingerprint,
      intrinsic=verdict.metrics and dataclasses.asdict(verdict.metrics) or {},
      nearest=tuple(match.to_json() for match in verdict.nearest),
      twin_of=twin and twin[0].id,
  )
