"""The program as it is run: killed, continued, refused, without a policy."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from poise_jax.evaluation import results

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "evaluate.py"
SETTINGS = (
    "--checkpoint=embedded",
    "--suite=sums2,mixed3",
    "--limit=16",
    "--batch=4",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("launch")


@pytest.fixture(scope="module")
def start(folder):
  """Starts the program; programs compile once for all tests."""
  environment = os.environ | {
      "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
  }

  def start(*arguments):
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )

  return start


@pytest.fixture(scope="module")
def finish(start):
  def finish(*arguments, status=0):
    process = start(*arguments)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == status, stderr
    return stdout, stderr

  return finish


@pytest.fixture(scope="module")
def whole(finish, folder):
  """A run that nothing interrupted: its directory, stdout, stderr."""
  return folder / "whole", *finish(*SETTINGS, f"--out={folder / 'whole'}")


def _files(directory):
  return {p.name: p.read_bytes() for p in directory.iterdir()}


def test_results_and_a_summary(whole):
  directory, stdout, stderr = whole
  assert set(_files(directory)) == {
      "sums2.jsonl",
      "mixed3.jsonl",
      "summary.json",
      "summary.md",
  }
  found = json.loads((directory / "summary.json").read_text())
  assert found["sets"]["sums2"]["problems"] == 16
  assert 0 <= found["sets"]["sums2"]["score"]["low"] < 100
  assert stdout == (directory / "summary.md").read_text()
  assert "| sums2 | greedy accuracy | 16 of 384 |" in stdout
  assert "[100%" in stderr and "s left] mixed3" in stderr


def test_killed_it_continues_to_the_same_bytes(whole, start, finish, folder):
  directory = folder / "killed"
  process = start(*SETTINGS, f"--out={directory}")
  path = directory / "sums2.jsonl"
  while not path.is_file() or path.read_bytes().count(b"\n") < 5:
    assert process.poll() is None, process.stderr.read()
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.communicate()
  assert not (directory / "summary.json").exists()
  before = len(results.read(path).records)
  assert 4 <= before
  finish(*SETTINGS, f"--out={directory}")
  assert _files(directory) == _files(whole[0])


def test_a_summary_without_a_policy(whole, finish, folder):
  directory = folder / "again"
  stdout, _ = finish(f"--from_results={whole[0]}", f"--out={directory}")
  assert stdout == whole[1]
  for name in ("summary.json", "summary.md"):
    assert (directory / name).read_bytes() == (whole[0] / name).read_bytes()


def test_verdicts_again(whole, finish, folder):
  before = _files(whole[0])
  directory = folder / "regraded"
  # One verdict that another grader gave.
  source = folder / "doubtful"
  source.mkdir()
  text = before["sums2.jsonl"].decode()
  doubtful = text.replace('"correct":true', '"correct":false', 1)
  (source / "sums2.jsonl").write_text(doubtful)
  stdout, _ = finish(f"--regrade={source}", f"--out={directory}")
  assert "sums2: 1 verdicts changed, 1 to right and 0 to wrong.\n" in stdout
  assert stdout.endswith((directory / "summary.md").read_text())
  (change,) = json.loads((directory / "regraded.json").read_text())["sums2"]
  assert not change["before"]["correct"] and change["after"]["correct"]
  assert (source / "sums2.jsonl").read_text() == doubtful
  new, old = (results.read(d / "sums2.jsonl") for d in (directory, whole[0]))
  assert new.records == old.records
  assert _files(whole[0]) == before


@pytest.mark.slow
def test_problems_of_ones_own(finish, folder):
  path = folder / "mine.jsonl"
  rows = [{"problem": f"{i}+1=", "answer": str(i + 1)} for i in range(10, 13)]
  path.write_text("\n".join(map(json.dumps, rows)))
  directory = folder / "own"
  stdout, stderr = finish(
      *("--checkpoint=embedded", f"--problems={path}", "--metric=pass@4"),
      *("--weight=1", "--template=none", "--max_tokens=8"),
      f"--out={directory}",
  )
  assert "| mine | pass@4 | 3 |" in stdout and "Overall " in stdout
  assert "no token" not in stderr
  found = results.read(directory / "mine.jsonl")
  assert list(found.records) == ["mine/0", "mine/1", "mine/2"]
  assert found.header["sampling"]["temperature"] == 1.0


@pytest.mark.slow
def test_other_settings_are_refused(whole, finish):
  before = _files(whole[0])
  _, stderr = finish(*SETTINGS, "--seed=1", f"--out={whole[0]}", status=2)
  assert stderr.count("\n") == 1
  assert "sampling.seed is 0, 1" in stderr
  assert _files(whole[0]) == before


@pytest.mark.slow
def test_what_is_wrong_is_one_line(finish):
  for arguments, words in (
      ((), "give --out=DIR"),
      (("--out=x",), "give --checkpoint=DIR and --suite"),
      (("--out=x", "--regrade=x"), "must be another directory"),
      (
          ("--out=x", "--regrade=y", "--from_results=z"),
          "give --from_results or --regrade, not more than one",
      ),
      (("--out=x", "--metric=pass@2"), "are of --problems=FILE"),
  ):
    _, stderr = finish(*arguments, status=2)
    assert words in stderr and stderr.count("\n") == 1
