"""What the archive keeps: one frozen dataclass for each table.

A record never changes once stored. Identifiers are derived from content, never
from a clock or a counter of attempts, so that the same campaign run twice
stores the same records. Clock readings are the fields named `*_at` and nothing
else; they are left out of `Archive.digest`.
"""

from collections.abc import Mapping
import dataclasses
import datetime
import hashlib
import json
from typing import Any, Literal

Role = Literal["root", "baseline", "canary", "clone", "generated", "variant"]
Outcome = Literal["scored", "diverged"]


def canonical_json(value: object) -> str:
  """Renders `value` with sorted keys and no spaces; NaN is refused."""
  return json.dumps(
      value, sort_keys=True, separators=(",", ":"), allow_nan=False
  )


def sha256(data: bytes | str) -> str:
  """Hexadecimal SHA-256 of bytes, or of text in UTF-8."""
  if isinstance(data, str):
    data = data.encode("utf-8")
  return hashlib.sha256(data).hexdigest()


def now() -> datetime.datetime:
  """The current time in UTC, with microseconds."""
  return datetime.datetime.now(datetime.UTC)


@dataclasses.dataclass(frozen=True)
class Campaign:
  """One search run.

  Attributes:
    id: first 12 digits of the hash of `config`.
    name: for humans.
    config: everything that determines the outcome, JSON-like.
    created_at: clock.
  """

  id: str
  name: str
  config: Mapping[str, Any]
  created_at: datetime.datetime


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One algorithm: its source, where it came from, whether it was admitted.

  Attributes:
    id: `<campaign id>-<index, three digits>`.
    campaign_id: the campaign that made it.
    index: position in the campaign, from 0 (the root).
    name: short identifier, unique in the campaign.
    role: root, baseline (measured beside it), canary, clone (of the root, to
      measure noise), generated, or variant (of another, to explain that one).
    generation: round that made it; 0 for what was planted.
    parents: ids of its parents, most important first.
    source: the loss source, as text.
    source_sha256: hash of `source`.
    mechanisms: the proposer's structured description of the algorithm.
    rationale: what was changed and why it might help.
    accepted: whether verification let it through to training, and nothing
      like it was trained before.
    findings: verification findings, JSON-like, empty if none.
    artifact: exported program, None if not accepted.
    artifact_sha256: hash of `artifact`, None if not accepted.
    hparams: the constants the source declares, empty if not accepted.
    created_at: clock.
    jaxpr: the traced loss as text; this and what follows is there for all that
      passed verification, and None or empty for others.
    canonical: the loss as text, however it was written.
    canonical_sha256: its hash: the same loss with the same constants.
    structure_sha256: its hash without numbers: the same loss, any constants.
    fingerprint: its gradients on the probes, packed.
    intrinsic: what can be told of it without training: name -> number, None
      where there is none.
    nearest: known algorithms beside it, the nearest first, JSON-like; `words`
      of the first says what it is, such as "equals bn_grpo".
    twin_of: id of the candidate that does the same, which was trained instead;
      None if there is none.
  """

  id: str
  campaign_id: str
  index: int
  name: str
  role: Role
  generation: int
  parents: tuple[str, ...]
  source: str
  source_sha256: str
  mechanisms: Mapping[str, Any]
  rationale: str
  accepted: bool
  findings: tuple[Mapping[str, str], ...]
  artifact: bytes | None
  artifact_sha256: str | None
  hparams: Mapping[str, float]
  created_at: datetime.datetime
  jaxpr: str | None = None
  canonical: str | None = None
  canonical_sha256: str | None = None
  structure_sha256: str | None = None
  fingerprint: bytes | None = None
  intrinsic: Mapping[str, int | float | None] = dataclasses.field(
      default_factory=dict
  )
  nearest: tuple[Mapping[str, Any], ...] = ()
  twin_of: str | None = None


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """One candidate trained and scored with one seed.

  Attributes:
    id: hash of `key`.
    candidate_id: what was evaluated.
    key: all that the result is a function of, JSON-like: artifact, hparams,
      task, base checkpoint, budget, split, seed, versions.
    seed: training and sampling seed (also in `key`).
    budget: name of the budget (also in `key`).
    split: name of the problem split (also in `key`).
    outcome: scored or diverged.
    reason: why it diverged; empty if scored.
    metrics: final scores by canonical name, e.g. `overall`,
      `pass_at_k/long_products`. Empty if diverged.
    curve: training curve: metric name -> one value a step.
    started_at: clock.
    finished_at: clock.
  """

  id: str
  candidate_id: str
  key: Mapping[str, Any]
  seed: int
  budget: str
  split: str
  outcome: Outcome
  reason: str
  metrics: Mapping[str, float]
  curve: Mapping[str, list[float]]
  started_at: datetime.datetime
  finished_at: datetime.datetime


@dataclasses.dataclass(frozen=True)
class Reflection:
  """What was learned from a candidate, in words and numbers.

  Attributes:
    candidate_id: what it is about (one reflection a candidate).
    text: for people and for proposers.
    data: the numbers the text was written from, JSON-like.
    created_at: clock.
  """

  candidate_id: str
  text: str
  data: Mapping[str, Any]
  created_at: datetime.datetime


@dataclasses.dataclass(frozen=True)
class Selection:
  """One choice of parents, with everything it was chosen by.

  Attributes:
    campaign_id: the campaign.
    generation: round for which parents were chosen, from 1.
    parents: ids chosen, best first.
    terms: for every candidate considered, id -> term name -> value.
    created_at: clock.
  """

  campaign_id: str
  generation: int
  parents: tuple[str, ...]
  terms: Mapping[str, Mapping[str, float]]
  created_at: datetime.datetime


@dataclasses.dataclass(frozen=True)
class Decision:
  """One conclusion of a campaign other than a choice of parents.

  Attributes:
    campaign_id: the campaign.
    stage: what kind of conclusion, such as `plan` or `confirmation`.
    subject: what it is about, such as a candidate's id; one conclusion for
      each stage and subject.
    data: the conclusion with the numbers it rests on, JSON-like.
    created_at: clock.
  """

  campaign_id: str
  stage: str
  subject: str
  data: Mapping[str, Any]
  created_at: datetime.datetime
