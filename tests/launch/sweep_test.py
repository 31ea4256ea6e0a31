"""The program as it is run: planned, killed, continued, extended."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from poise_jax.archive import store

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "sweep.py"
EXPERIMENT = """
import ml_collections


def get_config():
  config = ml_collections.ConfigDict()
  config.policy, config.algorithm = "embedded", "grpo"
  config.train = ml_collections.ConfigDict(
      dict(steps=2, prompts=4, group_size=4, epochs=1, minibatches=2,
           learning_rate=1e-3)
  )
  config.evaluate = ml_collections.ConfigDict(
      dict(sampled_problems=2, greedy_problems=4)
  )
  return config
"""
SWEEP = "--sweep=algorithm=grpo,dapo,zero_gradient;seed=0:3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("sweep")
  (folder / "tiny.py").write_text(EXPERIMENT)
  return folder


@pytest.fixture(scope="module")
def start(folder):
  def start(*arguments):
    return subprocess.Popen(
        [
            *(sys.executable, str(SCRIPT), f"--config={folder / 'tiny.py'}"),
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )

  return start


@pytest.fixture(scope="module")
def finish(start):
  def finish(*arguments, status=0):
    process = start(*arguments)
    stdout, stderr = process.communicate(timeout=600)
    assert process.returncode == status, stderr
    return stdout, stderr

  return finish


def _evaluations(workdir):
  """What is stored; nothing while there is no archive yet."""
  if not (workdir / "archive.db").is_file():
    return []
  try:
    archive = store.Archive.open(workdir / "archive.db", create=False)
  except store.ArchiveError:  # Its schema is not there yet.
    return []
  with archive:
    campaigns = archive.campaigns()
    return archive.evaluations(campaigns[0].id) if campaigns else []


@pytest.fixture(scope="module")
def killed(start, folder):
  """A sweep killed with some cells done, and what was there then."""
  workdir = folder / "work"
  process = start(SWEEP, f"--workdir={workdir}", "--workers=1")
  deadline = time.monotonic() + 600
  try:
    while len(_evaluations(workdir)) < 2:
      assert process.poll() is None, process.stderr.read()
      assert time.monotonic() < deadline
      time.sleep(0.05)
  finally:
    process.send_signal(signal.SIGKILL)
    process.communicate()
  return workdir, _evaluations(workdir)


def test_killed_it_goes_on_and_trains_nothing_twice(killed, finish):
  workdir, before = killed
  assert 2 <= len(before) < 9 and not (workdir / "table.md").exists()
  stdout, stderr = finish(SWEEP, f"--workdir={workdir}")
  after = _evaluations(workdir)
  assert len(after) == 9
  # The clock readings are those of the first time.
  assert all(run in after for run in before)
  assert f"9 cells (3 configurations x 3 seeds), {9 - len(before)} of" in stderr
  assert "left]" in stderr and "tables are in" in stdout
  with (workdir / "cells.csv").open() as file:
    cells = list(csv.DictReader(file))
  assert len(cells) == 9 and all(float(c["overall"]) >= 0 for c in cells)
  found = json.loads((workdir / "sweep.json").read_text())
  assert (found["baseline"], len(found["configs"])) == ("grpo", 3)
  assert "| zero_gradient |" in (workdir / "table.md").read_text()
  assert (workdir / "index.html").read_text().endswith("</html>\n")
  # More seeds and another algorithm: what is there is read.
  more = "--sweep=algorithm=grpo,dapo;seed=0:4"
  stdout, _ = finish(more, f"--workdir={workdir}", "--plan_only")
  assert stdout.startswith("8 cells (2 configurations x 4 seeds), 2 of them")
  assert _evaluations(workdir) == after


@pytest.mark.slow
def test_processes_give_the_same_bits(killed, finish, folder):
  workdir = folder / "processes"
  finish(SWEEP, f"--workdir={workdir}", "--processes")
  with_processes = {r.id: r.metrics for r in _evaluations(workdir)}
  assert len(with_processes) == 9
  for run in _evaluations(killed[0]):
    assert with_processes[run.id] == run.metrics


def test_what_is_wrong_is_one_line(finish, folder):
  workdir = folder / "none"
  for arguments, words in (
      ((SWEEP,), "give --workdir=DIR"),
      (("--sweep=lrr=1", f"--workdir={workdir}"), "did you mean lr"),
      ((SWEEP, f"--workdir={workdir}", "--baseline=x"), "--baseline=x must be"),
  ):
    _, stderr = finish(*arguments, status=2)
    assert words in stderr and stderr.count("\n") == 1
  assert not workdir.exists()
