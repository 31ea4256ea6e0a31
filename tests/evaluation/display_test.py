"""Progress in lines, with a clock made by hand, and on a terminal."""

import io

import rich.console

from poise_jax.evaluation import display

DONE = (("AIME24", 50, True), ("AIME24", 1, True), ("AMC", 149, True))


def _shown(terminal, title="", done=DONE):
  """With a clock that goes ten seconds each time that it is read."""
  file, times = io.StringIO(), iter(range(0, 100, 10))
  console = rich.console.Console(file=file, force_terminal=terminal, width=90)
  now = lambda: next(times)
  with display.display(title, 200, now=now, console=console) as on_done:
    for batch in done:
      on_done(*batch)
  return file.getvalue()


def test_a_line_a_percent_with_the_time_left():
  assert _shown(False, "A: ").splitlines() == [
      "[ 25%     30s left] A: AIME24",
      "[100%      0s left] A: AMC",
  ]


def test_what_was_there_before_took_no_time():
  done = (("AIME24", 100, False), ("AIME24", 20, True), ("AMC", 80, False))
  assert _shown(False, done=done).splitlines() == [
      "[ 50%      ?s left] AIME24",
      # 20 in the ten seconds since the first look at the clock, 80 to go.
      "[ 60%     40s left] AIME24",
      "[100%      0s left] AMC",
  ]
  assert "0:00:40 left" in _shown(True, done=done[:2])


def test_a_bar_on_a_terminal():
  shown = _shown(True)
  assert "AMC" in shown and "200/200" in shown and "0:00:00 left" in shown
