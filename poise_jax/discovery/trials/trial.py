"""One trial: an algorithm trains the base policy, and the result is scored.

A trial is a pure function of what `Laboratory.key` lists. The laboratory
compiles the policy once; every candidate then adds its own small loss.
"""

from collections.abc import Callable, Mapping, Sequence
import concurrent.futures
import contextlib
import copy
import dataclasses
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import threading
from typing import Any, NamedTuple

from flax import nnx
import jax
import numpy as np

import poise_jax
from poise_jax import types
from poise_jax.archive import records
from poise_jax.discovery.trials import budgets
from poise_jax.discovery.trials import perplexity as perplexities
from poise_jax.discovery.trials import variation as variations
from poise_jax.evaluation import suite
from poise_jax.models import checkpoints
from poise_jax.rollout import tokenizer as tokenizer_lib
from poise_jax.tasks import arithmetic, embedded
from poise_jax.training import loop

EMBEDDED = "embedded"


class Setting(NamedTuple):
  """Where candidates are measured; scores of two settings never compare.

  Attributes:
    budget: name of the budget, or of a variation of one, see `variation`.
    split: which problems are scored.
    base: `embedded`, or the directory of another policy.
  """

  budget: str
  split: arithmetic.Split
  base: str = EMBEDDED


class Measurement(NamedTuple):
  """One trial that is wanted.

  Attributes:
    candidate: what to train with.
    seed: of training and scoring.
    setting: where.
  """

  candidate: records.Candidate
  seed: int
  setting: Setting


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of one trial.

  Attributes:
    diverged: why training broke down; empty if it did not.
    metrics: scores, empty if diverged or if the budget scores nothing.
    curve: training curve, up to where it got.
  """

  diverged: str
  metrics: Mapping[str, float]
  curve: Mapping[str, list[float]]


def base_directory(base: str) -> pathlib.Path:
  """Directory of a base policy: a shipped one by its name, or a path."""
  models = pathlib.Path(checkpoints.__file__).parent
  if base == EMBEDDED:
    return models / "embedded_policy"
  if base in _OTHERS:
    return models / "embedded_policies" / base
  return pathlib.Path(base)


# By task: where campaigns start, and where they ask once more.
SHIPPED = {
    "arithmetic": (EMBEDDED, "arithmetic_second"),
    "carryless": ("carryless", "carryless_second"),
}
_OTHERS = ("arithmetic_second", "carryless", "carryless_second")


@functools.cache
def _sources() -> str:
  """Hash of the package's own modules, but those that only store or show.

  Taken once: a process runs what it has loaded, whatever becomes of the files.
  """
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
    task: which problems are trained on and scored.
    variation: what is changed of a named budget, None if nothing is.
    base_sha256: hash of the base checkpoint.
    versions: see `versions`.
  """

  variation: variations.Variation | None = None

  def __init__(
      self,
      base: str,
      budget: budgets.Budget,
      task: embedded.Task = embedded.ARITHMETIC,
  ):
    directory = base_directory(base)
    checkpoint = checkpoints.load(directory)
    tokenizer = tokenizer_lib.load(directory)
    # Longer answers than the task allows are wrong.
    budget = dataclasses.replace(
        budget,
        train=dataclasses.replace(
            budget.train,
            completion_length=min(
                budget.train.completion_length, task.completion_length
            ),
        ),
    )
    self.budget = budget
    self.task = task
    self.base_sha256 = checkpoint.sha256
    self.versions = versions()
    self._params = checkpoint.params
    self._make_train = functools.cache(
        lambda config: loop.make_train(
            checkpoint.graphdef, checkpoint.params, tokenizer, config, task
        )
    )
    self._train = self._make_train(budget.train)
    self._evaluate = lambda params, seed, split: {}
    if budget.evaluate is not None:
      self._evaluate = _make_evaluate(
          checkpoint.graphdef, tokenizer, budget.evaluate, task
      )
    # Shared with variations: programs that are compiled.
    self._warm: list[Callable] = []

  def varied(self, variation: variations.Variation) -> "Laboratory":
    """This laboratory with something changed; shares all that it can.

    Scoring is never compiled anew, and training only where its own sizes or
    its learning rate change.
    """
    other = copy.copy(self)
    other.variation = variation
    other.budget = variation.applied(self.budget)
    other._train = self._make_train(other.budget.train)
    return other

  @property
  def conditions(self) -> dict[str, Any]:
    """What all trials of a campaign have in common, JSON-like."""
    return {
        "task": self.task.name,
        "base": self.base_sha256,
        "budget": dataclasses.asdict(self.budget),
        "versions": self.versions,
    }

  def key(
      self, candidate: records.Candidate, split: arithmetic.Split, seed: int
  ) -> dict[str, Any]:
    """All that a trial's outcome is a function of, JSON-like."""
    key = {
        "candidate": candidate.id,
        "artifact": candidate.artifact_sha256,
        "hparams": dict(candidate.hparams) | self._constants,
        "split": split.name.lower(),
        "seed": seed,
    } | self.conditions
    if self.variation is not None:
      key["variation"] = self.variation.changes
    return key

  @property
  def _constants(self) -> dict[str, float]:
    return {} if self.variation is None else dict(self.variation.constants)

  def run(
      self,
      algorithm: types.Algorithm,
      split: arithmetic.Split,
      seed: int,
      on_step: loop.OnStep = lambda step: None,
  ) -> Outcome:
    """Trains with `algorithm` and scores on `split`."""
    hardship = loop.NO_HARDSHIP
    if self.variation is not None:
      hardship = self.variation.hardship
      algorithm = algorithm._replace(
          hparams=dict(algorithm.hparams) | self._constants
      )
    trained = self._train(
        self._params, algorithm, seed, on_step, hardship=hardship
    )
    if trained.diverged:
      return Outcome(trained.diverged, {}, trained.curve)
    metrics = self._evaluate(trained.params, seed, split)
    if not metrics:
      return Outcome("", {}, trained.curve)
    late = {name: _late(trained.curve[name]) for name in ("entropy", "kl")}
    return Outcome("", metrics | late, trained.curve)

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

    score = functools.partial(self.score_base, arithmetic.Split.SEARCH, 0)
    programs = {self._evaluate: score, self._train: train_one_step}
    cold = {f: run for f, run in programs.items() if f not in self._warm}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      jobs = [pool.submit(run) for run in cold.values()]
    for job in jobs:
      job.result()
    self._warm.extend(cold)


def _late(values: Sequence[float]) -> float:
  """Median of the last quarter: single steps spike in healthy runs."""
  return float(np.median(values[-max(len(values) // 4, 1) :]))


def _make_evaluate(
    graphdef: nnx.GraphDef,
    tokenizer: tokenizer_lib.Tokenizer,
    config: suite.SuiteConfig,
    task: embedded.Task,
) -> Callable[[nnx.State, int, arithmetic.Split], dict[str, float]]:
  """Scores of the suite, and `heldout_perplexity`."""
  scores = suite.make_evaluate(graphdef, tokenizer, config, task)
  perplexity = perplexities.make_perplexity(graphdef, tokenizer, task)
  return lambda params, seed, split: scores(params, seed, split) | {
      "heldout_perplexity": perplexity(params, split)
  }


class _StepDoneError(Exception):
  """Ends training after its first step."""


class Laboratories:
  """The laboratories of a campaign, each made when it is first needed.

  Safe to use from several threads.
  """

  def __init__(self, make: Callable[[str, budgets.Budget], Laboratory]):
    self._make = make
    self._made: dict[tuple[str, str], Laboratory] = {}
    self._lock = threading.Lock()

  def at(self, setting: Setting) -> Laboratory:
    """The laboratory of a setting.

    Raises:
      ValueError: if there is no such budget.
      FileNotFoundError: if there is no such base.
    """
    with self._lock:
      return self._find(setting.base, setting.budget)

  def _find(self, base: str, name: str) -> Laboratory:
    if (base, name) not in self._made:
      variation = variations.read(name)
      if variation is None:
        made = self._make(base, budgets.named(name))
      else:
        made = self._find(base, variation.budget).varied(variation)
      self._made[base, name] = made
    return self._made[base, name]
