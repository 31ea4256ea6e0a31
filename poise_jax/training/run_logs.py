"""What a run writes down of its steps: metrics, and completions to read."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import pathlib
from typing import Any, NamedTuple

from jaxtyping import Int
import numpy as np

from poise_jax import sharding
from poise_jax.training import (
    collect,
    completions_log,
    sinks,
    throughput,
)
from poise_jax.training import (
    metrics as metrics_lib,
)
from poise_jax.training import (
    trainer as trainer_lib,
)

Values = Mapping[str, float]
# (tokens, lengths) to texts.
Decode = Callable[[Any, Any], list[str]]
# Of a step counted from 0, its rollout and its values.
LogFn = Callable[[int, collect.Rollout, Values], None]


class Tell(NamedTuple):
  """How completions are told as text.

  Attributes:
    prompt_of: a problem's prompt as text.
    decode: of completions.
    count: kept of each step.
  """

  prompt_of: Callable[[Any], str]
  decode: Decode
  count: int


def values(
    trainer: trainer_lib.Trainer,
    result: trainer_lib.StepResult,
    found: Values,
    times: Values,
) -> dict[str, float]:
  """All that is logged of a step.

  Args:
    trainer: that made it.
    result: of the step.
    found: by evaluation.
    times: seconds, `time/train` at least, see `throughput.Stopwatch.lap`.
  """
  known = metrics_lib.values(result.metrics) | found
  rates = throughput.rates(
      tokens=known["num_tokens"],
      seconds=times["time/train"],
      flops=trainer.flops(result.rollout),
      devices=list(trainer.mesh.devices.flat),
  )
  phases = metrics_lib.values(result.times)
  skipped = {"skipped_updates": float(result.state.skipped)}
  return known | phases | times | rates | skipped


@contextlib.contextmanager
def open_logs(
    workdir: pathlib.Path,
    start: int,
    tell: Tell,
    more_sinks: Callable[[int], sinks.Sink],
) -> Iterator[LogFn]:
  """Opens WORKDIR/metrics.jsonl and WORKDIR/completions.jsonl.

  Lines of `start` and later steps are taken away. Process 0 alone writes, but
  every process must log every step, for completions may be spread over all.

  Args:
    workdir: of the run.
    start: steps that are done.
    tell: the completions.
    more_sinks: makes further sinks for a run that starts at a step.
  """
  with contextlib.ExitStack() as stack:
    write = keep = None
    if sharding.is_writer():
      write = sinks.combine(
          sinks.to_jsonl(workdir / "metrics.jsonl", start_step=start),
          more_sinks(start),
      )
      stack.callback(write.close)
      keep = completions_log.open_log(
          workdir / "completions.jsonl", start_step=start, keep=tell.count
      )
      stack.callback(keep.close)

    def log(step: int, rollout: collect.Rollout, values: Values) -> None:
      tokens = sharding.fetch(rollout.rows.tokens)
      if write and keep:
        describe = _describe(rollout, tokens, tell)
        keep(step, rollout.grades.correct.size, describe)
        write(step, values)

    yield log


def _describe(
    rollout: collect.Rollout,
    tokens: Int[np.ndarray, "N T"],
    tell: Tell,
) -> Callable[[int], completions_log.Completion]:
  """Makes the function that tells a row of a rollout as text."""
  grades, group_size = rollout.grades, rollout.grades.correct.shape[1]

  def describe(row: int) -> completions_log.Completion:
    place = divmod(row, group_size)
    length = grades.lengths[place].reshape(1).astype(int)
    return completions_log.Completion(
        prompt=tell.prompt_of(rollout.problems[place[0]]),
        completion=tell.decode(tokens[row : row + 1], length)[0],
        reward=float(grades.correct[place]),
        correct=bool(grades.correct[place]),
        valid=bool(grades.format_valid[place]),
        truncated=bool(grades.truncated[place]),
        length=int(length[0]),
        policy_version=rollout.version,
    )

  return describe
