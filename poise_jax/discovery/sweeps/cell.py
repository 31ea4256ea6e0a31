"""One cell of a sweep, run wherever an executor puts it."""

from collections.abc import Mapping
import dataclasses
import datetime
import functools
import hashlib
import pathlib
import threading

import poise_jax
from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.archive import records
from poise_jax.candidates import artifact as artifact_lib
from poise_jax.discovery.trials import budgets, faults, trial
from poise_jax.tasks import arithmetic, embedded

# Of the package, what can change a bit of an outcome.
_SOURCES = (
    "algorithms",
    "models",
    "rollout",
    "tasks",
    "training",
    "candidates/artifact.py",
    "discovery/sweeps/cell.py",
    "discovery/trials/faults.py",
    "discovery/trials/trial.py",
    "evaluation/pass_at_k.py",
    "evaluation/suite.py",
    "shapes.py",
    "sharding.py",
    "types.py",
)
_LABORATORIES = 4  # kept compiled, those used last


@dataclasses.dataclass(frozen=True)
class Config:
  """What is trained and scored with each seed.

  Attributes:
    name: unique in its sweep.
    algorithm: a name in the catalogue, or that of `artifact`.
    budget: how much training and scoring, its name stored with every score.
    hparams: constants of the algorithm that differ from its defaults.
    task: `arithmetic` or `carryless`, see `tasks.embedded`.
    base: directory of the base policy, or the name of one that is shipped.
    split: problems to score on.
    artifact: exported program of an algorithm that is not in the catalogue.
    source: its text, which the archive keeps beside it.
  """

  name: str
  algorithm: str
  budget: budgets.Budget
  hparams: Mapping[str, float] = dataclasses.field(default_factory=dict)
  task: str = "arithmetic"
  base: str = trial.EMBEDDED
  split: arithmetic.Split = arithmetic.Split.SEARCH
  artifact: bytes | None = None
  source: str = ""


@dataclasses.dataclass(frozen=True)
class Job:
  """What an executor passes on.

  Attributes:
    id: of the cell.
    config: of the cell.
    seed: of the cell.
  """

  id: str
  config: Config
  seed: int


@dataclasses.dataclass(frozen=True)
class Result:
  """What a cell gave, and when.

  Attributes:
    outcome: scores and curve, or why training broke down.
    started_at: clock.
    finished_at: clock.
  """

  outcome: trial.Outcome
  started_at: datetime.datetime
  finished_at: datetime.datetime


def versions() -> dict[str, str]:
  """Versions of whatever can change a bit of an outcome, and nothing else."""
  return trial.versions() | {"poise_jax": sources()}


@functools.cache
def sources() -> str:
  """Hash of the modules that can change an outcome, as they were at first.

  A process runs what it has loaded, whatever becomes of the files meanwhile.
  """
  root = pathlib.Path(poise_jax.__file__).parent
  digest = hashlib.sha256()
  for name in _SOURCES:
    place = root / name
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
      data = path.read_bytes()
      relative = path.relative_to(root).as_posix()
      digest.update(f"{relative} {len(data)}\n".encode() + data)
  return digest.hexdigest()


def algorithm_of(config: Config) -> types.Algorithm:
  """The algorithm with its constants.

  Raises:
    ValueError: if the algorithm or a constant is unknown.
  """
  if config.artifact is None:
    return catalog.make(config.algorithm, **config.hparams)
  loaded = _load(config.artifact, config.algorithm)
  if unknown := sorted(config.hparams.keys() - loaded.hparams.keys()):
    raise ValueError(
        f"`hparams` must be constants of {config.algorithm}, got {unknown[0]!r};"
        f" there are: {', '.join(loaded.hparams)}"
    )
  return loaded._replace(hparams=loaded.hparams | dict(config.hparams))


def run(job: Job) -> Result:
  """Trains and scores a cell; compiles what earlier cells did not.

  A loss that cannot be run at the size of training has diverged: it would on
  every run. Whatever else goes wrong is raised, for it may not happen again.
  """
  config = job.config
  algorithm = algorithm_of(config)
  laboratory = _laboratory(config.task, config.base, config.budget)
  started = records.now()
  outcome = faults.judged(
      lambda: laboratory.run(algorithm, config.split, job.seed)
  )
  return Result(outcome, started, records.now())


# One object each, so that seeds share what compiles.
_load = functools.lru_cache(maxsize=64)(artifact_lib.load)


@functools.lru_cache(maxsize=_LABORATORIES)
def _compiled(task: str, base: str, budget: budgets.Budget) -> trial.Laboratory:
  made = trial.Laboratory(base, budget, embedded.named(task))
  made.warm_up(catalog.make("grpo"))
  return made


_lock = threading.Lock()


def _laboratory(
    task: str, base: str, budget: budgets.Budget
) -> trial.Laboratory:
  """The compiled policy; threads wait for the one that compiles it."""
  with _lock:
    return _compiled(task, base, budget)
