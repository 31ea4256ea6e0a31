"""The program as it is run: killed, told to stop, continued, refused."""

import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import orbax.checkpoint as ocp
import pytest

from poise_jax.training import checkpoint, completions_log, sinks

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "train.py"
EXPERIMENT = ROOT / "experiments" / "train_embedded.py"
STEPS = 4
TINY = (
    f"--config.train.steps={STEPS}",
    "--config.train.prompts=8",
    "--config.train.group_size=4",
    "--config.train.epochs=1",
    "--config.train.minibatches=2",
    "--config.train.learning_rate=1e-3",
    "--config.run.checkpoint_every=1",
    "--config.evaluate.sampled_problems=2",
    "--config.evaluate.greedy_problems=2",
    # Its state decides the loss, and so does the history.
    "--config.algorithm=grpo_adaptive_kl",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("launch")


@pytest.fixture(scope="module")
def start(folder):
  """Starts a run in a folder; programs compile once for all tests."""
  environment = os.environ | {
      "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
  }

  def start(workdir, *arguments):
    return subprocess.Popen(
        [
            *(sys.executable, str(SCRIPT), f"--config={EXPERIMENT}"),
            *(f"--workdir={workdir}", *TINY, *arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )

  return start


@pytest.fixture(scope="module")
def finish(start):
  """Runs in a folder to the end: stdout and stderr."""

  def finish(workdir, *arguments):
    process = start(workdir, *arguments)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    return stdout, stderr

  return finish


@pytest.fixture(scope="module")
def whole(finish, folder):
  """A run that nothing interrupted: its directory, stdout, stderr."""
  return folder / "whole", *finish(folder / "whole")


def _values(workdir):
  """The metrics of each step, clock readings aside."""
  return [
      (
          record.step,
          {
              name: value
              for name, value in record.values.items()
              if not name.startswith(("time/", "perf/", "step_time"))
          },
          record.not_finite,
      )
      for record in sinks.read_jsonl(workdir / "metrics.jsonl")
  ]


def _final(workdir):
  """All arrays of the last checkpoint as bytes, and what is beside them."""
  with checkpoint.read(workdir / "checkpoints") as checkpoints:
    step = checkpoints.latest()
    record = checkpoints.record(step)
  arrays = ocp.StandardCheckpointer().restore(
      (workdir / "checkpoints" / str(step) / "arrays").absolute()
  )
  assert sorted(arrays) == sorted(record.leaves)
  kinds = {name.split("'")[1] for name in arrays}
  assert kinds == {"params", "opt_state", "algorithm_state", "history"}
  return {k: np.asarray(v).tobytes() for k, v in arrays.items()}, record.meta


def _assert_same(workdir, whole):
  assert _final(workdir) == _final(whole)
  assert _values(workdir) == _values(whole)
  name = "completions.jsonl"
  assert (workdir / name).read_bytes() == (whole / name).read_bytes()
  name = "policy/model.safetensors"
  assert (workdir / name).read_bytes() == (whole / name).read_bytes()


def _read_until(process, words):
  """Reads stderr up to a line with these words."""
  said = []
  while words not in (said[-1] if said else ""):
    said.append(process.stderr.readline())
    assert said[-1], "".join(said)


def test_a_run_leaves_metrics_completions_and_a_policy(whole):
  workdir, stdout, stderr = whole
  records = sinks.read_jsonl(workdir / "metrics.jsonl")
  assert [record.step for record in records] == [*range(STEPS)]
  for record in records:
    assert record.values["skipped_updates"] == 0
    assert record.values["time/step"] == record.values["step_time"] > 0
    assert record.values["learning_rate"] > 0
    assert record.values["clip_ratio/low_min"] >= 0
    assert record.values["clip_ratio/high_max"] >= 0
    total, count = record.parts["entropy"]
    assert record.values["entropy"] == total / count and count > 8 * 4
    assert record.values["perf/tokens_per_second"] > 0
  assert "eval/overall" in records[-1].values
  assert "eval/overall" not in records[0].values
  entries = completions_log.read(workdir / "completions.jsonl")
  assert [e.step for e in entries] == [s for s in range(STEPS) for _ in "four"]
  versions = [entry.completion.policy_version for entry in entries[::4]]
  assert versions == [0, 2, 4, 6]
  assert stdout.splitlines()[-1] == f"the policy is in {workdir / 'policy'}"
  # No terminal: a plain line a step.
  lines = stderr.splitlines()
  assert [line.partition(" reward")[0] for line in lines] == [
      f"step {step}/{STEPS}" for step in range(1, STEPS + 1)
  ]


def test_a_finished_run_is_left_alone(whole, finish):
  workdir, _, _ = whole
  files = lambda: {
      path: path.stat().st_mtime_ns
      for path in workdir.rglob("*")
      if path.is_file() and path.name != ".lock"
  }
  before = files()
  stdout, stderr = finish(workdir)
  assert stdout.startswith(f"finished before, after step {STEPS}: nothing to")
  assert stderr == ""
  assert files() == before


def test_killed_and_continued_nothing_differs(start, finish, whole, folder):
  workdir = folder / "killed"
  process = start(workdir)
  _read_until(process, "step 1/")
  time.sleep(random.Random(0).uniform(0, 0.3))
  process.kill()
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  assert not (workdir / "policy").exists()
  finish(workdir)
  _assert_same(workdir, whole[0])


def test_told_to_stop_it_saves_and_continues(start, finish, whole, folder):
  workdir = folder / "stopped"
  # Far from the next checkpoint, so that what is saved was saved for this.
  rare = "--config.run.checkpoint_every=100"
  process = start(workdir, rare)
  _read_until(process, "step 1/")
  process.terminate()
  stdout, _ = process.communicate(timeout=60)
  assert process.returncode == 0
  done = len(_values(workdir))
  assert stdout == f"stopped after step {done}; the same command continues\n"
  assert 1 <= done < STEPS
  with checkpoint.read(workdir / "checkpoints") as checkpoints:
    assert checkpoints.latest() == done
  _, stderr = finish(workdir, rare)
  assert stderr.startswith(f"continuing after step {done}\n")
  _assert_same(workdir, whole[0])


SAMPLING = "--config.train.sampling_attempts=3"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), (SAMPLING,)], ids=["once", "again"])
def test_killed_many_times_nothing_differs(start, finish, folder, arguments):
  name = f"{len(arguments)}"
  finish(folder / f"whole {name}", *arguments)
  rng = random.Random(name)
  for kill in range(6):
    workdir = folder / f"killed {name} {kill}"
    # Also before the first step, and twice in the same run.
    for _ in range(2):
      process = start(workdir, *arguments)
      if kill % 3:
        process.stderr.readline()
      time.sleep(rng.uniform(0, 3 if kill % 3 == 0 else 0.6))
      process.kill()
      process.communicate()
    finish(workdir, *arguments)
    _assert_same(workdir, folder / f"whole {name}")


def _two(start, workdir, *arguments):
  """Two processes of one run on this machine."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  return [
      start(
          *(workdir, "--config.mesh.data=2", f"--process_id={index}"),
          *(f"--coordinator_address=127.0.0.1:{port}", "--num_processes=2"),
          *arguments,
      )
      for index in range(2)
  ]


@pytest.mark.slow
def test_two_processes_do_as_one_and_stop_together(
    start, finish, whole, folder
):
  workdir = folder / "two"
  processes = _two(start, workdir, "--config.run.checkpoint_every=100")
  try:
    _read_until(processes[0], "step 1/")
    processes[1].terminate()
    said = [process.communicate(timeout=300) for process in processes]
  finally:
    for process in processes:
      process.kill()
  assert [process.returncode for process in processes] == [0, 0], said
  done = len(_values(workdir))
  # Only the first one speaks, but for the library that joins them.
  spoken = [
      [line for line in stdout.splitlines() if not line.startswith("[Gloo]")]
      for stdout, _ in said
  ]
  ending = f"stopped after step {done}; the same command continues"
  assert spoken == [[ending], []]
  assert 1 <= done < STEPS
  # And goes on with one process, on another mesh.
  finish(workdir, "--config.run.checkpoint_every=100")
  # The same tokens, and metrics to rounding: Adam blows it up over the steps,
  # the more the smaller a gradient is.
  texts = lambda directory: [
      entry.completion._replace(reward=None)
      for entry in completions_log.read(directory / "completions.jsonl")
  ]
  assert texts(workdir) == texts(whole[0])
  for (step, ours, _), (_, theirs, _) in zip(
      _values(workdir), _values(whole[0]), strict=True
  ):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
      # Between sampler and trainer there is nothing but rounding.
      rounding = ("mismatch/", "sampling/sampling_logp_difference/")
      least = 1e-4 if name.startswith(rounding) else 1e-5
      close = pytest.approx(value, rel=1e-2 if step else 1e-5, abs=least)
      assert ours[name] == close, (step, name)


def test_another_run_in_the_directory_is_refused(start, whole):
  workdir = whole[0]
  before = (workdir / "metrics.jsonl").read_bytes()
  process = start(
      workdir,
      "--config.train.steps=9",
      "--config.run.seed=9",
      "--config.scoring.compute_dtype=bfloat16",
      "--hparam=clip_eps_high=0.5",
      f"--config.policy={workdir / 'policy'}",
  )
  out, err = process.communicate(timeout=60)
  assert (process.returncode, out, err.count("\n")) == (2, "", 1), err
  for flag in (
      *("--config.train.steps", "--config.run.seed"),
      "--config.scoring.compute_dtype",
      *("--hparam.clip_eps_high", "--config.policy"),
  ):
    assert f"{flag} is " in err
  assert (workdir / "metrics.jsonl").read_bytes() == before


def test_the_policy_of_one_run_is_the_start_of_another(whole, finish, folder):
  policy = f"--config.policy={whole[0] / 'policy'}"
  # With everything that changes how, and little that changes what.
  finish(
      folder / "next",
      policy,
      # Its loss may do without.
      "--config.algorithm=grpo",
      "--config.train.steps=2",
      "--config.train.reference=False",
      "--config.train.recompute_old=True",
      "--config.train.micro_batches=2",
      "--config.scoring.chunk=7",
      "--config.scoring.remat=block",
      "--config.scoring.compute_dtype=bfloat16",
      SAMPLING,
  )
  records = sinks.read_jsonl(folder / "next" / "metrics.jsonl")
  assert [record.step for record in records] == [0, 1]
  assert "kl" not in records[0].values
  for record in records:
    assert record.values["skipped_updates"] == 0
    assert 1 <= record.values["dynamic_sampling/attempts"] <= 3
    assert 0 < record.values["dynamic_sampling/kept_ratio"] < 1
  # Its sampler works in f32 and the trainer in bf16, and it says so.
  assert records[0].values["mismatch/k3"] > 0
