"""The program as it is run, on a batch too small to say anything."""

import json
import pathlib
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
      *("--suite=losses", "--match=^dapo$", "--prompts=3", "--group_size=2"),
      *("--tokens=5", "--rounds=3", f"--out={path}"),
  )
  assert status == 0, err
  assert "losses on cpu" in out and "\n| dapo | " in out
  figures = json.loads(path.read_text("utf-8"))
  assert set(figures["losses"]) == {"grpo", "dapo"}
  assert figures["losses"]["grpo"]["ratio"] == 1.0
  assert figures["losses"]["dapo"]["milliseconds"] > 0
  assert figures["machine"]["cores"] >= 1


@pytest.mark.parametrize(
    "flags, words",
    [
        ([], "say what to time"),
        (["--suite=losses", "--match=("], "not a regular expression"),
        (["--suite=losses", "--match=nothing"], "matches none of: grpo, "),
        (["--suite=candidate", "--match=nothing"], "is in no name"),
        (["--suite=all"], "value should be one of"),
        (["losses"], "use --flag=value"),
    ],
)
def test_bad_input_ends_with_a_message(flags, words):
  status, _, err = run(*flags)
  assert status != 0 and words in err and "Traceback" not in err
