"""How far an evaluation is, on standard error: a bar, or a line a percent."""

from collections.abc import Callable, Iterator
import contextlib
import time

import rich.console
import rich.progress


@contextlib.contextmanager
def display(
    title: str,
    total: int,
    *,
    now: Callable[[], float] = time.monotonic,
    console: rich.console.Console | None = None,
) -> Iterator[Callable[[str, int, bool], None]]:
  """Shows progress with the time that is left.

  That time goes by the completions that were asked for now: those that were
  there before took none.

  Args:
    title: before the name of each set.
    total: completions in all.
    now: tells seconds.
    console: to show it on; standard error if None.

  Yields:
    A function of the set at work, how many more completions are there, and
    whether they were asked for now.
  """
  console = console or rich.console.Console(stderr=True)
  left = _make_left(total, now)
  if not console.is_terminal:
    yield _lines(title, total, left, console)
    return
  bar = rich.progress.Progress(
      rich.progress.TextColumn("{task.description}", markup=False),
      rich.progress.BarColumn(bar_width=30),
      rich.progress.MofNCompleteColumn(),
      rich.progress.TimeElapsedColumn(),
      rich.progress.TextColumn("{task.fields[left]} left", markup=False),
      console=console,
  )
  task = bar.add_task(title, total=total, left=_clock(None))

  def advance(name: str, more: int, fresh: bool) -> None:
    text = _clock(left(more, fresh))
    bar.update(task, advance=more, description=f"{title}{name}", left=text)

  with bar:
    yield advance


def _make_left(
    total: int, now: Callable[[], float]
) -> Callable[[int, bool], float | None]:
  """Makes a function of what came in, to the seconds left; None: not known."""
  begin, done, asked = now(), 0, 0

  def left(more: int, fresh: bool) -> float | None:
    nonlocal done, asked
    done += more
    asked += more if fresh else 0
    if done >= total:
      return 0.0
    return (now() - begin) * (total - done) / asked if asked else None

  return left


def _clock(seconds: float | None) -> str:
  """Hours, minutes and seconds."""
  if seconds is None:
    return "-:--:--"
  minutes, rest = divmod(round(seconds), 60)
  return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _lines(
    title: str,
    total: int,
    left: Callable[[int, bool], float | None],
    console: rich.console.Console,
) -> Callable[[str, int, bool], None]:
  done, shown = 0, -1

  def advance(name: str, more: int, fresh: bool) -> None:
    nonlocal done, shown
    done += more
    seconds = left(more, fresh)
    percent = 100 * done // max(total, 1)
    if percent == shown:
      return
    shown = percent
    time_left = "    ?" if seconds is None else f"{seconds:5.0f}"
    text = f"[{percent:3d}%  {time_left}s left] {title}{name}"
    console.print(text, soft_wrap=True, highlight=False, markup=False)

  return advance
