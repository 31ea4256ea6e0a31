"""Progress in lines, with a clock made by hand, and on a terminal."""

import io

import rich.console

from poise_jax.evaluation import display


def _shown(terminal, title=""):
  file, times = io.StringIO(), iter(range(0, 100, 10))
  console = rich.console.Console(file=file, force_terminal=terminal, width=90)
  now = lambda: next(times)
  with display.display(title, 200, now=now, console=console) as on_done:
    on_done("AIME24", 50)
    on_done("AIME24", 1)
    on_done("AMC", 149)
  return file.getvalue()


def test_a_line_a_percent_with_the_time_left():
  assert _shown(False, "A: ").splitlines() == [
      "[ 25%     30s left] A: AIME24",
      "[100%      0s left] A: AMC",
  ]


def test_a_bar_on_a_terminal():
  shown = _shown(True)
  assert "AMC" in shown and "200/200" in shown and "left" in shown
