"""Scores a policy on problem sets, or continues to.

  python launch/evaluate.py --checkpoint=DIR --suite=math6 --data=DIR --out=DIR
  python launch/evaluate.py --checkpoint=embedded --suite=embedded --out=DIR
  python launch/evaluate.py --checkpoint=DIR --problems=FILE.jsonl --out=DIR
  python launch/evaluate.py --from_results=DIR[,DIR] --out=DIR
  python launch/evaluate.py --regrade=DIR --out=DIR

Every problem is stored with all its completions as soon as it is done, in
OUT/SET.jsonl; at the end OUT/summary.json and summary.md have the scores with
their intervals. Interrupted or killed: the same command continues.

--problems adds sets of one's own to those of --suite: files, or datasets as
owner/name[subset/split]; --metric=pass@32 and --weight=0.5 say how they count.
--from_results makes the summary again, without a policy; of several directories
(seeds of sampling or of training) it is over problems and seeds. --regrade gives
stored completions new verdicts, in OUT, and says which changed; the old files
stay. --mesh.data=8 asks on eight devices; fsdp and tensor are as in
launch/train.py.
"""

import json
import pathlib
import sys

from absl import flags
import asking
import jax
import own_sets
import program

from poise_jax.evaluation import (
    display,
    jobs,
    prompt_notes,
    regrading,
    results,
    running,
    summary,
)
from poise_jax.tasks import grading_pool

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Hugging Face directory, or `embedded`."
)
_OUT = flags.DEFINE_string("out", None, "Directory of the results.")
_FROM_RESULTS = flags.DEFINE_list(
    "from_results", [], "Directories to summarise instead of asking a policy."
)
_REGRADE = flags.DEFINE_string(
    "regrade", None, "Directory whose completions to grade again, into --out."
)


def evaluate() -> list[dict[str, results.Results]]:
  """Asks what is missing, and reads all results of the suite."""
  names = own_sets.names()
  settings = asking.settings()
  with grading_pool.GradingPool(asking.WORKERS.value) as pool:
    job = jobs.plan(
        running.directory_of(_CHECKPOINT.value),
        names,
        own_sets.sources(pool),
        settings,
        asking.LIMIT.value,
    )
    for note in prompt_notes.notes(job.policy, settings, job.asked):
      print(f"evaluate: {note}", file=sys.stderr)
    with display.display("", job.completions) as on_done:
      jobs.run(job, _OUT.value, on_done)
  return [summary.read_all(_OUT.value, names)]


def regrade(out: pathlib.Path) -> list[dict[str, results.Results]]:
  """Grades stored completions again, and says which verdicts changed."""
  if out.resolve() == pathlib.Path(_REGRADE.value).resolve():
    raise flags.Error(
        "--out must be another directory than --regrade, whose files stay"
    )
  stored = summary.read_all(_REGRADE.value, own_sets.names() or None)
  total = sum(
      len(record.completions)
      for result in stored.values()
      for record in result.records.values()
  )
  with (
      grading_pool.GradingPool(asking.WORKERS.value) as pool,
      display.display("grading ", total) as on_done,
  ):
    changed = regrading.regrade(stored, out, pool, on_done)
  told = json.dumps(regrading.as_json(changed), indent=2) + "\n"
  results.write_atomically(out / "regraded.json", told)
  for line in regrading.lines(changed):
    print(line)
  return [summary.read_all(out, list(stored))]


def run() -> None:
  """Evaluates, and writes and prints the summary."""
  if not _OUT.value:
    raise flags.Error("give --out=DIR, where results are kept")
  out = pathlib.Path(_OUT.value)
  forms = {
      "--checkpoint": _CHECKPOINT.value,
      "--from_results": _FROM_RESULTS.value,
      "--regrade": _REGRADE.value,
  }
  given = [form for form, value in forms.items() if value]
  if len(given) > 1:
    raise flags.Error(f"give {' or '.join(given)}, not more than one")
  names = own_sets.names() or None
  if _REGRADE.value:
    by_seed = regrade(out)
  elif _FROM_RESULTS.value:
    by_seed = [summary.read_all(d, names) for d in _FROM_RESULTS.value]
  elif _CHECKPOINT.value and names:
    by_seed = evaluate()
  else:
    raise flags.Error(
        "give --checkpoint=DIR and --suite=math6 or --problems=FILE.jsonl; or"
        " --from_results=DIR; or --regrade=DIR"
    )
  found = summary.summarise(by_seed)
  text = summary.markdown(found)
  results.write_atomically(
      out / "summary.json", json.dumps(found, indent=2) + "\n"
  )
  results.write_atomically(out / "summary.md", text)
  print(text, end="")


if __name__ == "__main__":
  jax.config.config_with_absl()  # such as --jax_num_cpu_devices=8
  program.start("evaluate", run, explain=asking.of_mesh)
