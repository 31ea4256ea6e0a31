"""Turns what a source raises into words that do not vary between runs."""

from collections.abc import Iterator
import contextlib
import re
import traceback

import jax

from poise_jax.candidates import findings

FILE = "<candidate>"

_LONGEST = 300
_VARYING = (
    (re.compile(r"0x[0-9a-fA-F]+"), "0x"),
    (re.compile(r"(?:/[\w.+<>-]+){2,}"), "a file"),
    (re.compile(r"\bid=\d+"), "id"),
)
_HINTS: tuple[tuple[type[BaseException], str], ...] = (
    (
        jax.errors.ConcretizationTypeError,
        "values of arrays and hparams are known only at run time: choose with"
        " jnp.where or jax.lax.cond, not with if, and, or, float(), int()",
    ),
    (
        jax.errors.TracerArrayConversionError,
        "values of arrays and hparams are known only at run time",
    ),
    (
        KeyError,
        "name every constant in HPARAMS, and return every state key from init",
    ),
    (NameError, "define the name, or use one that is in scope"),
    (ImportError, "nothing can be imported; the scope holds what there is"),
    (OSError, "a loss may not touch files, processes or the network"),
)
_DEFAULT_HINT = (
    "shapes are [P, G, T] for tokens and [P, G] for completions: add an axis"
    " with x[..., None], and mind the names of batch fields"
)


@contextlib.contextmanager
def blaming(rule: str, words: str) -> Iterator[None]:
  """Turns whatever the body raises into a refusal.

  Args:
    rule: of the finding.
    words: what could not be done; the line and the error follow.
  """
  try:
    yield
  except findings.RefusedError:
    raise
  except MemoryError as error:
    raise findings.RefusedError(
        "memory", f"{words}: out of memory", "make smaller arrays"
    ) from error
  except RecursionError as error:
    raise findings.RefusedError(
        "recursion", f"{words}: it recurses without end", "do not recurse"
    ) from error
  except BaseException as error:
    raise findings.RefusedError(
        rule, f"{words}: {_describe(error)}", _hint(error)
    ) from error


def _describe(error: BaseException) -> str:
  """Says what was raised, and in which line of the source."""
  text = str(error).split("\n\n")[0]
  for pattern, replacement in _VARYING:
    text = pattern.sub(replacement, text)
  text = " ".join(text.split())[:_LONGEST]
  lines = [
      frame.lineno
      for frame in traceback.extract_tb(error.__traceback__)
      if frame.filename == FILE
  ]
  where = f"line {lines[-1]}: " if lines else ""
  return f"{where}{type(error).__name__}: {text}"


def _hint(error: BaseException) -> str:
  """Finds what to advise for a kind of error."""
  for kind, hint in _HINTS:
    if isinstance(error, kind):
      return hint
  return _DEFAULT_HINT
