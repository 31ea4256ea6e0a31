"""A run that is killed between two rounds of one step, as if by the machine."""

import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np

from poise_jax.algorithms import catalog
from poise_jax.discovery.trials import trial
from poise_jax.models import checkpoints
from poise_jax.rollout import tokenizer
from poise_jax.training import config, environment, run, sinks, trainer

SETTINGS = config.TrainConfig(
    steps=4,
    prompts=4,
    group_size=4,
    epochs=1,
    minibatches=2,
    learning_rate=1e-3,
    sampling_attempts=3,
)


def train(workdir, kill_at=0):
  """Trains in a directory; killed once so many rounds have been graded."""
  base = trial.base_directory(trial.EMBEDDED)
  policy, words = checkpoints.load(base), tokenizer.load(base)
  task = environment.arithmetic_environment(words, 0)
  rounds = []

  def grade(problems, completions):
    grades = task.grade(problems, completions)
    rounds.append(1)
    if len(rounds) == kill_at:
      os.kill(os.getpid(), signal.SIGKILL)
    return grades

  return run.train(
      trainer.make_trainer(
          policy.graphdef, policy.params, words, SETTINGS, jax.devices()[:1]
      ),
      policy.params,
      catalog.make("dace"),  # It has a state.
      task._replace(grade=grade),
      run.RunConfig(checkpoint_every=1),
      workdir,
      fingerprint={},
      decode=words.decode,
  )


def _values(workdir):
  clocks = ("time/", "perf/", "step_time")
  return [
      {k: v for k, v in record.values.items() if not k.startswith(clocks)}
      for record in sinks.read_jsonl(workdir / "metrics.jsonl")
  ]


def test_killed_between_two_rounds_nothing_differs(tmp_path):
  whole = train(tmp_path / "whole")
  values = _values(tmp_path / "whole")
  rounds = [int(step["dynamic_sampling/attempts"]) for step in values]
  # The first of several rounds, in a step that is not the first.
  step = next(i for i in range(1, len(rounds)) if rounds[i] > 1)
  killed = tmp_path / "killed"
  child = subprocess.run(
      [sys.executable, __file__, str(killed), str(sum(rounds[:step]) + 1)],
      capture_output=True,
      timeout=300,
      check=False,
  )
  assert child.returncode == -signal.SIGKILL, child.stderr
  assert _values(killed) == values[:step]
  found = train(killed)
  # A checkpoint that was being written is not there, and its step comes again.
  assert step - 1 <= found.start <= step and found.finished
  for a, b in zip(
      jax.tree.leaves(found.state), jax.tree.leaves(whole.state), strict=True
  ):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
  assert _values(killed) == values
  name = "completions.jsonl"
  text = lambda folder: (tmp_path / folder / name).read_bytes()
  assert text("killed") == text("whole")


if __name__ == "__main__":
  train(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
