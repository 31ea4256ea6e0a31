"""One run in one directory."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from poise_jax.training import checkpoint_directory as directory_lib


def test_paths_are_absolute_and_urls_are_left_alone(monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  assert directory_lib.absolute("a") == str(tmp_path / "a")
  assert directory_lib.absolute(pathlib.Path("a/../b")) == str(tmp_path / "b")
  assert directory_lib.absolute("gs://bucket/a") == "gs://bucket/a"


def test_a_file_is_no_directory(tmp_path):
  file = tmp_path / "file"
  file.write_text("precious")
  for place in (file, file / "below"):
    with pytest.raises(NotADirectoryError, match="must not be"):
      directory_lib.make(str(place))
    with pytest.raises(FileNotFoundError, match="no directory"):
      directory_lib.require(str(place))
  assert file.read_text() == "precious"
  directory_lib.make(str(tmp_path / "a" / "b"))
  directory_lib.make(str(tmp_path / "a" / "b"))
  directory_lib.require(str(tmp_path / "a" / "b"))


def test_purge_takes_what_was_let_go_and_nothing_else(tmp_path):
  (tmp_path / directory_lib.DELETED / "3").mkdir(parents=True)
  (tmp_path / "5.orbax-checkpoint-tmp" / "arrays").mkdir(parents=True)
  (tmp_path / "4").mkdir()
  directory_lib.purge(str(tmp_path))
  directory_lib.purge(str(tmp_path))
  assert [path.name for path in tmp_path.iterdir()] == ["4"]


HOLDER = """
import sys
from poise_jax.training import checkpoint_directory
with checkpoint_directory.locked(sys.argv[1]):
  print("locked", flush=True)
  sys.stdin.read()
"""


def test_the_lock_is_held_until_its_process_ends_however_it_ends(tmp_path):
  for number in (None, signal.SIGKILL):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
      assert child.stdout.readline() == "locked\n"
      with pytest.raises(RuntimeError, match="another process writes"):
        with directory_lib.locked(str(tmp_path)):
          pass
      if number:
        os.kill(child.pid, number)
      else:
        child.stdin.close()
      child.wait(timeout=60)
    with directory_lib.locked(str(tmp_path)):
      pass


def test_urls_are_not_locked():
  with directory_lib.locked("gs://bucket/run"):
    pass
