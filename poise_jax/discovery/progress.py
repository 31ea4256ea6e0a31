"""What a running search shows: candidate, stage, best so far, time left."""

from collections.abc import Iterator
import contextlib
import threading
import time
from typing import Protocol, runtime_checkable

import rich.console
import rich.progress

from poise_jax.evaluation import statistics


@runtime_checkable
class Progress(Protocol):
  """Where the search says what it is doing; callable from any thread."""

  def stage(self, candidate: str, stage: str) -> None:
    """A candidate enters a stage."""

  def advance(self, units: int) -> None:
    """Some training steps are done."""

  def best(self, candidate: str, interval: statistics.Interval) -> None:
    """The best candidate so far, with the interval of its mean."""


def describe(interval: statistics.Interval) -> str:
  """Writes a mean with its interval, e.g. 62.1 [60.0, 64.2]."""
  if interval.low is None or interval.high is None:
    return f"{interval.mean:.1f} [no interval yet]"
  return f"{interval.mean:.1f} [{interval.low:.1f}, {interval.high:.1f}]"


class Silent:
  """Shows nothing."""

  def stage(self, candidate: str, stage: str) -> None:
    """Ignores it."""

  def advance(self, units: int) -> None:
    """Ignores it."""

  def best(self, candidate: str, interval: statistics.Interval) -> None:
    """Ignores it."""


class Bar:
  """A live bar on a terminal."""

  def __init__(self, bar: rich.progress.Progress, total: int):
    self._bar = bar
    self._best = ""
    self._task = bar.add_task("starting", total=total)

  def stage(self, candidate: str, stage: str) -> None:
    """Names the candidate and its stage beside the bar."""
    text = f"{candidate}: {stage}{self._best}"
    self._bar.update(self._task, description=text)

  def advance(self, units: int) -> None:
    """Moves the bar."""
    self._bar.advance(self._task, units)

  def best(self, candidate: str, interval: statistics.Interval) -> None:
    """Prints a new best above the bar and keeps it beside it."""
    self._best = f" | best {candidate} {describe(interval)}"
    text = f"best so far: {candidate} {describe(interval)}"
    # Brackets are no markup.
    self._bar.console.print(text, highlight=False, markup=False)


class Lines:
  """One plain line an event, where there is no terminal."""

  def __init__(self, console: rich.console.Console, total: int):
    self._console, self._total, self._done = console, total, 0
    self._start = time.monotonic()
    self._lock = threading.Lock()

  def _print(self, text: str) -> None:
    self._console.print(text, soft_wrap=True, highlight=False, markup=False)

  def stage(self, candidate: str, stage: str) -> None:
    """Prints share done, time left, candidate and stage."""
    with self._lock:
      share = self._done / max(self._total, 1)
      elapsed = time.monotonic() - self._start
      # The total is rough: beyond it nobody knows.
      known = 0 < share <= 1
      left = f"{elapsed * (1 / share - 1):4.0f}s left" if known else "?"
      share = min(share, 1.0)
      self._print(f"[{share:4.0%} {left:>10}] {candidate}: {stage}")

  def advance(self, units: int) -> None:
    """Counts."""
    with self._lock:
      self._done += units

  def best(self, candidate: str, interval: statistics.Interval) -> None:
    """Prints the best so far."""
    self._print(f"best so far: {candidate} {describe(interval)}")


@contextlib.contextmanager
def display(total: int) -> Iterator[Progress]:
  """Shows progress on standard error: a bar on a terminal, else plain lines.

  Args:
    total: training steps of the whole search.
  """
  console = rich.console.Console(stderr=True)
  if not console.is_terminal:
    yield Lines(console, total)
    return
  bar = rich.progress.Progress(
      rich.progress.TextColumn("{task.description}", markup=False),
      rich.progress.BarColumn(bar_width=20),
      rich.progress.TaskProgressColumn(),
      rich.progress.TimeElapsedColumn(),
      rich.progress.TextColumn("left"),
      rich.progress.TimeRemainingColumn(),
      console=console,
  )
  with bar:
    yield Bar(bar, total)
