"""A training run that lives in a directory, and can be stopped at any moment.

    WORKDIR/checkpoints/    what a run continues from
    WORKDIR/metrics.jsonl   one line a step
    WORKDIR/completions.jsonl   a few completions of each step, to read
    WORKDIR/policy/         the trained policy as a Hugging Face directory

The same call continues a run that was interrupted or killed: it starts from
the newest whole checkpoint, and repeats what came after it bit for bit, since
all random numbers are derived from (seed, step).

A line of the metrics has the seconds of its step: those of `StepResult.times`,
`time/train` (all of them and what is between), `time/evaluate` if it was
evaluated, `time/checkpoint` for what the save after the step before took of the
main thread (it goes on in the background), and `time/step`, everything since
the line before.
"""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import os
import pathlib
import re
from typing import Any, NamedTuple

from flax import nnx

from poise_jax import types
from poise_jax.training import (
    checkpoint,
    continuation,
    preemption,
    run_logs,
    sinks,
    throughput,
)
from poise_jax.training import (
    environment as environment_lib,
)
from poise_jax.training import (
    metrics as metrics_lib,
)
from poise_jax.training import (
    state as state_lib,
)
from poise_jax.training import (
    trainer as trainer_lib,
)

Values = run_logs.Values


@dataclasses.dataclass(frozen=True)
class RunConfig:
  """What a run keeps, and how often.

  Attributes:
    seed: of prompts and sampling.
    checkpoint_every: steps between checkpoints.
    evaluate_every: steps between evaluations; 0 for none but the last.
    retention: which checkpoints stay. Where its metric is one of evaluation,
      each evaluation is followed by a checkpoint, so that the best is there.
    completions: kept of each step, for people to read; 0 for none.
  """

  seed: int = 0
  checkpoint_every: int = 10
  evaluate_every: int = 0
  retention: checkpoint.Retention = checkpoint.Retention()
  completions: int = 4

  def __post_init__(self):
    for name, least in (
        *(("seed", 0), ("checkpoint_every", 1)),
        *(("evaluate_every", 0), ("completions", 0)),
    ):
      if getattr(self, name) < least:
        raise ValueError(
            f"`{name}` must be at least {least}, got {getattr(self, name)}"
        )
    if self.keeps_evaluated and not self.evaluate_every:
      raise ValueError(
          f"`retention.metric` {self.retention.metric!r} is known of steps that"
          " are evaluated: set --config.run.evaluate_every, or another metric"
      )

  @property
  def keeps_evaluated(self) -> bool:
    """Whether a value of `EvaluateFn` says which checkpoints are best."""
    kept = self.retention
    return kept.best > 0 and kept.metric.startswith("eval/")


class RunResult(NamedTuple):
  """How a run ended.

  Attributes:
    state: at the end.
    start: steps that were done before.
    finished: whether all steps are done; else it was told to stop.
    exit_code: for the process, see `preemption.Watch`; 0 if it finished.
  """

  state: state_lib.TrainState
  start: int
  finished: bool
  exit_code: int


# Values to report of params; called with the seed.
EvaluateFn = Callable[[nnx.State, int], Values]
# Called once, before anything large compiles, with the steps already done.
OnStart = Callable[[int], None]
# Called after each step with (steps done, all values of the step).
OnStep = Callable[[int, Values], None]
Decode = run_logs.Decode


def train(
    trainer: trainer_lib.Trainer,
    params: nnx.State,
    algorithm: types.Algorithm,
    environment: environment_lib.Environment,
    config: RunConfig,
    workdir: str | os.PathLike[str],
    *,
    fingerprint: Mapping[str, Any],
    decode: Decode,
    evaluate: EvaluateFn | None = None,
    more_sinks: Callable[[int], sinks.Sink] = lambda start: sinks.combine(),
    on_start: OnStart = lambda step: None,
    on_step: OnStep = lambda step, values: None,
) -> RunResult:
  """Trains in a directory, from its newest checkpoint if it has one.

  A run that is finished is given back as it is, and nothing is written.

  Args:
    trainer: the compiled steps.
    params: of the base policy; the reference too.
    algorithm: how to learn.
    environment: the task.
    config: what is kept.
    workdir: of this run alone; in a file system.
    fingerprint: what must not change over a run, beyond algorithm, training
      configuration and seed, which are added: the base policy, the task.
    decode: (tokens, lengths) to texts, for the sample of completions.
    evaluate: scores params; its values are logged as `eval/<name>`.
    more_sinks: makes further sinks for a run that starts at a step.
    on_start: told where it starts, once the directory is found in order.
    on_step: told about each step.

  Returns:
    How it ended. On SIGTERM or SIGINT a step that is being learned from is
    finished; one whose completions are being sampled is left after the round,
    and will be done again. What is finished is saved first.

  Raises:
    ValueError: if the directory holds another run or is a URL.
    RuntimeError: if another process trains there.
    OSError: if a checkpoint cannot be written.
  """
  check_workdir(workdir)
  workdir = pathlib.Path(workdir)
  fields = continuation.identity(trainer.config, algorithm, config.seed)
  fields |= fingerprint
  with contextlib.ExitStack() as stack:
    stop = stack.enter_context(preemption.watch())
    checkpoints = stack.enter_context(
        checkpoint.open(
            workdir / "checkpoints", config.retention, fingerprint=fields
        )
    )
    state = _begin(checkpoints, trainer, params, algorithm, environment)
    on_start(start := state.step)
    if start == trainer.config.steps:
      return RunResult(state, start, True, 0)
    reference = trainer.reference(state, params)
    tell = run_logs.Tell(environment.prompt_of, decode, config.completions)
    log = stack.enter_context(
        run_logs.open_logs(workdir, start, tell, more_sinks)
    )
    clock = throughput.Stopwatch()
    # Asked at the same places, and so equally often, by all processes, which
    # answer together: after each round of sampling, and after each step.
    stopping, unsaved = stop(), None
    while state.step < trainer.config.steps and not stopping:
      try:
        with clock.time("train"):
          result = trainer.step(
              *(state, reference, algorithm, environment, config.seed),
              pause=stop.leave,
          )
      except preemption.StopError:
        if unsaved is not None:
          continuation.save(checkpoints, state, unsaved)
        break
      state = result.state
      found = _evaluated(evaluate, trainer, state, config, clock)
      values = run_logs.values(trainer, result, found, clock.lap())
      # Logs come before the checkpoint: a kill between them repeats the step,
      # and its lines are replaced. The other way round they would be missing.
      parts = metrics_lib.parts(result.metrics)
      log(state.step - 1, result.rollout, values, parts)
      stopping, unsaved = stop(), values
      last = state.step == trainer.config.steps
      if last or stopping or _is_kept(config, state.step, found):
        with clock.time("checkpoint"):
          continuation.save(checkpoints, state, values)
        unsaved = None
      on_step(state.step, values)
    finished = state.step == trainer.config.steps
    return RunResult(state, start, finished, 0 if finished else stop.exit_code)


def check_workdir(workdir: str | os.PathLike[str]) -> None:
  """Refuses what is no directory of a file system.

  Logs are appended to and cut back, one process locks the checkpoints, and a
  step appears by a rename: an object store can do none of it.

  Raises:
    ValueError: if it is a URL, such as gs://bucket/run.
  """
  text = os.fspath(workdir)
  # As a path, a URL has lost a slash.
  if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text):
    raise ValueError(
        f"the directory of a run must be in a file system, got {text!r}; mount"
        " the bucket (for gs:// with gcsfuse) or take a shared disk, at the same"
        " path on every machine, and give that path"
    )


def _begin(
    checkpoints: checkpoint.Checkpoints,
    trainer: trainer_lib.Trainer,
    params: nnx.State,
    algorithm: types.Algorithm,
    environment: environment_lib.Environment,
) -> state_lib.TrainState:
  """The state of the newest checkpoint, or a fresh one; never both in memory."""
  latest = checkpoints.latest()
  if latest is None:
    return trainer.start(params, algorithm, environment)
  like = trainer.expect(params, algorithm, environment)
  return continuation.restore(checkpoints, latest, like)


def _evaluated(
    evaluate: EvaluateFn | None,
    trainer: trainer_lib.Trainer,
    state: state_lib.TrainState,
    config: RunConfig,
    clock: throughput.Stopwatch,
) -> dict[str, float]:
  """What evaluation says after a step, by its names; nothing if not due."""
  last = state.step == trainer.config.steps
  if evaluate is None or not (last or _due(state.step, config.evaluate_every)):
    return {}
  with clock.time("evaluate"):
    found = evaluate(trainer.policy(state), config.seed)
    return {f"eval/{name}": value for name, value in found.items()}


def _is_kept(config: RunConfig, step: int, found: Values) -> bool:
  """Whether a checkpoint is due, or evaluation may have found the best."""
  evaluated = config.keeps_evaluated and config.retention.metric in found
  return evaluated or _due(step, config.checkpoint_every)


def _due(step: int, every: int) -> bool:
  return every > 0 and step % every == 0
