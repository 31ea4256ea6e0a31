"""One trial: an algorithm trains the base policy, and the result is scored.

A trial is a pure function of what `Laboratory.key` lists. The laboratory
compiles the policy once; every candidate then adds its own small loss.
"""

from collections.abc import Mapping
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import os
import pathlib
import platform
from typing import Any

import jax

import poise_jax
from poise_jax import types
from poise_jax.archive import records
from poise_jax.discovery import budgets
from poise_jax.evaluation import suite
from poise_jax.models import checkpoints
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import arithmetic
from poise_jax.training import loop

EMBEDDED = "embedded"
_TASK = "arithmetic-1"  # raise when problems, grading or suite change


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of one trial.

  Attributes:
    diverged: why training broke down; empty if it did not.
    metrics: scores, empty if diverged.
    curve: training curve, up to where it got.
  """

  diverged: str
  metrics: Mapping[str, float]
  curve: Mapping[str, list[float]]


def base_directory(base: str) -> pathlib.Path:
  """Directory of the base policy: the shipped one, or a path."""
  if base == EMBEDDED:
    return pathlib.Path(checkpoints.__file__).parent / "embedded_policy"
  return pathlib.Path(base)


def _sources() -> str:
  """Hash of the package's own modules, but those that only store or show."""
  root = pathlib.Path(poise_jax.__file__).parent
  digest = hashlib.sha256()
  for path in sorted(root.rglob("*.py")):
    name = path.relative_to(root).as_posix()
    if not name.startswith(("archive/", "report/")):
      digest.update(f"{name} {path.stat().st_size}\n".encode())
      digest.update(path.read_bytes())
  return digest.hexdigest()


def _processor() -> str:
  """The kind of CPU, as the system names it."""
  with contextlib.suppress(OSError):
    for line in pathlib.Path("/proc/cpuinfo").read_text("utf-8").splitlines():
      if line.startswith("model name"):
        return line.partition(":")[2].strip()
  return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
  """Versions of whatever could change a bit of the result."""
  names = (
      *("jax", "jaxlib", "flax", "optax", "numpy"),
      *("scipy", "scikit-learn", "tokenizers"),
  )
  found = {name: importlib.metadata.version(name) for name in names}
  return found | {
      "poise_jax": _sources(),
      "processor": _processor(),
      "backend": jax.default_backend(),
      "xla_flags": os.environ.get("XLA_FLAGS", ""),
      "threads": os.environ.get("NPROC", str(os.cpu_count())),
  }


class Laboratory:
  """A base policy with everything compiled to train and score it.

  Safe to use from several threads.

  Attributes:
    budget: how much training and scoring one trial gets.
    base_sha256: hash of the base checkpoint.
    versions: see `versions`.
  """

  def __init__(self, base: str, budget: budgets.Budget):
    directory = base_directory(base)
    checkpoint = checkpoints.load(directory)
    tokenizer = tokenizer_lib.load(directory)
    self.budget = budget
    self.base_sha256 = checkpoint.sha256
    self.versions = versions()
    self._params = checkpoint.params
    self._train = loop.make_train(
        checkpoint.graphdef, checkpoint.params, tokenizer, budget.train
    )
    self._evaluate = suite.make_evaluate(
        checkpoint.graphdef, tokenizer, budget.evaluate
    )

  @property
  def conditions(self) -> dict[str, Any]:
    """What all trials of a campaign have in common, JSON-like."""
    return {
        "task": _TASK,
        "base": self.base_sha256,
        "budget": dataclasses.asdict(self.budget),
        "versions": self.versions,
    }

  def key(
      self, candidate: records.Candidate, split: arithmetic.Split, seed: int
  ) -> dict[str, Any]:
    """All that a trial's outcome is a function of, JSON-like."""
    return {
        "candidate": candidate.id,
        "artifact": candidate.artifact_sha256,
        "hparams": dict(candidate.hparams),
        "split": split.name.lower(),
        "seed": seed,
    } | self.conditions

  def run(
      self,
      algorithm: types.Algorithm,
      split: arithmetic.Split,
      seed: int,
      on_step: loop.OnStep = lambda step: None,
  ) -> Outcome:
    """Trains with `algorithm` and scores on `split`."""
    trained = self._train(self._params, algorithm, seed, on_step)
    if trained.diverged:
      return Outcome(trained.diverged, {}, trained.curve)
    metrics = self._evaluate(trained.params, seed, split)
    last = {name: trained.curve[name][-1] for name in ("entropy", "kl")}
    return Outcome("", metrics | last, trained.curve)

  def score_base(self, split: arithmetic.Split, seed: int) -> dict[str, float]:
    """Scores the base policy as it is."""
    return self._evaluate(self._params, seed, split)

  def warm_up(self, algorithm: types.Algorithm) -> None:
    """Compiles the policy's programs: scoring beside one step of training.

    Without it, trials that start together compile the same programs twice.
    """

    def stop(step: int) -> None:
      raise _StepDoneError

    def train_one_step() -> None:
      with contextlib.suppress(_StepDoneError):
        self._train(self._params, algorithm, 0, stop)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      split = arithmetic.Split.SEARCH
      jobs = [
          pool.submit(self.score_base, split, 0),
          pool.submit(train_one_step),
      ]
    for job in jobs:
      job.result()


class _StepDoneError(Exception):
  """Ends training after its first step."""
