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
) -> Iterator[Callable[[str, int], None]]:
  """Shows progress with the time that is left.

  Args:
    title: before the name of each set.
    total: completions in all.
    now: tells seconds.
    console: to show it on; standard error if None.

  Yields:
    A function of the set at work and how many more completions are there.
  """
  console = console or rich.console.Console(stderr=True)
  if not console.is_terminal:
    yield _lines(title, total, now, console)
    return
  bar = rich.progress.Progress(
      rich.progress.TextColumn("{task.description}", markup=False),
      rich.progress.BarColumn(bar_width=30),
      rich.progress.MofNCompleteColumn(),
      rich.progress.TimeElapsedColumn(),
      rich.progress.TextColumn("left"),
      rich.progress.TimeRemainingColumn(),
      console=console,
      speed_estimate_period=300,
  )
  task = bar.add_task(title, total=total)
  with bar:
    yield lambda name, more: bar.update(
        task, advance=more, description=f"{title}{name}"
    )


def _lines(
    title: str,
    total: int,
    now: Callable[[], float],
    console: rich.console.Console,
) -> Callable[[str, int], None]:
  begin, done, shown = now(), 0, -1

  def advance(name: str, more: int) -> None:
    nonlocal done, shown
    done += more
    percent = 100 * done // max(total, 1)
    if percent == shown:
      return
    shown = percent
    left = (now() - begin) * (total - done) / max(done, 1)
    text = f"[{percent:3d}%  {left:5.0f}s left] {title}{name}"
    console.print(text, soft_wrap=True, highlight=False, markup=False)

  return advance
