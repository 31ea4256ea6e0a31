"""What programs that print one line for whatever is wrong have in common."""

from collections.abc import Callable, Sequence
import sys
from typing import NoReturn

from absl import app, flags


def start(
    name: str,
    run: Callable[[], None],
    *,
    errors: tuple[type[Exception], ...] = (),
    explain: Callable[[Exception], str] = str,
    load: Callable[[], object] = lambda: None,
) -> None:
  """Parses the flags and runs; anything wrong is one line and status 2.

  Args:
    name: begins the line.
    run: the program.
    errors: further exceptions that are the user's to mend.
    explain: words an error.
    load: executes what flags name, such as an experiment file, as soon as they
      are parsed; whatever it raises is the user's to mend.
  """
  expected = (flags.Error, ValueError, OSError, ImportError, *errors)

  def main(argv: Sequence[str]) -> None:
    try:
      if argv[1:]:
        raise flags.Error(f"unexpected argument {argv[1]!r}: use --flag=value")
      run()
    except KeyboardInterrupt:
      fail(name, "interrupted; the same command continues", status=130)
    except expected as error:
      fail(name, explain(error))

  def parse(argv: Sequence[str]) -> list[str]:
    try:
      rest = flags.FLAGS(argv)
      load()
      return rest
    except flags.Error as error:
      fail(name, str(error))
    except Exception as error:  # Whatever an experiment file may raise.
      # Of a traceback the last line says what is wrong.
      reason = str(error).strip().split("\n")[-1].strip()
      kind = type(error).__name__
      fail(name, f"cannot load --config: {kind}: {reason}")

  app.run(main, flags_parser=parse)


def fail(name: str, message: str, status: int = 2) -> NoReturn:
  """Ends the program with one line on stderr."""
  print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
  sys.exit(status)
