"""Sweeps: every configuration with every seed, each cell trained once, ever.

A cell is a configuration and a seed. Its name is the hash of all that its
outcome is a function of, so whatever asks for a cell that an archive holds -
the same sweep after a kill, or another one that overlaps - reads it back.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.archive import records, store
from poise_jax.discovery import progress as progress_lib
from poise_jax.discovery.sweeps import cell as cell_lib
from poise_jax.discovery.sweeps import design as design_lib
from poise_jax.discovery.sweeps import executors
from poise_jax.discovery.trials import trial
from poise_jax.models import checkpoints
from poise_jax.tasks import embedded

# One campaign holds the algorithms of all sweeps of an archive: a further sweep
# adds to it, and reads what is there.
_CAMPAIGN = {"kind": "sweep"}
_NAME = "sweep"
_SILENT = progress_lib.Silent()


@dataclasses.dataclass(frozen=True)
class Cell:
  """A configuration with a seed, planned.

  Attributes:
    config: what is trained and scored.
    seed: of training prompts, of sampling and of scoring.
    key: all that the outcome is a function of, JSON-like.
    id: hash of `key`.
  """

  config: cell_lib.Config
  seed: int
  key: Mapping[str, Any]
  id: str


@dataclasses.dataclass(frozen=True)
class Done:
  """What came of a cell.

  Attributes:
    cell: which.
    evaluation: as the archive holds it, scored or diverged; None if the cell
      could not be run to its end, and will be tried again by the next sweep.
    failure: why, its type first, such as "OSError: no space left"; else empty.
    reused: whether it was in the archive before.
  """

  cell: Cell
  evaluation: records.Evaluation | None
  failure: str
  reused: bool

  @property
  def reason(self) -> str:
    """Why there is no score; empty if there is one."""
    return self.failure or (self.evaluation.reason if self.evaluation else "")


OnDone = Callable[[Done], None]


def plan(
    configs: Sequence[cell_lib.Config],
    seeds: Sequence[int],
    design: design_lib.Design = design_lib.paired,
) -> list[Cell]:
  """Lists the cells of a sweep, seed by seed; trains nothing.

  Seed by seed, so that a sweep that is stopped has all configurations with as
  many seeds.

  Args:
    configs: with names of their own.
    seeds: at least one, distinct.
    design: gives each configuration its seeds.

  Raises:
    ValueError: if names or seeds repeat, there are none, or an algorithm or a
      constant of it is unknown.
    FileNotFoundError: if a base policy is missing.
  """
  names = [config.name for config in configs]
  for what, values in (("configs", names), ("seeds", seeds)):
    if not values or len(set(values)) < len(values):
      raise ValueError(
          f"`{what}` must be at least one and all distinct, got {values}"
      )
  shared = _Shared()
  rows = [[(c, s) for s in own] for c, own in design(configs, seeds)]
  return [
      _cell(config, seed, shared)
      for column in zip(*rows, strict=True)
      for config, seed in column
  ]


def sweep(
    configs: Sequence[cell_lib.Config],
    seeds: Sequence[int],
    executor: executors.Executor = executors.serial,
    *,
    archive: store.Archive,
    design: design_lib.Design = design_lib.paired,
    progress: progress_lib.Progress = _SILENT,
    on_done: OnDone = lambda done: None,
) -> list[Done]:
  """Trains and scores what the archive does not hold yet.

  Each cell is stored as soon as it is done: killed at any moment, the same call
  continues. A cell that fails does not end the sweep. Two cells with one key,
  such as an algorithm under two names, are trained once.

  Args:
    configs: what is compared.
    seeds: of each.
    executor: how cells are run, see `executors`.
    archive: where they are kept.
    design: gives each configuration its seeds; `paired` gives all the same.
    progress: is told of each cell; a unit is a cell that was not there.
    on_done: called with each cell, also those that were there.

  Returns:
    One entry a cell, in the order of `plan`.

  Raises:
    ValueError: as `plan`.
    ArchiveError: if the archive cannot be written to.
  """
  cells = plan(configs, seeds, design)
  found = {cell.id: archive.evaluation(cell.id) for cell in cells}
  # Of several with one key the first.
  missing = {c.id: c for c in reversed(cells) if found[c.id] is None}
  failures: dict[str, str] = {}
  for cell in cells:
    if found[cell.id] is not None:
      on_done(Done(cell, found[cell.id], "", True))
  jobs = [
      cell_lib.Job(c.id, c.config, c.seed) for c in reversed(missing.values())
  ]
  for job, result in executor(cell_lib.run, jobs):
    cell = missing[job.id]
    if isinstance(result, Exception):
      failures[cell.id] = explain(result)
    else:
      _store(archive, cell, result)
      found[cell.id] = archive.evaluation(cell.id)
    done = Done(cell, found[cell.id], failures.get(cell.id, ""), False)
    progress.advance(1)
    progress.stage(cell.config.name, f"seed {cell.seed}: {summary(done)}")
    on_done(done)
  return [
      Done(c, found[c.id], failures.get(c.id, ""), c.id not in missing)
      for c in cells
  ]


def stored(cells: Sequence[Cell], archive: store.Archive) -> list[Done]:
  """What an archive holds of a sweep; what it does not was not run."""
  found = [archive.evaluation(cell.id) for cell in cells]
  return [
      Done(cell, run, "" if run else "not run yet", True)
      for cell, run in zip(cells, found, strict=True)
  ]


def explain(error: Exception) -> str:
  """The type of an error and the first line of what it says."""
  kind = getattr(error, "kind", type(error).__name__)
  message = str(error).strip().split("\n")[0]
  return kind + (f": {message}" if message else "")


def summary(done: Done) -> str:
  """An outcome in few words: its Overall, or why there is none."""
  if done.reason or done.evaluation is None:
    return done.reason
  return f"{done.evaluation.metrics['overall']:.1f}"


class _Shared:
  """What cells have in common, read once."""

  def __init__(self):
    self.versions = cell_lib.versions()
    self.base = functools.cache(_fingerprint)


def _fingerprint(base: str) -> str:
  directory = trial.base_directory(base)
  checkpoints.read_config(directory)  # Refuses what is no policy.
  return checkpoints.fingerprint(directory)


def _cell(config: cell_lib.Config, seed: int, shared: _Shared) -> Cell:
  algorithm = cell_lib.algorithm_of(config)
  key = {
      "algorithm": records.sha256(config.artifact or source_of(config)),
      "hparams": dict(algorithm.hparams),
      "task": embedded.named(config.task).name,
      "base": shared.base(config.base),
      "budget": {
          "train": dataclasses.asdict(config.budget.train),
          "evaluate": dataclasses.asdict(config.budget.evaluate),
      },
      "split": config.split.name.lower(),
      "seed": seed,
      "versions": shared.versions,
  }
  return Cell(config, seed, key, records.sha256(records.canonical_json(key)))


def source_of(config: cell_lib.Config) -> str:
  """The text of the algorithm."""
  return config.source or catalog.source(config.algorithm)


def _store(archive: store.Archive, cell: Cell, result: cell_lib.Result) -> None:
  """Stores an outcome with the algorithm that it belongs to."""
  outcome = result.outcome
  archive.add_evaluation(
      records.Evaluation(
          id=cell.id,
          candidate_id=_candidate(archive, cell.config).id,
          key=cell.key,
          seed=cell.seed,
          budget=cell.config.budget.name,
          split=cell.config.split.name.lower(),
          outcome="diverged" if outcome.diverged else "scored",
          reason=outcome.diverged,
          metrics=outcome.metrics,
          curve=outcome.curve,
          started_at=result.started_at,
          finished_at=result.finished_at,
      )
  )


def _candidate(
    archive: store.Archive, config: cell_lib.Config
) -> records.Candidate:
  """The algorithm with its constants, stored now if it was not before."""
  algorithm = cell_lib.algorithm_of(config)
  campaign_id = records.sha256(records.canonical_json(_CAMPAIGN))[:12]
  if campaign_id not in {c.id for c in archive.campaigns()}:
    archive.add_campaign(
        records.Campaign(campaign_id, _NAME, _CAMPAIGN, records.now())
    )
  source, program = source_of(config), config.artifact
  known = archive.candidates(campaign_id)
  for candidate in known:
    if (candidate.source, candidate.artifact, candidate.hparams) == (
        *(source, program),
        algorithm.hparams,
    ):
      return candidate
  made = records.Candidate(
      id=f"{campaign_id}-{len(known):03d}",
      campaign_id=campaign_id,
      index=len(known),
      name=_free(_label(config, algorithm), {c.name for c in known}),
      role=role(config),
      generation=0,
      parents=(),
      source=source,
      source_sha256=records.sha256(source),
      mechanisms={},
      rationale="",
      accepted=True,
      findings=(),
      artifact=program,
      artifact_sha256=program and records.sha256(program),
      hparams=algorithm.hparams,
      created_at=records.now(),
  )
  archive.add_candidate(made)
  return made


def role(config: cell_lib.Config) -> records.Role:
  """What an algorithm is in a sweep: canary, baseline, or from elsewhere."""
  if config.artifact is not None:
    return "generated"
  family = catalog.describe(config.algorithm).family
  return "canary" if family == "canary" else "baseline"


def _label(config: cell_lib.Config, algorithm: types.Algorithm) -> str:
  """The algorithm and the constants that are not its own."""
  own = cell_lib.algorithm_of(dataclasses.replace(config, hparams={}))
  changed = [
      f"{name}={value:g}"
      for name, value in algorithm.hparams.items()
      if value != own.hparams[name]
  ]
  return " ".join([algorithm.name, *changed])


def _free(name: str, taken: set[str]) -> str:
  """The name, numbered if it is taken: by an earlier text of the algorithm."""
  names = (f"{name} #{i}" if i else name for i in range(len(taken) + 1))
  return next(n for n in names if n not in taken)
