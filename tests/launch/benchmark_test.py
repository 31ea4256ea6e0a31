"""The program as it is run, on a batch too small to say anything."""

import json
import pathlib
import runpy
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "launch" / "benchmark.py"


def run(*flags):
  done = subprocess.run(
      [sys.executable, str(SCRIPT), *map(str, flags)],
      capture_output=True,
      text=True,
      check=False,
  )
  return done.returncode, done.stdout, done.stderr


def test_times_losses_against_grpo(tmp_path):
  path = tmp_path / "times.json"
  status, out, err = run(
      "--losses=^dapo$",
      "--prompts=3",
      "--group_size=2",
      "--tokens=5",
      "--rounds=3",
      f"--json={path}",
  )
  assert status == 0, err
  assert "3 x 2 x 5 tokens" in out and "\n| dapo | " in out
  figures = json.loads(path.read_text("utf-8"))
  assert set(figures["losses"]) == {"grpo", "dapo"}
  assert figures["losses"]["grpo"]["ratio"] == 1.0
  assert figures["losses"]["dapo"]["milliseconds"] > 0


def test_ratios_are_taken_within_a_round():
  # Twice as slow in every round, though the rounds differ tenfold.
  summarise = runpy.run_path(str(SCRIPT))["summarise"]
  summary = summarise({"grpo": [1.0, 10.0, 2.0], "x": [2.0, 20.0, 4.0]}, "grpo")
  assert summary["x"] == {
      "milliseconds": 4000.0,
      "ratio": 2.0,
      "ratio_low": 2.0,
      "ratio_high": 2.0,
  }


@pytest.mark.parametrize(
    "flags, words",
    [
        ([], "say what to time"),
        (["--losses=("], "not a regular expression"),
        (["--losses=nothing_like_it"], "matches none of: grpo, "),
        (["grpo"], "use --flag=value"),
    ],
)
def test_bad_input_ends_with_a_message(flags, words):
  status, _, err = run(*flags)
  assert status == 2 and words in err and "Traceback" not in err
