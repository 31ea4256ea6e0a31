"""What a running search shows, on a terminal and elsewhere."""

import io
import itertools
import threading
import time

import pytest
import rich.console
import rich.progress

from poise_jax.discovery import progress
from poise_jax.evaluation import statistics

SURE = statistics.Interval(62.06, 59.96, 64.16)
UNSURE = statistics.Interval(55.0, None, None)


def test_describe():
  assert progress.describe(SURE) == "62.1 [60.0, 64.2]"
  assert progress.describe(UNSURE) == "55.0 [no interval yet]"


@pytest.fixture
def clock(monkeypatch):
  """Ten seconds pass from one reading to the next."""
  readings = itertools.count(0, 10)
  monkeypatch.setattr(time, "monotonic", lambda: float(next(readings)))


def _console(width=40, **kwargs):
  return rich.console.Console(file=io.StringIO(), width=width, **kwargs)


def test_lines_are_plain_and_exact(clock):
  console = _console()
  lines = progress.Lines(console, total=40)
  lines.stage("grpo", "verify")
  lines.advance(4)
  lines.stage("grpo", "train and score, seed 0")
  lines.best("grpo", SURE)
  lines.advance(36)
  # Neither markup nor the width of the console may touch a name.
  name = "[bold]no_clip-and-a-name-longer-than-the-console-is-wide-007"
  lines.stage(name, "verify")
  lines.advance(4)
  lines.stage("more", "than expected")
  assert console.file.getvalue().splitlines() == [
      "[  0%          ?] grpo: verify",
      # 20 s for a tenth leave 180 s.
      "[ 10%  180s left] grpo: train and score, seed 0",
      "best so far: grpo 62.1 [60.0, 64.2]",
      f"[100%    0s left] {name}: verify",
      "[100%          ?] more: than expected",
  ]


def test_a_search_without_steps_has_lines_too():
  console = _console()
  progress.Lines(console, total=0).stage("canaries", "check")
  assert console.file.getvalue() == "[  0%          ?] canaries: check\n"


def test_lines_count_from_many_threads():
  console = _console()
  lines = progress.Lines(console, total=4000)

  def work():
    for _ in range(1000):
      lines.advance(1)

  threads = [threading.Thread(target=work) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  lines.stage("grpo", "done")
  assert console.file.getvalue().startswith("[100%")


def test_a_bar_shows_candidate_share_and_best():
  console = _console(width=80, force_terminal=True)
  columns = rich.progress.TextColumn("{task.description}", markup=False)
  with rich.progress.Progress(
      columns, rich.progress.TaskProgressColumn(), console=console
  ) as shown:
    bar = progress.Bar(shown, 8)
    bar.stage("grpo", "train and score, seed 0")
    bar.advance(2)
    bar.best("grpo", UNSURE)
    bar.stage("dapo", "[verify]")
    (task,) = shown.tasks
    assert (task.completed, task.total) == (2, 8)
    assert task.description == (
        "dapo: [verify] | best grpo 55.0 [no interval yet]"
    )
  text = console.file.getvalue()
  assert "best so far: grpo 55.0 [no interval yet]" in text
  assert "25%" in text


def test_elsewhere_than_on_a_terminal_lines_go_to_stderr(capsys):
  with progress.display(10) as shown:
    shown.stage("grpo", "verify")
  captured = capsys.readouterr()
  assert captured.out == ""
  assert captured.err == "[  0%          ?] grpo: verify\n"


def test_on_a_terminal_a_bar_goes_to_stderr(capsys, monkeypatch):
  monkeypatch.setenv("FORCE_COLOR", "1")
  with progress.display(10) as shown:
    shown.stage("grpo", "verify")
    shown.advance(10)
    shown.best("grpo", SURE)
  captured = capsys.readouterr()
  assert captured.out == ""
  assert "grpo: verify" in captured.err
  assert "100%" in captured.err
  assert "best so far: grpo" in captured.err


def test_silence(capsys):
  quiet = progress.Silent()
  quiet.stage("grpo", "verify")
  quiet.advance(3)
  quiet.best("grpo", SURE)
  assert capsys.readouterr() == ("", "")
