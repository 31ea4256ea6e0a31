"""Compares two policies on the same problems with the same random numbers.

  python launch/compare.py --a=DIR --b=DIR --suite=math6 --data=DIR --out=DIR

A and B are Hugging Face directories, or directories of results that
launch/evaluate.py wrote. Checkpoints are evaluated in OUT/a and OUT/b as far as
that is missing; then OUT gets comparison.md, .html and .json and manifest.json,
which says what to have to get the same bits. Interrupted or killed: the same
command continues. --mesh.data, .fsdp and .tensor, --problems, --metric and
--weight are as in launch/evaluate.py.

  python launch/compare.py --check=OUT/manifest.json --a=DIR --b=DIR --data=DIR

says whether code, problems, and the checkpoints or results given are those of a
manifest, and what differs; the status is 1 if anything does.
"""

from collections.abc import Mapping
import json
import pathlib
import sys
from typing import Any

from absl import flags
import asking
import jax
import own_sets
import program

from poise_jax.evaluation import (
    comparison,
    display,
    jobs,
    manifest,
    manifest_check,
    problem_sets,
    prompt_notes,
    provenance,
    results,
    running,
    summary,
    verdict,
)
from poise_jax.report import comparison as page
from poise_jax.rollout import chat
from poise_jax.tasks import grading_pool

_A = flags.DEFINE_string("a", None, "Checkpoint or results; or `embedded`.")
_B = flags.DEFINE_string("b", None, "What it is compared with, likewise.")
_OUT = flags.DEFINE_string("out", None, "Directory of the comparison.")
_CHECK = flags.DEFINE_string(
    "check", None, "manifest.json of a comparison, to check instead."
)

# Of a set that is not here, or not known; or of a download.
_UNREADABLE = (ImportError, KeyError, OSError, ValueError)


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
  names = own_sets.names() or None
  if asked and names is None:
    raise flags.Error(
        "give --suite=math6, embedded, or names of sets, or --problems=FILE"
    )
  stored = {
      side: summary.read_all(name, names)
      for side, name in sides.items()
      if side not in asked
  }
  if not asked:
    return stored
  settings = asking.settings()
  with grading_pool.GradingPool(asking.WORKERS.value) as pool:
    sources = own_sets.sources(pool)
    planned = {
        side: jobs.plan(
            running.directory_of(sides[side]),
            names,
            sources,
            settings,
            asking.LIMIT.value,
        )
        for side in sorted(asked)
    }
    check_against(planned, stored)
    for side, job in planned.items():
      for note in prompt_notes.notes(job.policy, settings, job.asked):
        print(f"compare: {side.upper()}: {note}", file=sys.stderr)
    for side, job in planned.items():
      with display.display(f"{side.upper()}: ", job.completions) as on_done:
        jobs.run(job, out / side, on_done)
      stored[side] = summary.read_all(out / side, names)
  return stored


def first_ids(result: results.Results, limit: int) -> list[str]:
  """Ids of the first problems of the set that stored results are of.

  Results are stored in the order of their batches, so the set itself is read.

  Raises:
    flags.Error: if it cannot be, or has changed since.
  """
  header = result.header["set"]
  name = header["name"]
  why = (
      f"--limit={limit} needs the order of the problems of {name}, of which"
      " results do not tell"
  )
  try:
    with grading_pool.GradingPool(1) as pool:
      sources = own_sets.sources(pool, header["split"])
      problems = problem_sets.load(name, sources).problems
  except _UNREADABLE as e:
    raise flags.Error(
        f"{why}, and they cannot be read: {e}. Give --data=DIR with the files"
        " of the problems, or leave --limit out"
    ) from e
  told = [(p.id, p.prompt, p.answer) for p in problems]
  if provenance.digest(told) != header["sha256"]:
    raise flags.Error(
        f"{why}, and the problems here are others than those that were asked;"
        " give --data=DIR with the files of then, or leave --limit out"
    )
  return [p.id for p in problems[:limit]]


def restricted(result: results.Results, limit: int | None) -> results.Results:
  """Stored results of the first problems of their set alone.

  Raises:
    flags.Error: as `first_ids`.
  """
  if not limit or len(result.records) <= limit:
    return result
  first = set(first_ids(result, limit))
  records = {i: x for i, x in result.records.items() if i in first}
  return result._replace(records=records)


def check() -> None:
  """Says what differs from a manifest; ends with status 1 if anything does."""
  expected = manifest_check.read(_CHECK.value)
  sides = {side: p for side, p in (("a", _A.value), ("b", _B.value)) if p}
  for place in sides.values():
    is_checkpoint(place)  # Or something else: said at once.
  found = [manifest_check.itself(expected), manifest_check.code(expected)]
  with grading_pool.GradingPool(1) as pool:
    scored = {}
    for name, of_set in expected["sets"].items():
      try:
        sources = own_sets.sources(pool, of_set["set"]["split"])
        scored[name] = problem_sets.load(name, sources)
      except _UNREADABLE as e:
        part = f"problems of {name}"
        found.append(manifest_check.Finding(part, (f"cannot be read: {e}",)))
      else:
        problems = scored[name].problems
        found.append(manifest_check.problems(expected, name, problems))
    for side, place in sides.items():
      found.append(check_side(expected, side, place, scored))
  for line in manifest_check.lines(found):
    print(line)
  for side in sorted({"a", "b"} - sides.keys()):
    print(f"not checked, {side.upper()}: give --{side}=DIR")
  if any(finding.differences for finding in found):
    sys.exit(1)


def check_side(
    expected: Mapping[str, Any],
    side: str,
    place: str,
    scored: Mapping[str, problem_sets.ScoredSet],
) -> manifest_check.Finding:
  """Checks a checkpoint, as far as there are problems, or stored results."""
  names = list(expected["sets"])
  if not is_checkpoint(place):
    limit = expected["limit"]
    try:
      stored = summary.read_all(place, names)
    except (OSError, ValueError) as e:
      why = f"cannot be read: {e}"
      return manifest_check.Finding(f"results of {side.upper()}", (why,))
    first = {n: restricted(result, limit) for n, result in stored.items()}
    return manifest_check.stored(expected, side, first)
  part = f"checkpoint {side.upper()}"
  if not scored:
    why = "not compared, as the problems of no set can be read"
    return manifest_check.Finding(part, (why,))
  headers = {}
  try:
    for name in scored:
      settings = settings_of(expected, side, name)
      if not headers:  # Reading the weights takes time, and all sets share it.
        policy = running.describe(running.directory_of(place), settings)
      headers[name] = running.prepare(scored[name], policy, settings).header
  except (OSError, ValueError) as e:
    return manifest_check.Finding(part, (str(e),))
  return manifest_check.policy(expected, side, headers)


def settings_of(
    expected: Mapping[str, Any], side: str, name: str
) -> running.Settings:
  """How a set was asked; a template of one's own is that of --template."""
  sampling = expected["sets"][name]["sampling"]
  template = expected["sets"][name]["prompts"]["template"]
  if template not in (*chat.TEMPLATES, "tokenizer"):
    template = asking.settings().template
  return running.Settings(
      seed=sampling["seed"],
      template=template,
      max_tokens=sampling["max_tokens"],
      dtype=sampling["dtype"],
      stop=tuple(expected[side]["results"][name]["policy"]["stop"]),
  )


def run() -> None:
  """Compares, and writes and prints what came out."""
  if _CHECK.value:
    check()
    return
  if not (_A.value and _B.value and _OUT.value):
    raise flags.Error("give --a=DIR, --b=DIR and --out=DIR")
  out = pathlib.Path(_OUT.value)
  found = obtain({"a": _A.value, "b": _B.value}, out)
  if not own_sets.names():
    shared = [name for name in found["a"] if name in found["b"]]
    if not shared:
      raise flags.Error("--a and --b must have a set in common, they have none")
    found = {s: {n: r[n] for n in shared} for s, r in found.items()}
  a, b = (
      {n: restricted(r, asking.LIMIT.value) for n, r in found[side].items()}
      for side in ("a", "b")
  )
  compared = comparison.compare(a, b, limit=asking.LIMIT.value)
  described = manifest.of_comparison(a, b, asking.LIMIT.value)
  write(out, compared, described)
  for sentence in verdict.sentences(compared):
    print(sentence)
  for note in comparison.notes(a, b):
    print(note)
  machines = [described[side]["machines"] for side in ("a", "b")]
  if machines[0] != machines[1] or len(machines[0]) > 1:
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


if __name__ == "__main__":
  jax.config.config_with_absl()  # such as --jax_num_cpu_devices=8
  program.start("compare", run, explain=asking.of_mesh)
