"""The steps of a search, each done once and stored before the next begins.

Every step first looks whether the archive already holds its outcome. A search
that was killed is therefore continued by running it again: finished steps are
read back, the one that was cut off is repeated, and since every step is a pure
function of the configuration and of the steps before it, the archive ends up
the same as without the interruption.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from poise_jax import types
from poise_jax.archive import records, store
from poise_jax.candidates import artifact, verification
from poise_jax.candidates import jail as jail_lib
from poise_jax.candidates import known as known_lib
from poise_jax.discovery import executors, leaderboard, pairing, trial, twins
from poise_jax.discovery import progress as progress_lib
from poise_jax.evaluation import statistics
from poise_jax.tasks import arithmetic


class ResumeError(ValueError):
  """The archive holds a campaign that the configuration does not describe."""


def enter(archive: store.Archive, name: str, config: Mapping[str, Any]) -> str:
  """Stores the campaign, or finds it; gives its id.

  Raises:
    ResumeError: if a campaign of this name was configured differently.
  """
  campaign_id = records.sha256(records.canonical_json(config))[:12]
  for known in archive.campaigns():
    if known.id == campaign_id:
      return campaign_id
    if known.name == name:
      old, new = _leaves(known.config), _leaves(config)
      differing = [
          f"{key} (archive: {old.get(key)!r}, now: {new.get(key)!r})"
          for key in sorted(old | new)
          if old.get(key) != new.get(key)
      ]
      raise ResumeError(
          f"the archive holds campaign {name!r} with a different"
          f" {'; '.join(differing)}; restore that, or use another --workdir or"
          " --config.name"
      )
  archive.add_campaign(
      records.Campaign(campaign_id, name, config, records.now())
  )
  return campaign_id


def _leaves(value: Any, name: str = "") -> dict[str, Any]:
  """What nested mappings hold, by dotted name."""
  if not isinstance(value, Mapping):
    return {name[1:]: value}
  inner = [_leaves(item, f"{name}.{key}") for key, item in value.items()]
  return {key: leaf for leaves in inner for key, leaf in leaves.items()}


@dataclasses.dataclass(frozen=True)
class Draft:
  """A candidate before verification.

  Attributes:
    name: unique in the campaign.
    role: root, baseline, canary or generated.
    generation: 0 for the seeds of the search, else the round.
    parents: ids, most important first.
    source: its text.
    mechanisms: structured description, JSON-like.
    rationale: what was changed and why.
  """

  name: str
  role: records.Role
  generation: int
  parents: tuple[str, ...]
  source: str
  mechanisms: Mapping[str, Any]
  rationale: str


class Campaign:
  """A search in progress: its archive, its laboratory and its jail.

  Attributes:
    id: of the campaign record.
    archive: where everything is kept.
    laboratory: trains and scores.
    progress: is told what happens.
  """

  def __init__(
      self,
      campaign_id: str,
      *,
      archive: store.Archive,
      laboratory: trial.Laboratory,
      jail: jail_lib.Jail,
      progress: progress_lib.Progress,
      workers: int,
  ):
    self.id = campaign_id
    self.archive = archive
    self.laboratory = laboratory
    self.progress = progress
    self._jail = jail
    self._workers = workers
    self._algorithms: dict[str, types.Algorithm] = {}
    self._warm = False
    self._best: tuple[str, statistics.Interval] | None = None
    self._stored = self._read()

  def _read(self) -> dict[int, records.Candidate]:
    candidates = self.archive.candidates(self.id)
    return {candidate.index: candidate for candidate in candidates}

  @property
  def candidates(self) -> list[records.Candidate]:
    """All candidates stored so far, by index."""
    return [self._stored[index] for index in sorted(self._stored)]

  def stored(self, index: int) -> records.Candidate | None:
    """The candidate at `index`, None if it is not there yet."""
    return self._stored.get(index)

  def admit(self, index: int, draft: Draft) -> records.Candidate:
    """Verifies a draft and stores it as the `index`-th candidate.

    A draft that fails is stored as not accepted, with the reason; so is a
    generated one that does what the campaign already has, as its twin.

    Raises:
      jail_lib.JailError: if the machine could not verify it; nothing is stored
        then, and the search may be continued later.
    """
    if (known := self.stored(index)) is not None:
      return known
    self.progress.stage(draft.name, "verify")
    # Halves of surrogate pairs, which no archive can hold.
    source = draft.source.encode("utf-8", "replace").decode("utf-8")
    by_id = {candidate.id: candidate for candidate in self.candidates}
    first = by_id.get((*draft.parents, "")[0])
    verdict = verification.verify(
        source,
        self._jail,
        parent=None if first is None else first.fingerprint,
        known=known_lib.catalogue(),
        must_learn=draft.role != "canary",
        group_size=self.laboratory.budget.train.group_size,
    )
    if not verdict.conclusive:
      raise jail_lib.JailError(verdict.findings[0].message)
    found = [finding.to_json() for finding in verdict.findings]
    twin = None
    if draft.role == "generated" and verdict.ok:
      twin = twins.find(verdict, self.candidates)
    if twin is not None:
      found.append(
          {
              "level": "contract",
              "rule": "twin",
              "message": f"{twin[1]} {twin[0].name}",
              "hint": "change the algorithm, not only its text",
          }
      )
    accepted = verdict.ok and twin is None
    canonical = verdict.canonical
    candidate = records.Candidate(
        id=f"{self.id}-{index:03d}",
        campaign_id=self.id,
        index=index,
        name=draft.name,
        role=draft.role,
        generation=draft.generation,
        parents=draft.parents,
        source=source,
        source_sha256=records.sha256(source),
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
    self.archive.add_candidate(candidate)
    # Goes on with what a resumed search will read: JSON sorts keys, and the
    # words of a reflection follow their order.
    self._stored = self._read()
    return self._stored[index]

  def evaluate(
      self,
      candidates: Sequence[records.Candidate],
      seeds: int,
      split: arithmetic.Split,
  ) -> None:
    """Trains and scores every accepted candidate with seeds 0 to `seeds` - 1.

    Several trials run at once; each is stored as soon as it is done.
    """
    # Seed by seed, so that neighbours compile different losses. One trial of a
    # twin is left to `replicate`.
    runs = [(c, s) for s in range(seeds) for c in candidates]
    self._evaluate([(c, s) for c, s in runs if s or c.twin_of is None], split)

  def replicate(
      self,
      candidates: Sequence[records.Candidate],
      planned: Callable[[records.Candidate], int],
      split: arithmetic.Split,
  ) -> None:
    """Measures the originals of twins once more, with another seed for each.

    See `twins.replicas`, and there for `planned`.
    """
    runs = twins.replicas(candidates, self.candidates, planned)
    self._evaluate(list(runs), split)

  def _evaluate(
      self,
      runs: Sequence[tuple[records.Candidate, int]],
      split: arithmetic.Split,
  ) -> None:
    """Trains and scores candidates with one seed each, if that is not done."""
    steps = self.laboratory.budget.train.steps
    jobs = []
    for candidate, seed in runs:
      key = self.laboratory.key(candidate, split, seed)
      digest = records.sha256(records.canonical_json(key))
      if not candidate.accepted or self.archive.evaluation(digest):
        self.progress.advance(steps)
      else:
        jobs.append((candidate, seed, key, digest))
    if jobs and not self._warm:
      self.progress.stage("policy", "compile")
      self.laboratory.warm_up(self._algorithm(self.candidates[0]))
      self._warm = True
    work = functools.partial(self._trial, split=split)
    for _, evaluation in executors.as_completed(
        work, jobs, workers=self._workers
    ):
      self.archive.add_evaluation(evaluation)
      self._announce_best()

  def _trial(
      self,
      job: tuple[records.Candidate, int, dict[str, Any], str],
      split: arithmetic.Split,
  ) -> records.Evaluation:
    candidate, seed, key, digest = job
    self.progress.stage(candidate.name, f"train and score, seed {seed}")
    started = records.now()
    outcome = self._run(candidate, split, seed)
    if outcome.diverged:
      missed = self.laboratory.budget.train.steps
      self.progress.advance(missed - len(outcome.curve.get("loss", ())))
    return records.Evaluation(
        id=digest,
        candidate_id=candidate.id,
        key=key,
        seed=seed,
        budget=self.laboratory.budget.name,
        split=split.name.lower(),
        outcome="diverged" if outcome.diverged else "scored",
        reason=outcome.diverged,
        metrics=outcome.metrics,
        curve=outcome.curve,
        started_at=started,
        finished_at=records.now(),
    )

  def _run(
      self, candidate: records.Candidate, split: arithmetic.Split, seed: int
  ) -> trial.Outcome:
    """Runs a trial; a loss that jax cannot run at this size has diverged."""
    try:
      return self.laboratory.run(
          self._algorithm(candidate),
          split,
          seed,
          on_step=lambda step: self.progress.advance(1),
      )
    except (jax.errors.JaxRuntimeError, ValueError, TypeError) as error:
      # The message may hold addresses; the kind is the same on every run.
      reason = f"cannot be run at the size of training: {type(error).__name__}"
      return trial.Outcome(reason, {}, {})

  def _algorithm(self, candidate: records.Candidate) -> types.Algorithm:
    """Loads an artifact; one object each, so that seeds share what compiles."""
    if candidate.id not in self._algorithms:
      loaded = artifact.load(candidate.artifact, candidate.name)
      self._algorithms.setdefault(candidate.id, loaded)
    return self._algorithms[candidate.id]

  def _announce_best(self) -> None:
    board = leaderboard.rank(
        self.archive.campaign(self.id),
        self.candidates,
        self.archive.evaluations(self.id),
    )
    best = next((s for s in board if s.role != "canary"), None)
    if best is not None and best.overall_mean is not None:
      interval = statistics.Interval(
          best.overall_mean, best.overall_low, best.overall_high
      )
      if (best.name, interval) != self._best:
        self._best = (best.name, interval)
        self.progress.best(*self._best)

  def evaluations(
      self, candidate: records.Candidate
  ) -> list[records.Evaluation]:
    """All evaluations of a candidate, by seed."""
    return self.archive.evaluations(self.id, candidate.id)

  def evidence(self, candidate: records.Candidate) -> pairing.Evidence:
    """A candidate with everything measured of it."""
    return pairing.Evidence(
        candidate.id,
        candidate.name,
        candidate.mechanisms,
        self.evaluations(candidate),
    )

  def gain(
      self, child: records.Candidate, parent: records.Candidate
  ) -> float | None:
    """Mean difference in Overall over common seeds, None if there is none."""
    pairs = pairing.common_runs(self.evidence(child), self.evidence(parent))
    return pairs and float(np.mean(pairing.differences(pairs, "overall")))

  def note(
      self, candidate: records.Candidate, text: str, data: Mapping[str, Any]
  ) -> None:
    """Stores what was learned from a candidate."""
    self.archive.add_reflection(
        records.Reflection(candidate.id, text, data, records.now())
    )

  def noted(self) -> set[str]:
    """Ids of the candidates that have a reflection."""
    return {r.candidate_id for r in self.archive.reflections(self.id)}
