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
    optimizer,
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
# Of a step counted from 0, its rollout, its values and their parts.
LogFn = Callable[[int, collect.Rollout, Values, sinks.Parts], None]


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
    times: seconds, `time/train` and `time/step` at least, see
      `throughput.Stopwatch.lap`.
  """
  known = metrics_lib.values(result.metrics) | found
  rates = throughput.rates(
      tokens=known["num_tokens"],
      seconds=times["time/train"],
      flops=trainer.flops(result.rollout),
      devices=list(trainer.mesh.devices.flat),
  )
  phases = metrics_lib.values(result.times)
  state = result.state
  made = state.step * trainer.config.updates - state.skipped
  rest = {
      "skipped_updates": float(state.skipped),
      # Of the last update, by the count of those that were made.
      "learning_rate": optimizer.rate(trainer.config, max(made - 1, 0)),
      # What TRL calls it.
      "step_time": times["time/step"],
  }
  return known | phases | times | rates | rest


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
    lines = more = keep = None
    if sharding.is_writer():
      lines = sinks.to_jsonl(workdir / "metrics.jsonl", start_step=start)
      stack.callback(lines.close)
      more = more_sinks(start)
      stack.callback(more.close)
      keep = completions_log.open_log(
          workdir / "completions.jsonl", start_step=start, keep=tell.count
      )
      stack.callback(keep.close)

    def log(
        step: int, rollout: collect.Rollout, values: Values, parts: sinks.Parts
    ) -> None:
      tokens = sharding.fetch(rollout.rows.tokens)
      if lines and more and keep:
        describe = _describe(rollout, tokens, tell)
        keep(step, rollout.grades.correct.size, describe)
        try:
          lines.write(step, values, parts)
        finally:
          more(step, values)

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
