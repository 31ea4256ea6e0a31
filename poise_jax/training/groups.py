"""Groups of graded completions: as they come, or until enough are mixed.

A round draws P problems, has G completions of each written, and grades them.
Without dynamic sampling one round is the batch.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int, Key
import numpy as np

from poise_jax import sharding
from poise_jax.rollout import engine as engine_lib
from poise_jax.rollout import generate, prompt_batches, scoring
from poise_jax.training import (
    dynamic_sampling,
    throughput,
)
from poise_jax.training import (
    environment as environment_lib,
)

# (verdicts, round counted from 0) to the verdicts that training sees, purely.
JudgeFn = Callable[[Float[np.ndarray, "P G"], int], Float[np.ndarray, "P G"]]

# A stream apart from those of the rows of the first round, which count from 0.
_LATER_ROUNDS = 2**32 - 1


class Sampling(NamedTuple):
  """How groups are sampled; the same in all rounds of a rollout.

  Attributes:
    ask: writes completions, and tells which policy did.
    environment: the task.
    key: of the first round; each other one derives its own.
    prompts: P, problems of a round.
    judge: what is made of the verdicts before anything else sees them.
    mesh: where prompts and completions go.
    watch: is charged with "rollout" and "grade".
    pause: called after each round; what it raises ends the rollout.
  """

  ask: engine_lib.SampleFn
  environment: environment_lib.Environment
  key: Key[Array, ""]
  prompts: int
  judge: JudgeFn
  mesh: jax.sharding.Mesh
  watch: throughput.Stopwatch
  pause: Callable[[], None] = lambda: None


class Groups(NamedTuple):
  """P problems with G graded completions of each.

  Attributes:
    problems: one for each group.
    prompts: theirs, [P, ...], on the mesh.
    completions: G of each prompt in a row, [P*G, ...], on the mesh.
    grades: [P, G], on the host.
    buckets: of the problems, for the history.
  """

  problems: Sequence[Any]
  prompts: prompt_batches.Prompts
  completions: generate.Completions
  grades: scoring.Grades
  buckets: Int[np.ndarray, "P"]


class Taken(NamedTuple):
  """The groups of a batch, and what is to be known of all that were sampled.

  Attributes:
    groups: in the order they were sampled.
    sampled: grades of all groups, in the batch or not.
    buckets: of all of them.
    statistics: what it took to fill the batch, None if groups were taken as
      they came.
    position: in the source, after what was drawn.
    version: of the oldest policy that wrote any of them.
  """

  groups: Groups
  sampled: scoring.Grades
  buckets: Int[np.ndarray, "N"]
  statistics: dynamic_sampling.Statistics | None
  position: Any
  version: int


class _Round(NamedTuple):
  """Groups, where the source is after them, and who wrote them."""

  groups: Groups
  position: Any
  version: int


class _Kept(NamedTuple):
  """What is held of groups while more are sampled, [P, ...], on the host.

  Attributes:
    index: of the problem among all that were drawn.
    completions: [P, G, ...].
    grades: theirs.
    buckets: of the problems.
  """

  index: Int[np.ndarray, "P"]
  completions: generate.Completions
  grades: scoring.Grades
  buckets: Int[np.ndarray, "P"]


def take(sampling: Sampling, position: Any, attempts: int) -> Taken:
  """Samples the groups of a batch.

  Args:
    sampling: how.
    position: in the source of problems, where to begin.
    attempts: rounds, at most, to find P mixed groups in; with 1 the groups of
      that round are taken, mixed or not.

  Raises:
    ValueError: as `dynamic_sampling`, if `attempts` is not 1.
  """
  if attempts == 1:
    return _as_they_come(sampling, position)
  return _until_mixed(sampling, position, attempts)


def _as_they_come(sampling: Sampling, position: Any) -> Taken:
  groups, position, version = _sample(sampling, position, 0)
  groups = groups._replace(
      completions=sharding.place(sampling.mesh, groups.completions)
  )
  return Taken(
      groups,
      sampled=groups.grades,
      buckets=groups.buckets,
      statistics=None,
      position=position,
      version=version,
  )


def _until_mixed(sampling: Sampling, position: Any, attempts: int) -> Taken:
  """Samples round after round; see `dynamic_sampling.fill`."""
  problems, versions = [], []

  def attempt(position: Any, index: int) -> dynamic_sampling.Attempt:
    groups, position, version = _sample(sampling, position, index)
    kept = _keep(groups, first=len(problems))
    problems.extend(groups.problems)
    versions.append(version)
    return dynamic_sampling.Attempt(
        kept,
        dynamic_sampling.mixed(groups.grades.correct),
        position,
        seen=(groups.grades, groups.buckets),
    )

  filled = dynamic_sampling.fill(sampling.prompts, attempts, attempt, position)
  groups = _regrouped(sampling, filled.groups, problems)
  sampled, buckets = filled.seen
  return Taken(
      *(groups, sampled, buckets),
      statistics=filled.statistics,
      position=filled.position,
      version=min(versions),
  )


def _sample(sampling: Sampling, position: Any, index: int) -> _Round:
  """Draws problems, and samples and grades a group for each.

  Completions are left where the engine put them.
  """
  environment, watch = sampling.environment, sampling.watch
  with watch.time("rollout"):
    problems, position = environment.source(position, sampling.prompts)
    prompts = sharding.place(sampling.mesh, environment.encode(problems))
    key = sampling.key
    if index:
      key = jax.random.fold_in(jax.random.fold_in(key, _LATER_ROUNDS), index)
    # Grading reads them at once: waiting here only tells the two apart.
    found, version = jax.block_until_ready(sampling.ask(prompts, key))
  with watch.time("grade"):
    grades = environment.grade(problems, found)
    grades = grades._replace(correct=sampling.judge(grades.correct, index))
  buckets = environment.buckets(problems)
  groups = Groups(list(problems), prompts, found, grades, buckets)
  sampling.pause()
  return _Round(groups, position, version)


def _keep(groups: Groups, *, first: int) -> _Kept:
  """Fetches groups; their problems count from `first`."""
  count = len(groups.problems)
  completions = jax.tree.map(
      lambda x: x.reshape(count, -1, *x.shape[1:]),
      sharding.fetch(groups.completions),
  )
  index = first + np.arange(count)
  return _Kept(index, completions, groups.grades, groups.buckets)


def _regrouped(sampling: Sampling, kept: _Kept, drawn: Sequence[Any]) -> Groups:
  """Puts groups of several rounds on the mesh, as if they were of one."""
  problems = [drawn[i] for i in kept.index]
  # Encoded anew: prompts of another round may be padded to another width.
  prompts = sampling.environment.encode(problems)
  completions = jax.tree.map(
      lambda x: x.reshape(-1, *x.shape[2:]), kept.completions
  )
  return Groups(
      problems,
      sharding.place(sampling.mesh, prompts),
      sharding.place(sampling.mesh, completions),
      kept.grades,
      kept.buckets,
  )
