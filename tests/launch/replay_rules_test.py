"""The program as it is run: in a process of its own."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).parents[1]
SCRIPT = TESTS.parent / "launch" / "replay_rules.py"
_PATH = TESTS / "discovery" / "parents" / "review_test.py"
_SPEC = importlib.util.spec_from_file_location("campaigns_for_launch", _PATH)
_campaigns = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_campaigns)
grown = _campaigns.grown  # makes a campaign of so many rounds, as a fixture


@pytest.fixture
def archive_file(grown, tmp_path):
  grown(3).close()
  return tmp_path / "3-epistemic.db"


def start(*flags):
  return subprocess.Popen(
      [sys.executable, str(SCRIPT), *map(str, flags)],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
  )


def test_text_and_json(archive_file, tmp_path):
  out = tmp_path / "out"
  rules = "--rule=greedy,potential_always"
  run = start(
      f"--archive={archive_file}", "--campaign=first", rules, f"--out={out}"
  )
  stdout, stderr = run.communicate(timeout=120)
  assert (run.returncode, stderr) == (0, "")
  assert (out / "choices.txt").read_text() == stdout
  assert stdout.startswith("Campaign first (c0ffee)\n3 rounds chosen by")
  assert "too few to say whether another rule" in stdout
  assert "too few to say whether predictions hold" in stdout
  assert "It assumes that these" in stdout.replace("\n", " ")
  told = json.loads((out / "choices.json").read_text())
  assert list(told["worths"]) == ["greedy", "potential_always"]
  assert told["names"]["c0ffee-000"] == "loss 0"
  # One possible parent, then three, of which greedy has half and a sixth.
  assert [turn["nodes"] for turn in told["turns"]] == [1, 3, 5]
  best = told["turns"][1]["favourites"]["greedy"][0]
  assert best["odds"] == pytest.approx(0.5 + 0.5 / 3)


def test_whatever_is_wrong_is_one_line_and_status_2(archive_file):
  run = start(f"--archive={archive_file}", "--campaign=second")
  stdout, stderr = run.communicate(timeout=120)
  assert (run.returncode, stdout) == (2, "")
  assert stderr == (
      "replay_rules: --campaign=second is not in the archive; it has first"
      " (c0ffee)\n"
  )
