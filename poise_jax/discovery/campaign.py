"""The steps of a search, each done once and stored before the next begins.

Every step first looks whether the archive already holds its outcome. A search
that was killed is therefore continued by running it again: finished steps are
read back, the one that was cut off is repeated, and since every step is a pure
function of the configuration and of the steps before it, the archive ends up
the same as without the interruption.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from poise_jax import types
from poise_jax.archive import records, store
from poise_jax.candidates import artifact, verification
from poise_jax.candidates import jail as jail_lib
from poise_jax.candidates import known as known_lib
from poise_jax.discovery import admission, leaderboard
from poise_jax.discovery import progress as progress_lib
from poise_jax.discovery.evidence import pairing
from poise_jax.discovery.trials import executors, faults, trial
from poise_jax.evaluation import statistics

# What a run that was scored is worth, in points.
Score = Callable[[records.Evaluation], float]

# Whose losses were written by a proposer, and may break at any size.
_UNTRUSTED = ("generated", "variant")


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


class Campaign:
  """A search in progress: its archive, its laboratory and its jail.

  Attributes:
    id: of the campaign record.
    archive: where everything is kept.
    laboratories: train and score.
    home: where candidates of the search are measured.
    jail: verifies sources.
    progress: is told what happens.
  """

  def __init__(
      self,
      campaign_id: str,
      *,
      archive: store.Archive,
      laboratories: trial.Laboratories,
      home: trial.Setting,
      jail: jail_lib.Jail,
      progress: progress_lib.Progress,
      workers: int,
  ):
    self.id = campaign_id
    self.archive = archive
    self.laboratories = laboratories
    self.home = home
    self.progress = progress
    self.jail = jail
    self._workers = workers
    self._algorithms: dict[str, types.Algorithm] = {}
    self._warm: list[trial.Laboratory] = []
    self._best: tuple[str, statistics.Interval] | None = None
    self._stored = self._read()

  def _read(self) -> dict[int, records.Candidate]:
    candidates = self.archive.candidates(self.id)
    return {candidate.index: candidate for candidate in candidates}

  @property
  def laboratory(self) -> trial.Laboratory:
    """That of the search."""
    return self.laboratories.at(self.home)

  @property
  def candidates(self) -> list[records.Candidate]:
    """All candidates stored so far, by index."""
    return [self._stored[index] for index in sorted(self._stored)]

  def stored(self, index: int) -> records.Candidate | None:
    """The candidate at `index`, None if it is not there yet."""
    return self._stored.get(index)

  def admit(self, index: int, draft: admission.Draft) -> records.Candidate:
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
    by_id = {candidate.id: candidate for candidate in self.candidates}
    first = by_id.get((*draft.parents, "")[0])
    verdict = verification.verify(
        draft.text,
        self.jail,
        parent=None if first is None else first.fingerprint,
        known=known_lib.catalogue(),
        must_learn=draft.role != "canary",
        group_size=self.laboratory.budget.train.group_size,
    )
    if not verdict.conclusive:
      raise jail_lib.JailError(verdict.findings[0].message)
    candidate = admission.judged(
        draft, verdict, self.id, index, self.candidates
    )
    self.archive.add_candidate(candidate)
    # Goes on with what a resumed search will read: JSON sorts keys, and the
    # words of a reflection follow their order.
    self._stored = self._read()
    return self._stored[index]

  def measure(
      self, wanted: Sequence[trial.Measurement]
  ) -> list[records.Evaluation]:
    """Makes the trials that are wanted, once each.

    Several run at once; each is stored as soon as it is done. Candidates that
    were not admitted are passed over.

    Returns:
      One evaluation for each trial of an admitted candidate, in their order.
    """
    jobs, digests = {}, []
    for measurement in wanted:
      if not measurement.candidate.accepted:
        continue
      digest, key = self._identify(measurement)
      digests.append(digest)
      if self.archive.evaluation(digest):
        self.progress.advance(self._steps(measurement))
      else:
        jobs[digest] = (measurement, key, digest)
    for setting in dict.fromkeys(job[0].setting for job in jobs.values()):
      self._warm_up(setting)
    for _, evaluation in executors.as_completed(
        self._trial, list(jobs.values()), workers=self._workers
    ):
      self.archive.add_evaluation(evaluation)
      self._announce_best()
    return [self.archive.evaluation(digest) for digest in digests]

  def _identify(
      self, measurement: trial.Measurement
  ) -> tuple[str, dict[str, Any]]:
    """The id of a trial's evaluation, and the key that it is the hash of."""
    candidate, seed, setting = measurement
    laboratory = self.laboratories.at(setting)
    key = laboratory.key(candidate, setting.split, seed)
    return records.sha256(records.canonical_json(key)), key

  def _steps(self, measurement: trial.Measurement) -> int:
    return self.laboratories.at(measurement.setting).budget.train.steps

  def _warm_up(self, setting: trial.Setting) -> None:
    """Compiles the policy's programs of a setting, unless that is done."""
    laboratory = self.laboratories.at(setting)
    if laboratory not in self._warm:
      self.progress.stage(f"policy at budget {setting.budget}", "compile")
      laboratory.warm_up(self._algorithm(self.candidates[0]))
      self._warm.append(laboratory)

  def _trial(
      self, job: tuple[trial.Measurement, dict[str, Any], str]
  ) -> records.Evaluation:
    measurement, key, digest = job
    candidate, seed, setting = measurement
    what = f"train and score, {setting.budget} seed {seed}"
    self.progress.stage(candidate.name, what)
    started = records.now()
    outcome = self._run(measurement)
    if outcome.diverged:
      missed = self._steps(measurement) - len(outcome.curve.get("loss", ()))
      self.progress.advance(missed)
    return records.Evaluation(
        id=digest,
        candidate_id=candidate.id,
        key=key,
        seed=seed,
        budget=setting.budget,
        split=setting.split.name.lower(),
        outcome="diverged" if outcome.diverged else "scored",
        reason=outcome.diverged,
        metrics=outcome.metrics,
        curve=outcome.curve,
        started_at=started,
        finished_at=records.now(),
    )

  def _run(self, measurement: trial.Measurement) -> trial.Outcome:
    """Runs a trial; a proposer's loss that cannot be run has diverged."""
    candidate, seed, setting = measurement
    run = lambda: self.laboratories.at(setting).run(
        self._algorithm(candidate),
        setting.split,
        seed,
        on_step=lambda step: self.progress.advance(1),
    )
    return faults.judged(run) if candidate.role in _UNTRUSTED else run()

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

  def at_home(self, candidate: records.Candidate) -> list[records.Evaluation]:
    """The evaluations of a candidate in the setting of the search, by seed."""
    budget, split, _ = self.home
    return [
        run
        for run in self.evaluations(candidate)
        if (run.budget, run.split) == (budget, split.name.lower())
        and pairing.base_of(run) == self.laboratory.base_sha256
    ]

  def evidence(self, candidate: records.Candidate) -> pairing.Evidence:
    """A candidate with everything measured of it."""
    return pairing.Evidence(
        candidate.id,
        candidate.name,
        candidate.mechanisms,
        self.evaluations(candidate),
    )

  def note(
      self, candidate: records.Candidate, text: str, data: Mapping[str, Any]
  ) -> None:
    """Stores what was learned from a candidate."""
    self.archive.add_reflection(
        records.Reflection(candidate.id, text, data, records.now())
    )

  def decide(
      self,
      stage: str,
      subject: str,
      conclude: Callable[[], Mapping[str, Any]],
  ) -> Mapping[str, Any]:
    """Draws a conclusion and stores it; one that is stored is read back."""
    found = self.archive.decision(self.id, stage, subject)
    if found is None:
      conclusion = records.Decision(
          self.id, stage, subject, conclude(), records.now()
      )
      self.archive.add_decision(conclusion)
      # As it reads back, so that a campaign that is continued sees the same.
      found = self.archive.decision(self.id, stage, subject)
    return found.data

  def noted(self) -> set[str]:
    """Ids of the candidates that have a reflection."""
    return {r.candidate_id for r in self.archive.reflections(self.id)}
