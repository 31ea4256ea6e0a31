"""One line for whatever is wrong, whichever program."""

import pathlib
import subprocess
import sys

import pytest

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
TEXT = """
import sys
sys.path.insert(0, {launch!r})
from absl import flags
import program

_KIND = flags.DEFINE_string("kind", "", "What goes wrong.")


class OwnError(Exception):
  pass


def load():
  if _KIND.value == "load":
    raise SyntaxError("line 1\\n  line 2: bad")
  if _KIND.value == "flag":
    raise flags.Error("give --config")


def run():
  errors = {{
      "value": ValueError("one\\n  two"),
      "own": OwnError("mine"),
      "stop": KeyboardInterrupt(),
      "bug": ZeroDivisionError("oops"),
  }}
  if _KIND.value in errors:
    raise errors[_KIND.value]
  print("done")


program.start(
    "name",
    run,
    errors=(OwnError,),
    explain=lambda e: str(e).replace("mine", "yours"),
    load=load,
)
"""


@pytest.mark.parametrize(
    ("arguments", "status", "stderr"),
    [
        ((), 0, ""),
        (("--kind=value",), 2, "name: one two\n"),
        (("--kind=own",), 2, "name: yours\n"),
        (
            ("--kind=load",),
            2,
            "name: cannot load --config: SyntaxError: line 2: bad\n",
        ),
        (("--kind=flag",), 2, "name: give --config\n"),
        (("word",), 2, "name: unexpected argument 'word': use --flag=value\n"),
        (
            ("--kind=stop",),
            130,
            "name: interrupted; the same command continues\n",
        ),
    ],
)
def test_one_line_and_a_status(tmp_path, arguments, status, stderr):
  found = _run(tmp_path, *arguments)
  assert (found.returncode, found.stderr) == (status, stderr)
  assert found.stdout == ("done\n" if status == 0 else "")


def test_a_fault_of_ours_has_its_traceback(tmp_path):
  found = _run(tmp_path, "--kind=bug")
  assert found.returncode == 1 and "Traceback" in found.stderr
  assert "unknown" in _run(tmp_path, "--kindd=x").stderr.lower()


def _run(folder, *arguments):
  path = folder / "a_program.py"
  path.write_text(TEXT.format(launch=str(LAUNCH)))
  return subprocess.run(
      [sys.executable, str(path), *arguments], capture_output=True, text=True
  )
