"""Runs in a directory: stopped at any line, continued as if never stopped."""

import os
import pathlib
import signal
import threading

import jax
import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.training import (
    checkpoint,
    completions_log,
    config,
    environment,
    preemption,
    run,
    sinks,
    trainer,
)

STEPS = 4


@pytest.fixture(scope="module")
def made(policy, words):
  settings = config.TrainConfig(
      steps=STEPS,
      prompts=4,
      group_size=4,
      epochs=1,
      minibatches=2,
      learning_rate=1e-3,
      sampling_attempts=2,
  )
  return trainer.make_trainer(
      policy.graphdef, policy.params, words, settings, jax.devices()[:1]
  )


@pytest.fixture(scope="module")
def train(made, policy, words):
  """Trains in a directory; keyword arguments are those of `run.train`."""

  def train(
      workdir,
      *,
      algorithm="dace",
      settings=None,
      trainer_=made,
      on_grade=lambda: None,
      **changes,
  ):
    settings = settings or run.RunConfig(checkpoint_every=1)
    given = {"fingerprint": {"task": "arithmetic"}, "decode": words.decode}
    task = environment.arithmetic_environment(words, settings.seed)

    def grade(*asked):
      on_grade()
      return task.grade(*asked)

    return run.train(
        trainer_,
        policy.params,
        catalog.make(algorithm),
        task._replace(grade=grade),
        settings,
        workdir,
        **(given | changes),
    )

  return train


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
  """A run that nothing interrupted: its directory and result."""
  workdir = tmp_path_factory.mktemp("whole")
  return workdir, train(workdir)


def _values(workdir):
  records = sinks.read_jsonl(workdir / "metrics.jsonl")
  clocks = ("time/", "perf/", "step_time")
  return [
      (r.step, {k: v for k, v in r.values.items() if not k.startswith(clocks)})
      for r in records
  ]


def _assert_same(found, workdir, whole):
  expected = whole[1].state
  for a, b in zip(
      jax.tree.leaves(found.state), jax.tree.leaves(expected), strict=True
  ):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
  assert _values(workdir) == _values(whole[0])
  name = "completions.jsonl"
  assert (workdir / name).read_bytes() == (whole[0] / name).read_bytes()


def test_an_algorithm_with_a_state_is_what_is_tested():
  algorithm = catalog.make("dace")
  assert algorithm.init(algorithm.hparams)


def test_a_finished_run_is_given_back_untouched(train, whole):
  workdir, result = whole
  assert (result.start, result.finished, result.exit_code) == (0, True, 0)
  before = {p: p.stat().st_mtime_ns for p in workdir.glob("*.jsonl")}
  never = lambda *args: pytest.fail("nothing is left to do")
  again = train(workdir, evaluate=never, on_step=never, more_sinks=never)
  assert (again.start, again.finished) == (STEPS, True)
  _assert_same(again, workdir, whole)
  assert {p: p.stat().st_mtime_ns for p in workdir.glob("*.jsonl")} == before


class _PowerCutError(Exception):
  pass


def _cut_at(step):
  """Ends the run between the metrics of a step and its checkpoint."""

  def write(now, values):
    if now == step:
      raise _PowerCutError

  return lambda start: sinks.Sink(write, lambda: None)


@pytest.mark.parametrize("every", [1, 3])
def test_between_metrics_and_checkpoint(train, whole, tmp_path, every):
  settings = run.RunConfig(checkpoint_every=every)
  for step in (2, 3):
    with pytest.raises(_PowerCutError):
      train(tmp_path, settings=settings, more_sinks=_cut_at(step))
    assert [s for s, _ in _values(tmp_path)] == [*range(step + 1)]
  _assert_same(train(tmp_path, settings=settings), tmp_path, whole)


def test_after_the_checkpoint_and_before_anything_else(train, whole, tmp_path):
  def cut(step, values):
    raise _PowerCutError

  for start in range(3):
    with pytest.raises(_PowerCutError):
      train(tmp_path, on_step=cut)
    assert len(_values(tmp_path)) == start + 1
  _assert_same(train(tmp_path), tmp_path, whole)


@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
)
@pytest.mark.parametrize(
    "when, done", [("while logging", 2), ("after a step", 1), ("sampling", 1)]
)
def test_a_signal_loses_no_step(
    train, whole, tmp_path, number, code, when, done
):
  tell = lambda: os.kill(os.getpid(), number)
  settings = run.RunConfig(checkpoint_every=100)

  def write(step, values):
    if step == 1 and when == "while logging":
      tell()

  def on_step(step, values):
    if step == 1 and when == "after a step":
      tell()

  rounds = []

  def on_grade():
    # In the first round of the second step, which is left.
    rounds.append(1)
    first = _values(whole[0])[0][1]["dynamic_sampling/attempts"]
    if len(rounds) == first + 1 and when == "sampling":
      tell()

  result = train(
      tmp_path,
      settings=settings,
      more_sinks=lambda start: sinks.Sink(write, lambda: None),
      on_step=on_step,
      on_grade=on_grade,
  )
  assert (result.finished, result.exit_code) == (False, code)
  assert result.state.step == len(_values(tmp_path)) == done
  # Far from a checkpoint that is due: it was saved for this.
  with checkpoint.read(tmp_path / "checkpoints") as checkpoints:
    assert checkpoints.steps() == [done]
    assert "reward" in checkpoints.record(done).metrics
  started = []
  result = train(tmp_path, settings=settings, on_start=started.append)
  assert started == [result.start] == [done]
  _assert_same(result, tmp_path, whole)


def test_a_signal_before_anything_is_learned(train, whole, tmp_path):
  told = []

  def on_grade():
    if not told:
      told.append(os.kill(os.getpid(), signal.SIGTERM))

  result = train(tmp_path, on_grade=on_grade)
  assert (result.state.step, result.finished, result.exit_code) == (0, False, 0)
  assert _values(tmp_path) == []
  result = train(tmp_path)
  assert (result.start, result.finished) == (0, True)
  _assert_same(result, tmp_path, whole)


def test_a_signal_in_the_last_step_is_no_interruption(train, whole, tmp_path):
  def write(step, values):
    if step == STEPS - 1:
      os.kill(os.getpid(), signal.SIGINT)

  sink = sinks.Sink(write, lambda: None)
  result = train(tmp_path, more_sinks=lambda start: sink)
  assert (result.finished, result.exit_code) == (True, 0)
  _assert_same(result, tmp_path, whole)


def test_all_processes_would_ask_equally_often(train, tmp_path, monkeypatch):
  """To ask is a collective: its number may depend on the step alone."""
  calls, ask = [], preemption.Watch.__call__
  monkeypatch.setattr(
      preemption.Watch, "__call__", lambda self: calls.append(1) or ask(self)
  )
  for every in (1, 100):
    calls.clear()
    workdir = tmp_path / str(every)
    train(workdir, settings=run.RunConfig(checkpoint_every=every))
    name = "dynamic_sampling/attempts"
    rounds = sum(values[name] for _, values in _values(workdir))
    assert len(calls) == 1 + rounds + STEPS


def test_another_run_is_refused_and_nothing_changes(train, whole):
  before = (whole[0] / "metrics.jsonl").read_bytes()
  never = lambda step: pytest.fail("it must not start")
  for changes, words in (
      ({"algorithm": "grpo"}, "--config.algorithm is"),
      ({"settings": run.RunConfig(seed=1)}, "--config.run.seed is 0 there, 1"),
      ({"fingerprint": {"task": "other"}}, "task is"),
  ):
    with pytest.raises(ValueError, match=words):
      train(whole[0], on_start=never, **changes)
  assert (whole[0] / "metrics.jsonl").read_bytes() == before


def test_two_at_a_time_are_refused(train, tmp_path):
  """Not in the main thread, where signals cannot be heard, it trains as well."""
  failed = []

  def on_step(step, values):
    if step == 1:
      try:
        train(tmp_path)
      except RuntimeError as error:
        failed.append(str(error))

  other = threading.Thread(
      target=train, args=[tmp_path], kwargs={"on_step": on_step}
  )
  other.start()
  other.join()
  assert len(failed) == 1 and "another process writes" in failed[0]
  assert len(_values(tmp_path)) == STEPS


def test_seconds_are_told_by_phase(train, whole, tmp_path):
  """Of saving in the next line: the line of a step comes before its save."""
  lines = [r.values for r in sinks.read_jsonl(whole[0] / "metrics.jsonl")]
  for number, values in enumerate(lines):
    phases = [values[f"time/{name}"] for name in ("rollout", "grade", "update")]
    assert min(phases) > 0 and ("time/checkpoint" in values) == (number > 0)
    # With a reference policy there is something to score.
    phases.append(values["time/score"])
    assert sum(phases) <= values["time/train"] <= values["time/step"]
  checkpointed = [values.get("time/checkpoint", 0.0) for values in lines]
  assert all(
      values["time/train"] + saved <= values["time/step"]
      for values, saved in zip(lines, checkpointed, strict=True)
  )


def test_nothing_is_made_only_to_be_overwritten(train, made, tmp_path):
  with pytest.raises(_PowerCutError):
    train(tmp_path, more_sinks=_cut_at(2))
  never = lambda *given: pytest.fail("there is a checkpoint")
  result = train(tmp_path, trainer_=made._replace(start=never))
  assert (result.start, result.finished) == (2, True)


@pytest.mark.parametrize("place", ["gs://bucket/run", "s3://bucket/run"])
def test_a_directory_is_in_a_file_system(train, place):
  # Also where it has been made into a path, which takes a slash away.
  for workdir in (place, pathlib.Path(place)):
    with pytest.raises(ValueError, match="must be in a file system, got"):
      train(workdir)
  run.check_workdir("runs/gs:x/y")


def test_the_best_by_evaluation_is_kept(train, tmp_path):
  scores = {1: 0.0, 2: 7.0, 3: 1.0, 4: 2.0}
  asked = []

  def evaluate(params, seed):
    asked.append(1)
    return {"score": scores[2 * len(asked)]}

  kept = checkpoint.Retention(last=1, best=1, metric="eval/score")
  # Far from any checkpoint that is due.
  settings = run.RunConfig(
      checkpoint_every=100, evaluate_every=2, retention=kept
  )
  train(tmp_path, settings=settings, evaluate=evaluate)
  with checkpoint.read(tmp_path / "checkpoints", kept) as checkpoints:
    assert checkpoints.steps() == [2, 4]
    assert checkpoints.best() == 2
    assert checkpoints.record(4).retention["metric"] == "eval/score"
  with pytest.raises(ValueError, match="set --config.run.evaluate_every"):
    run.RunConfig(retention=kept)


def test_it_is_evaluated_when_due_and_at_the_end(train, whole, tmp_path):
  def evaluate(params, seed):
    leaves = jax.tree.leaves(params)
    return {"size": float(np.abs(leaves[0]).sum()), "seed": float(seed)}

  settings = run.RunConfig(checkpoint_every=2, evaluate_every=3)
  result = train(tmp_path, settings=settings, evaluate=evaluate)
  found = [step for step, values in _values(tmp_path) if "eval/size" in values]
  assert found == [2, 3]
  last = _values(tmp_path)[-1][1]["eval/size"]
  assert last == evaluate(result.state.params, 0)["size"]
  # To look changes nothing.
  for a, b in zip(
      jax.tree.leaves(result.state),
      jax.tree.leaves(whole[1].state),
      strict=True,
  ):
    np.testing.assert_array_equal(a, b)


def test_what_is_logged(whole):
  workdir, result = whole
  steps = [values for _, values in _values(workdir)]
  sampled, passed = 0, 0.0
  for values in steps:
    assert values["skipped_updates"] == 0
    assert values["dynamic_sampling/attempts"] in (1, 2)
    count = 16 * values["dynamic_sampling/attempts"]
    sampled, passed = sampled + count, passed + count * values["reward"]
    # What is kept is mixed; of the policy the others tell as much.
    alike = values["frac_groups_all_pass"] + values["frac_groups_all_fail"]
    kept = values["dynamic_sampling/kept_ratio"]
    assert alike == pytest.approx(1 - kept) and alike > 0
    assert values["num_tokens"] > values["effective_tokens"]
    mean = values["completions/mean_length"]
    assert values["num_tokens"] == pytest.approx(count * mean)
  # All groups that were sampled are in the history, kept or not.
  assert result.state.history.seen.sum() == sampled > 16 * STEPS
  assert result.state.history.passed.sum() == pytest.approx(passed)
  for entry in completions_log.read(workdir / "completions.jsonl"):
    completion = entry.completion
    assert completion.reward == completion.correct
    assert completion.policy_version == 2 * entry.step
    assert completion.prompt and completion.completion
    assert (len(completion.completion) > 0) and completion.length > 0


@pytest.mark.parametrize(
    "name, value",
    [
        ("seed", -1),
        ("checkpoint_every", 0),
        ("evaluate_every", -1),
        ("completions", -1),
    ],
)
def test_settings_that_cannot_work(name, value):
  with pytest.raises(ValueError, match=f"`{name}` must be at least"):
    run.RunConfig(**{name: value})
