"""Compares two policies on the same problems with the same random numbers.

  python launch/compare.py --a=DIR --b=DIR --suite=math6 --data=DIR --out=DIR

A and B are Hugging Face directories, or directories of results that
launch/evaluate.py wrote. Checkpoints are evaluated in OUT/a and OUT/b as far as
that is missing; then OUT gets comparison.md, .html and .json and manifest.json,
which says what to have to get the same bits. Interrupted or killed: the same
command continues.
"""

from collections.abc import Mapping, Sequence
import json
import pathlib
import sys
from typing import Any, NoReturn

from absl import app, flags

from poise_jax.evaluation import (
    comparison,
    display,
    jobs,
    manifest,
    problem_sets,
    provenance,
    results,
    running,
    summary,
    verdict,
)
from poise_jax.report import comparison as page
from poise_jax.tasks import arithmetic, grading_pool

_A = flags.DEFINE_string("a", None, "Checkpoint or results; or `embedded`.")
_B = flags.DEFINE_string("b", None, "What it is compared with, likewise.")
_SUITE = flags.DEFINE_string(
    "suite", None, "math6, embedded, or names of sets with commas."
)
_DATA = flags.DEFINE_string(
    "data", None, "Folder of benchmark files; from Hugging Face if not given."
)
_OUT = flags.DEFINE_string("out", None, "Directory of the comparison.")
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


def is_checkpoint(name: str) -> bool:
  """Whether it is a checkpoint; else it holds results.

  Raises:
    flags.Error: if it is neither.
  """
  path = running.directory_of(name)
  if (path / "config.json").is_file():
    return True
  if any(path.glob(f"*{results.SUFFIX}")):
    return False
  raise flags.Error(
      f"{name} must be a checkpoint, with config.json, or a directory of"
      " results, with SET.jsonl; it is neither"
  )


def check_against(
    jobs_of: Mapping[str, jobs.Job],
    stored: Mapping[str, Mapping[str, results.Results]],
) -> None:
  """Refuses, before anything is asked, settings that stored results lack."""
  headers = {
      side: {a.scored.name: a.header for a in job.asked}
      for side, job in jobs_of.items()
  }
  for job_headers in headers.values():
    for side, found in stored.items():
      for name, result in found.items():
        ours = {k: v for k, v in job_headers[name].items() if k != "policy"}
        theirs = {k: v for k, v in result.header.items() if k != "policy"}
        if different := provenance.differences(theirs, ours):
          raise flags.Error(
              f"--{side} has results of {name} with other settings (there,"
              f" here): {'; '.join(different)}; use those"
          )


def obtain(
    sides: Mapping[str, str], out: pathlib.Path
) -> dict[str, dict[str, results.Results]]:
  """Reads results of both sides, after asking what is missing."""
  asked = {side for side, name in sides.items() if is_checkpoint(name)}
  if asked and not _SUITE.value:
    raise flags.Error("give --suite=math6, embedded, or names of sets")
  names = problem_sets.names_of(_SUITE.value) if _SUITE.value else None
  stored = {
      side: summary.read_all(name, names)
      for side, name in sides.items()
      if side not in asked
  }
  if not asked:
    return stored
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
    planned = {
        side: jobs.plan(
            running.directory_of(sides[side]),
            names,
            sources,
            settings,
            _LIMIT.value,
        )
        for side in sorted(asked)
    }
    check_against(planned, stored)
    for side, job in planned.items():
      with display.display(f"{side.upper()}: ", job.completions) as on_done:
        jobs.run(job, out / side, on_done)
      stored[side] = summary.read_all(out / side, names)
  return stored


def restrict(
    found: Mapping[str, results.Results], other: Mapping[str, results.Results]
) -> dict[str, results.Results]:
  """With --limit, only the problems that both have."""
  return {
      name: result._replace(
          records={
              i: record
              for i, record in result.records.items()
              if not _LIMIT.value or i in other[name].records
          }
      )
      for name, result in found.items()
  }


def run() -> None:
  """Compares, and writes and prints what came out."""
  if not (_A.value and _B.value and _OUT.value):
    raise flags.Error("give --a=DIR, --b=DIR and --out=DIR")
  out = pathlib.Path(_OUT.value)
  found = obtain({"a": _A.value, "b": _B.value}, out)
  if not _SUITE.value:
    shared = [name for name in found["a"] if name in found["b"]]
    if not shared:
      raise flags.Error("--a and --b must have a set in common, they have none")
    found = {s: {n: r[n] for n in shared} for s, r in found.items()}
  a = restrict(found["a"], found["b"])
  b = restrict(found["b"], found["a"])
  compared = comparison.compare(a, b, limit=_LIMIT.value)
  described = manifest.of_comparison(a, b, _LIMIT.value)
  write(out, compared, described)
  for sentence in verdict.sentences(compared):
    print(sentence)
  if a and described["a"]["machine"] != described["b"]["machine"]:
    print("Evaluated on different machines or batches: rounding may differ.")


def write(
    out: pathlib.Path,
    compared: comparison.Comparison,
    described: dict[str, Any],
) -> None:
  """Writes all files, each whole or not at all."""
  told = {
      "verdict": verdict.sentences(compared),
      **comparison.as_json(compared),
      "manifest": described["id"],
  }
  as_json = lambda value: json.dumps(value, indent=2) + "\n"
  files = {
      "manifest.json": as_json(described),
      "comparison.json": as_json(told),
      "comparison.md": verdict.markdown(compared, described),
      "comparison.html": page.render(compared, described),
  }
  for name, text in files.items():
    results.write_atomically(out / name, text)


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
  print(f"compare: {' '.join(message.split())}", file=sys.stderr)
  sys.exit(status)


def parse(argv: Sequence[str]) -> list[str]:
  """Parses the flags."""
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    fail(str(error))


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
