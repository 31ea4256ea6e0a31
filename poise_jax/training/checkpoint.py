"""Checkpoints of a training run: one directory a step, whole or not there.

    DIR/<step>/arrays   params, optimizer, algorithm state, history: any pytree
    DIR/<step>/record   JSON: meta, metrics, fingerprint, versions, leaves

Orbax writes them in the background, under another name until the last byte is
there. A process killed at any moment therefore leaves the step before as the
latest. Random keys are not saved: they are derived from (seed, step).
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import logging
import math
import os
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from poise_jax.training import checkpoint_directory as directory_lib
from poise_jax.training import checkpoint_leaves as leaves_lib
from poise_jax.training import checkpoint_record as record_lib

Metrics = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Retention:
  """Which steps stay on disk: the newest and the best, together.

  Attributes:
    last: the newest so many; at least 1, where a run resumes.
    best: the best so many by `metric`, on top of them. Of equals the newer is
      better. Steps without the metric, or with NaN, are never best.
    metric: name among the metrics given to `save`.
    larger_is_better: whether more of it is better.
  """

  last: int = 2
  best: int = 1
  metric: str = "reward"
  larger_is_better: bool = True

  def __post_init__(self):
    if self.last < 1 or self.best < 0:
      raise ValueError(
          "`last` must be at least 1 and `best` at least 0, got"
          f" {self.last} and {self.best}"
      )

  def ranked(self, metrics: Mapping[int, Metrics]) -> list[int]:
    """Steps that have the metric, best first; `metrics` is by step."""
    sign = 1 if self.larger_is_better else -1
    scores = {
        step: sign * values[self.metric]
        for step, values in metrics.items()
        if not math.isnan(values.get(self.metric, math.nan))
    }
    return sorted(scores, key=lambda s: (scores[s], s), reverse=True)

  def kept(self, metrics: Mapping[int, Metrics]) -> set[int]:
    """Steps that stay, of those in `metrics`."""
    return {*sorted(metrics)[-self.last :], *self.ranked(metrics)[: self.best]}


class Checkpoints:
  """The checkpoints in one directory; made by `open` and `read`.

  All processes of a run call its methods together, each from one thread.
  """

  def __init__(
      self,
      directory: str,
      retention: Retention,
      fingerprint: dict[str, Any] | None,
      *,
      writes: bool,
  ):
    self._directory, self._retention = directory, retention
    self._fingerprint, self._writes = fingerprint, writes
    self._metrics: dict[int, Metrics] = {}
    options = ocp.CheckpointManagerOptions(
        create=False,
        read_only=not writes,
        cleanup_tmp_directories=writes and directory_lib.is_url(directory),
        todelete_subdir=directory_lib.DELETED,
        preservation_policy=_Preserve(retention, self._metrics),
    )
    self._manager = ocp.CheckpointManager(directory, options=options)

  def check(self) -> None:
    """Reads the record of each step.

    Raises:
      ValueError: if one cannot be read, or is of another run.
    """
    for step in self.steps():
      record = self.record(step)
      self._check_fingerprint(record)
      self._metrics[step] = record.metrics

  def save(
      self, step: int, arrays: Any, meta: Mapping[str, Any], metrics: Metrics
  ) -> None:
    """Starts writing a step; returns once its arrays are copied to the host.

    They may be donated or changed right after. Waits for the save before. The
    steps that `Retention` lets go are dropped once this one is whole.

    Args:
      step: training steps done; greater than any step there.
      arrays: pytree of arrays, Python and NumPy numbers. None and empty
        containers may be in it.
      meta: anything JSON-able that is needed to continue or to rebuild the
        model, e.g. the position in the data.
      metrics: for `Retention`; may lack its metric, may be NaN.

    Raises:
      ValueError: if the step is not a new one, the checkpoints were opened by
        `read`, or there is nothing in `arrays`. Nothing is written.
      TypeError: if a leaf is no array of numbers or is a random key, or `meta`
        is not JSON-able. Nothing is written.
      OSError: if this or the save before failed; older steps are unharmed.
    """
    if not self._writes:
      raise ValueError("checkpoints opened by `read` cannot save: use `open`")
    latest = self.latest()
    if step < 0 or (latest is not None and step <= latest):
      raise ValueError(
          f"`step` must be greater than the latest step {latest}, got {step}:"
          " continue from the latest step, or use another directory"
      )
    named = leaves_lib.named("arrays", arrays)
    record = record_lib.Record(
        step=step,
        meta=record_lib.as_json("meta", meta),
        metrics=record_lib.as_json("metrics", metrics),
        fingerprint=self._fingerprint or {},
        versions=record_lib.versions(),
        leaves={n: leaves_lib.describe(leaf) for n, leaf in named.items()},
        weak=[n for n, leaf in named.items() if leaves_lib.is_weak(leaf)],
        retention=dataclasses.asdict(self._retention),
    )
    # Orbax refuses arrays without elements.
    stored = {
        name: leaves_lib.storable(leaf)
        for name, leaf in named.items()
        if not leaves_lib.is_empty(leaf)
    }
    directory_lib.purge(self._directory)
    self._metrics[step] = record.metrics
    args = ocp.args.Composite(
        arrays=ocp.args.StandardSave(stored),
        record=ocp.args.JsonSave(record._asdict()),
    )
    try:
      self._manager.save(step, args=args, force=True)
    except Exception as error:
      raise self._failed(error) from error

  def wait(self) -> None:
    """Waits until the save under way, if any, is whole.

    Raises:
      OSError: if it failed; older steps are unharmed.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      raise self._failed(error) from error

  def steps(self) -> list[int]:
    """All steps there, ascending; waits for a save under way."""
    self.wait()
    return sorted(self._manager.all_steps())

  def latest(self) -> int | None:
    """The newest step, None if there is none; waits for a save under way."""
    return max(self.steps(), default=None)

  def best(self) -> int | None:
    """The best step there is, None if none has the metric of `Retention`."""
    metrics = {step: self.record(step).metrics for step in self.steps()}
    return next(iter(self._retention.ranked(metrics)), None)

  def record(self, step: int) -> record_lib.Record:
    """What a step says about itself, whatever its fingerprint.

    Raises:
      FileNotFoundError: if there is no such step.
      ValueError: if it cannot be read.
    """
    if step not in (steps := self.steps()):
      there = f"only the steps {steps}" if steps else "no checkpoint yet"
      raise FileNotFoundError(
          f"no step {step} in {self._directory!r}, which has {there}"
      )
    args = ocp.args.Composite(record=ocp.args.JsonRestore())
    try:
      return record_lib.Record(**self._manager.restore(step, args=args).record)
    except Exception as error:
      raise self._unreadable(step, error) from error

  def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
    """Reads a step, bit for bit, onto the devices that `like` names.

    Args:
      step: which one.
      like: pytree of the structure that was saved, whose values are not read.
        Leaves are jax arrays or `jax.ShapeDtypeStruct`s whose sharding says
        where to (any mesh; the first local device if there is none), or NumPy
        arrays and numbers, which come back as such.

    Returns:
      The arrays, and `meta`.

    Raises:
      FileNotFoundError: if there is no such step.
      ValueError: if it is of another run or of another model, or cannot be
        read. All differences are found before an array is read, and listed.
    """
    record = self.record(step)
    self._check_fingerprint(record)
    named = leaves_lib.named("like", like)
    if misfits := leaves_lib.misfits(record.leaves, named):
      raise ValueError(
          f"step {step} in {self._directory!r} does not fit `like`:"
          f" {record_lib.listed(misfits)}; build the model and optimizer of the"
          " run that saved it, or use another directory"
      )
    targets = {
        name: leaves_lib.target(leaf)
        for name, leaf in named.items()
        if not leaves_lib.is_empty(leaf)
    }
    args = ocp.args.Composite(arrays=ocp.args.StandardRestore(targets))
    try:
      found = self._manager.restore(step, args=args).arrays
    except Exception as error:
      raise self._unreadable(step, error) from error
    leaves = [
        leaves_lib.finished(leaf, found.get(name), weak=name in record.weak)
        for name, leaf in named.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves), record.meta

  def close(self) -> None:
    """Waits for the save under way, and lets go of the directory."""
    try:
      self.wait()
    finally:
      with contextlib.suppress(Exception):  # `wait` raised it
        self._manager.close()
      if self._writes:
        directory_lib.purge(self._directory)

  def _check_fingerprint(self, record: record_lib.Record) -> None:
    if self._fingerprint is None:
      return
    if found := record_lib.differences(record.fingerprint, self._fingerprint):
      raise ValueError(
          f"step {record.step} in {self._directory!r} was saved with another"
          f" configuration: {record_lib.listed(found)}; go back to the values"
          " there, or use another directory"
      )

  def _failed(self, error: Exception) -> OSError:
    # Orbax counts the lost step, and no longer those it was to make way for.
    self._manager.reload()
    steps = list(self._manager.all_steps())
    for lost in self._metrics.keys() - set(steps):
      del self._metrics[lost]
    return OSError(
        f"cannot save to {self._directory!r} ({error}): the steps {steps} are"
        " unharmed; see to space and permissions, then continue from there"
    )

  def _unreadable(self, step: int, error: Exception) -> ValueError:
    path = os.path.join(self._directory, str(step))
    before = [s for s in self._manager.all_steps() if s < step]
    return ValueError(
        f"cannot read {path!r} ({type(error).__name__}: {error}); if its files"
        " are damaged, move it away, and the run continues from"
        f" {f'step {max(before)}' if before else 'the start'}"
    )


@contextlib.contextmanager
def open(
    directory: str | os.PathLike[str],
    retention: Retention,
    *,
    fingerprint: Mapping[str, Any],
) -> Iterator[Checkpoints]:
  """Opens the checkpoints of a run, to continue it and to add to them.

  Leaving waits for the save under way. What a killed process left unfinished
  is removed; whole steps are not touched before the first save.

  Args:
    directory: of this run alone; created if absent. Local, or a URL that orbax
      can write, such as gs://bucket/path; the same for all processes.
    retention: which steps to keep.
    fingerprint: JSON-able; whatever must not change over a run: model,
      optimizer, seed, task. Nested mappings are compared field by field.

  Yields:
    The checkpoints there.

  Raises:
    ValueError: if a step there has another fingerprint (the fields that differ
      are listed), or cannot be read.
    NotADirectoryError: if `directory` is a file.
    RuntimeError: if another process has it open for writing (local only).
  """
  fields = record_lib.as_json("fingerprint", fingerprint)
  place = directory_lib.absolute(directory)
  directory_lib.make(place)
  with _quiet(), directory_lib.locked(place):
    directory_lib.purge(place)
    checkpoints = Checkpoints(place, retention, fields, writes=True)
    with contextlib.closing(checkpoints):
      checkpoints.check()
      yield checkpoints


@contextlib.contextmanager
def read(
    directory: str | os.PathLike[str],
    retention: Retention = Retention(),
    *,
    fingerprint: Mapping[str, Any] | None = None,
) -> Iterator[Checkpoints]:
  """Opens checkpoints without changing anything, even while a run adds some.

  Args:
    directory: of a run.
    retention: tells which step is best.
    fingerprint: as in `open`; None restores the steps of any run.

  Yields:
    The checkpoints there at this moment.

  Raises:
    FileNotFoundError: if there is no such directory.
  """
  place = directory_lib.absolute(directory)
  directory_lib.require(place)
  fields = None
  if fingerprint is not None:
    fields = record_lib.as_json("fingerprint", fingerprint)
  with _quiet():
    checkpoints = Checkpoints(place, retention, fields, writes=False)
    with contextlib.closing(checkpoints):
      yield checkpoints


class _Preserve(NamedTuple):
  """Tells orbax which steps to keep."""

  retention: Retention
  metrics: Mapping[int, Metrics]

  def should_preserve(
      self, checkpoints: Sequence[Any], *, context: Any
  ) -> list[bool]:
    del context
    steps = [checkpoint.step for checkpoint in checkpoints]
    kept = self.retention.kept({s: self.metrics.get(s, {}) for s in steps})
    return [step in kept for step in steps]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps orbax from narrating each save; its errors are raised anyway."""

  def is_ours(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname

  logger = logging.getLogger("absl")
  logger.addFilter(is_ours)
  try:
    yield
  finally:
    logger.removeFilter(is_ours)
