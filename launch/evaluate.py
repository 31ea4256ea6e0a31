"""Scores a policy on problem sets, or continues to.

  python launch/evaluate.py --checkpoint=DIR --suite=math6 --data=DIR --out=DIR
  python launch/evaluate.py --checkpoint=embedded --suite=embedded --out=DIR
  python launch/evaluate.py --from_results=DIR[,DIR] --out=DIR

Every problem is stored with all its completions as soon as it is done, in
OUT/SET.jsonl; at the end OUT/summary.json and summary.md have the scores with
their intervals. Interrupted or killed: the same command continues. The third
form makes the summary again, without a policy; of several directories (seeds
of sampling or of training) it is over problems and seeds. --mesh.data=8 asks on
eight devices; fsdp and tensor are as in launch/train.py.
"""

import json
import pathlib

from absl import flags
import asking
import jax
import program

from poise_jax.evaluation import (
    display,
    jobs,
    problem_sets,
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


def evaluate() -> list[dict[str, results.Results]]:
  """Asks what is missing, and reads all results of the suite."""
  names = problem_sets.names_of(asking.SUITE.value)
  settings = asking.settings()
  with grading_pool.GradingPool(asking.WORKERS.value) as pool:
    job = jobs.plan(
        running.directory_of(_CHECKPOINT.value),
        names,
        asking.sources(pool),
        settings,
        asking.LIMIT.value,
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
    names = (
        problem_sets.names_of(asking.SUITE.value)
        if asking.SUITE.value
        else None
    )
    by_seed = [summary.read_all(d, names) for d in _FROM_RESULTS.value]
  elif _CHECKPOINT.value and asking.SUITE.value:
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


if __name__ == "__main__":
  jax.config.config_with_absl()  # such as --jax_num_cpu_devices=8
  program.start("evaluate", run, explain=asking.of_mesh)
