"""Flags of one's own problems, in a process where no other program has flags."""

import json
import os
import pathlib
import subprocess
import sys

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"

CODE = """
import json, sys
from absl import flags
from absl.testing import flagsaver
import own_sets
for arguments in json.loads(sys.argv[1]):
  with flagsaver.flagsaver():
    flags.FLAGS(["program", *arguments])
    try:
      print(own_sets.names(), [own.metric for own in own_sets.chosen()])
    except flags.Error as error:
      print(error)
"""
CASES = (
    ([], "() []"),
    (
        ["--suite=AMC", "--problems=x/mine.jsonl", "--metric=pass@2"],
        "('AMC', 'mine') ['pass_at_k']",
    ),
    (["--weight=1"], "--metric and --weight are of --problems=FILE"),
    (["--problems=amc.jsonl"], "--problems: sets of problems of your own"),
    (
        ["--problems=a.jsonl", "--metric=best"],
        "--problems: --metric must be accuracy or pass@K",
    ),
    (
        ["--problems=a.jsonl", "--weight=7"],
        "--problems: --weight must be numbers from 0 to 1",
    ),
)


def test_what_the_flags_say():
  path = os.pathsep.join([str(LAUNCH), os.environ.get("PYTHONPATH", "")])
  found = subprocess.run(
      [sys.executable, "-c", CODE, json.dumps([case[0] for case in CASES])],
      capture_output=True,
      text=True,
      env=os.environ | {"PYTHONPATH": path},
      timeout=120,
  )
  assert found.returncode == 0, found.stderr
  lines = found.stdout.splitlines()
  for line, (arguments, words) in zip(lines, CASES, strict=True):
    assert line.startswith(words), arguments
