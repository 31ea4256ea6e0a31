"""The program as it is run: in a process of its own."""

import pathlib
import subprocess
import sys

from poise_jax.algorithms import catalog, reference

SCRIPT = pathlib.Path(__file__).parents[2] / "launch" / "catalog.py"


def run(*flags):
  done = subprocess.run(
      [sys.executable, str(SCRIPT), *map(str, flags)],
      capture_output=True,
      text=True,
      check=False,
  )
  return done.returncode, done.stdout, done.stderr


def test_lists_every_algorithm_under_its_family():
  status, out, _ = run()
  assert status == 0
  listed = [line.split()[0] for line in out.splitlines() if line[0] == " "]
  assert listed == list(catalog.names())
  assert "\ncanary:\n  zero_gradient " in out


def test_describes_prints_source_and_writes_the_document(tmp_path):
  path = tmp_path / "catalogue.md"
  status, out, err = run("--name=dapo", "--source=rloo", f"--markdown={path}")
  assert (status, err) == (0, "")
  assert out == reference.text("dapo") + "\n" + catalog.source("rloo")
  assert path.read_text("utf-8") == reference.markdown()


def test_bad_input_ends_with_a_message():
  for flags, words in (
      (["--name=dapoo"], "did you mean 'dapo'?"),
      (["dapo"], "use --flag=value"),
      (["--markdown=/nowhere/x.md"], "--markdown=/nowhere/x.md: No such"),
  ):
    status, _, err = run(*flags)
    assert status == 2 and words in err
    assert "Traceback" not in err
