"""What stands in the files of a run, and that they end with it."""

import jax
import numpy as np
import pytest

from poise_jax import sharding
from poise_jax.rollout import prompt_batches, scoring
from poise_jax.training import (
    collect,
    completions_log,
    config,
    metrics,
    run_logs,
    sinks,
    state,
    trainer,
)

# Two problems with two completions each.
TOKENS = np.array([[1, 2, 0], [3, 0, 0], [4, 5, 6], [7, 8, 9]], np.int32)
GRADES = scoring.Grades(
    correct=np.array([[1, 0], [0, 1]], np.float32),
    format_valid=np.array([[1, 1], [0, 1]], np.float32),
    truncated=np.array([[0, 0], [1, 0]], np.float32),
    lengths=np.array([[2, 1], [3, 3]], np.float32),
)
ROLLOUT = collect.Rollout(
    rows=scoring.Rows(
        prompt_batches.Prompts(np.zeros((2, 1), np.int32)),
        TOKENS,
        (TOKENS > 0).astype(np.float32),
    ),
    batch=None,
    problems=["a", "b"],
    grades=GRADES,
    sampled=GRADES,
    buckets=np.array([0, 1]),
    statistics=None,
    position=None,
    version=6,
)


def _decode(tokens, lengths):
  return [
      " ".join(map(str, row[:n]))
      for row, n in zip(tokens, lengths, strict=True)
  ]


def _tell(count=4):
  return run_logs.Tell(lambda problem: f"solve {problem}", _decode, count)


def _nothing(start):
  return sinks.combine()


def test_completions_are_told_beside_the_metrics(tmp_path):
  with run_logs.open_logs(tmp_path, 0, _tell(), _nothing) as log:
    log(0, ROLLOUT, {"reward": 0.5}, {"reward": [2.0, 4.0]})
  (line,) = sinks.read_jsonl(tmp_path / "metrics.jsonl")
  assert (line.step, line.values["reward"]) == (0, 0.5)
  assert line.parts == {"reward": [2.0, 4.0]}
  found = completions_log.read(tmp_path / "completions.jsonl")
  assert [entry.row for entry in found] == [0, 1, 2, 3]
  told = [entry.completion for entry in found]
  assert [c.prompt for c in told] == [
      "solve a",
      "solve a",
      "solve b",
      "solve b",
  ]
  assert [c.completion for c in told] == ["1 2", "3", "4 5 6", "7 8 9"]
  assert [c.length for c in told] == [2, 1, 3, 3]
  assert [(c.reward, c.correct) for c in told] == [
      *((1.0, True), (0.0, False), (0.0, False), (1.0, True)),
  ]
  assert [c.valid for c in told] == [True, True, False, True]
  assert [c.truncated for c in told] == [False, False, True, False]
  assert {c.policy_version for c in told} == {6}


def test_steps_that_come_again_are_replaced(tmp_path):
  starts = []

  def more(start):
    starts.append(start)
    return sinks.combine()

  with run_logs.open_logs(tmp_path, 0, _tell(1), more) as log:
    for step in range(3):
      log(step, ROLLOUT, {"reward": 0.0}, {})
  with run_logs.open_logs(tmp_path, 1, _tell(1), more) as log:
    log(1, ROLLOUT, {"reward": 1.0}, {})
  lines = sinks.read_jsonl(tmp_path / "metrics.jsonl")
  assert [(x.step, x.values["reward"]) for x in lines] == [(0, 0.0), (1, 1.0)]
  kept = completions_log.read(tmp_path / "completions.jsonl")
  assert [entry.step for entry in kept] == [0, 1]
  assert starts == [0, 1]


def test_all_is_closed_where_a_step_fails(tmp_path):
  closed, seen = [], []
  sink = sinks.Sink(
      lambda step, values: seen.append((step, values)),
      lambda: closed.append(True),
  )
  with pytest.raises(KeyError):
    with run_logs.open_logs(tmp_path, 0, _tell(), lambda start: sink) as log:
      log(0, ROLLOUT, {"reward": 0.5}, {})
      raise KeyError
  assert (seen, closed) == ([(0, {"reward": 0.5})], [True])
  assert len(sinks.read_jsonl(tmp_path / "metrics.jsonl")) == 1


def test_other_processes_write_nothing(tmp_path, monkeypatch):
  monkeypatch.setattr(sharding, "is_writer", lambda: False)
  never = lambda start: pytest.fail("another process writes")
  with run_logs.open_logs(tmp_path, 0, _tell(), never) as log:
    log(0, ROLLOUT, {"reward": 0.5}, {})
  assert not list(tmp_path.iterdir())


def test_values_of_a_step():
  """600 tokens in 2 s of training; a CPU has no peak to compare with."""
  empty = trainer.Trainer(*[None] * len(trainer.Trainer._fields))
  asked = []
  made = empty._replace(
      mesh=sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1]),
      flops=lambda rollout: asked.append(rollout) or 1e6,
      config=config.TrainConfig(
          *(10, 4, 2, 1, 1),  # steps, prompts, group, epochs, minibatches
          learning_rate=0.5,
          final_learning_rate=0.0,
      ),
  )
  ended = state.TrainState(*[None] * len(state.TrainState._fields))
  result = trainer.StepResult(
      state=ended._replace(step=8, skipped=3),
      metrics={
          "reward": metrics.Fraction(3.0, 4.0),
          "num_tokens": metrics.Total(600.0),
      },
      columns={},
      rollout=ROLLOUT,
      times={"time/grade": metrics.Fraction(0.25, 1.0)},
  )
  times = {"time/train": 2.0, "time/step": 2.5}
  assert run_logs.values(made, result, {"eval/score": 7.0}, times) == {
      "reward": 0.75,
      "num_tokens": 600.0,
      "eval/score": 7.0,
      "time/grade": 0.25,
      "time/train": 2.0,
      "time/step": 2.5,
      "perf/tokens_per_second": 300.0,
      "skipped_updates": 3.0,
      # Of five updates that were made the last is the fifth of ten.
      "learning_rate": pytest.approx(0.5 * 0.6),
      "step_time": 2.5,
  }
  assert asked == [ROLLOUT]
