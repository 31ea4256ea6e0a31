"""Scores a policy on problem sets, or continues to.

  python launch/evaluate.py --checkpoint=DIR --suite=math6 --data=DIR --out=DIR
  python launch/evaluate.py --checkpoint=embedded --suite=embedded --out=DIR
  python launch/evaluate.py --from_results=DIR[,DIR] --out=DIR

Every problem is stored with all its completions as soon as it is done, in
OUT/SET.jsonl; at the end OUT/summary.json and summary.md have the scores with
their intervals. Interrupted or killed: the same command continues. The third
form makes the summary again, without a policy; of several directories (seeds
of sampling or of training) it is over problems and seeds.
"""

from collections.abc import Sequence
import json
import pathlib
import sys
from typing import NoReturn

from absl import app, flags

from poise_jax.evaluation import (
    display,
    jobs,
    problem_sets,
    results,
    running,
    summary,
)
from poise_jax.tasks import arithmetic, grading_pool

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Hugging Face directory, or `embedded`."
)
_SUITE = flags.DEFINE_string(
    "suite", None, "math6, embedded, or names of sets with commas."
)
_DATA = flags.DEFINE_string(
    "data", None, "Folder of benchmark files; from Hugging Face if not given."
)
_OUT = flags.DEFINE_string("out", None, "Directory of the results.")
_FROM_RESULTS = flags.DEFINE_list(
    "from_results", [], "Directories to summarise instead of asking a policy."
)
_LIMIT = flags.DEFINE_integer("limit", None, "First problems of each set.")
_SEED = flags.DEFINE_integer("seed", 0, "Of sampling.", 0)
_TEMPLATE = flags.DEFINE_string(
    "template", "qwen_math", "qwen_math, r1, none, tokenizer, or a .jinja file."
)
_MAX_TOKENS = flags.DEFINE_integer(
    "max_tokens", None, "Of a completion; 4096 for maths if not given."
)
_BATCH = flags.DEFINE_integer("batch", 64, "Completions decoded at once.")
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Of weights and activations."
)
_SPLIT = flags.DEFINE_enum(
    "split", "confirm", ["search", "confirm", "sealed"], "Of embedded problems."
)
_WORKERS = flags.DEFINE_integer("workers", 2, "Processes that grade.", 1)


def evaluate() -> list[dict[str, results.Results]]:
  """Asks what is missing, and reads all results of the suite."""
  names = problem_sets.names_of(_SUITE.value)
  settings = running.Settings(
      seed=_SEED.value,
      template=_TEMPLATE.value,
      max_tokens=_MAX_TOKENS.value,
      dtype=_DTYPE.value,
      batch=_BATCH.value,
  )
  with grading_pool.GradingPool(_WORKERS.value) as pool:
    sources = problem_sets.Sources(
        pathlib.Path(_DATA.value) if _DATA.value else None,
        arithmetic.Split[_SPLIT.value.upper()],
        pool,
    )
    job = jobs.plan(
        running.directory_of(_CHECKPOINT.value),
        names,
        sources,
        settings,
        _LIMIT.value,
    )
    with display.display("", job.completions) as on_done:
      jobs.run(job, _OUT.value, on_done)
  return [summary.read_all(_OUT.value, names)]


def run() -> None:
  """Evaluates, and writes and prints the summary."""
  if not _OUT.value:
    raise flags.Error("give --out=DIR, where results are kept")
  if _FROM_RESULTS.value:
    if _CHECKPOINT.value:
      raise flags.Error("give --checkpoint or --from_results, not both")
    names = problem_sets.names_of(_SUITE.value) if _SUITE.value else None
    by_seed = [summary.read_all(d, names) for d in _FROM_RESULTS.value]
  elif _CHECKPOINT.value and _SUITE.value:
    by_seed = evaluate()
  else:
    raise flags.Error(
        "give --checkpoint=DIR and --suite=math6, or --from_results=DIR"
    )
  found = summary.summarise(by_seed)
  out = pathlib.Path(_OUT.value)
  text = summary.markdown(found)
  results.write_atomically(
      out / "summary.json", json.dumps(found, indent=2) + "\n"
  )
  results.write_atomically(out / "summary.md", text)
  print(text, end="")


def main(argv: Sequence[str]) -> None:
  """Runs; anything wrong is one line on stderr and exit status 2."""
  try:
    if argv[1:]:
      raise flags.Error(f"unexpected argument {argv[1]!r}: use --flag=value")
    run()
  except KeyboardInterrupt:
    fail("interrupted; the same command continues", status=130)
  except (flags.Error, ValueError, OSError, ImportError) as error:
    fail(str(error))


def fail(message: str, status: int = 2) -> NoReturn:
  """Ends the program with one line on stderr."""
  print(f"evaluate: {' '.join(message.split())}", file=sys.stderr)
  sys.exit(status)


def parse(argv: Sequence[str]) -> list[str]:
  """Parses the flags."""
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    fail(str(error))


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
