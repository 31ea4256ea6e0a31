"""Shows the built-in algorithms.

python launch/catalog.py                     lists them
python launch/catalog.py --name=gspo         equation, constants, peers, source
python launch/catalog.py --source=gspo       the text of a candidate
python launch/catalog.py --markdown=FILE     the whole catalogue as a document
"""

from collections.abc import Sequence
import pathlib
import sys
from typing import NoReturn

from absl import app, flags

from poise_jax.algorithms import catalog, reference

_NAME = flags.DEFINE_string("name", None, "Algorithm to describe.")
_SOURCE = flags.DEFINE_string("source", None, "Algorithm to print as source.")
_MARKDOWN = flags.DEFINE_string(
    "markdown", None, "File for the whole catalogue; - prints it."
)


def listing() -> str:
  """One line for each algorithm, under its family."""
  lines, family = [], None
  width = max(map(len, catalog.names()))
  for name in catalog.names():
    entry = catalog.describe(name)
    if entry.family != family:
      family = entry.family
      lines.append(f"{family}:")
    lines.append(f"  {name:{width}}  {entry.title}")
  return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
  """Prints or writes whatever the flags ask for."""
  if argv[1:]:
    fail(f"unexpected argument {argv[1]!r}: use --flag=value")
  try:
    if _NAME.value:
      print(reference.text(_NAME.value))
    if _SOURCE.value:
      print(catalog.source(_SOURCE.value), end="")
  except ValueError as error:
    fail(str(error))
  if _MARKDOWN.value == "-":
    print(reference.markdown(), end="")
  elif _MARKDOWN.value:
    path = pathlib.Path(_MARKDOWN.value)
    try:
      path.write_text(reference.markdown(), "utf-8")
    except OSError as error:
      fail(f"--markdown={path}: {error.strerror}")
  if not (_NAME.value or _SOURCE.value or _MARKDOWN.value):
    print(listing())


def fail(message: str) -> NoReturn:
  """Ends the program with a message and no traceback."""
  print(f"catalog: {message}", file=sys.stderr)
  sys.exit(2)


if __name__ == "__main__":
  app.run(main)
