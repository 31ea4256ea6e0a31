"""Trains and scores every configuration with every seed, or continues to.

  python launch/sweep.py --config=experiments/train_embedded.py --workdir=DIR \
      --sweep="algorithm=grpo,dapo,vm_av_grpo;lr=1e-4,3e-4;seed=0:5"

Axes are fields of the experiment (`lr`, `train.epochs`, `policy`), constants of
the algorithms (`clip_eps_high`), `algorithm` (of the catalogue, or the FILE.py
of a candidate) and `seed`; `a:b` are whole numbers. With --random=N, N
combinations are drawn instead of all, also from `log(1e-5,1e-3)` and
`uniform(a,b)`. --plan_only says what it would take and could find.

Cells are kept in DIR/archive.db by all that they are a function of: killed, the
same command continues, and another sweep there trains only what is new. DIR
gets table.md, index.html, sweep.json, table.csv and cells.csv.
"""

import os

# As in launch/search.py, so that cells of either have the same bits.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("NPROC", "2")

from collections.abc import Mapping, Sequence
import functools
import json
import pathlib
import shlex
import sys
from typing import Any

from absl import flags
from ml_collections import config_flags
import program
import sweep_axes

from poise_jax.archive import store
from poise_jax.discovery import progress
from poise_jax.discovery.sweeps import design as design_lib
from poise_jax.discovery.sweeps import executors, view
from poise_jax.discovery.sweeps import forecast as forecast_lib
from poise_jax.discovery.sweeps import sweep as sweep_lib
from poise_jax.discovery.sweeps import table as table_lib
from poise_jax.evaluation import results
from poise_jax.report import sweep as sweep_page
from poise_jax.report import sweep_text

_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment file.")
_SWEEP = flags.DEFINE_string(
    "sweep", None, "NAME=VALUE,VALUE;...; that of the experiment if not given."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Archive and tables.")
_ARCHIVE = flags.DEFINE_string(
    "archive", None, "SQLAlchemy URL, instead of WORKDIR/archive.db."
)
_BASELINE = flags.DEFINE_string(
    "baseline", None, "Configuration to compare with; the first if not given."
)
_RANDOM = flags.DEFINE_integer("random", None, "Combinations to draw.", 1)
_DESIGN_SEED = flags.DEFINE_integer("design_seed", 0, "Of the draws.", 0)
_PAIRED = flags.DEFINE_bool(
    "paired", True, "The same seeds for all; else each has its own."
)
_WORKERS = flags.DEFINE_integer("workers", 2, "Cells at once.", 1)
_PROCESSES = flags.DEFINE_bool(
    "processes", False, "Each in a process of its own, instead of threads."
)
_PLAN_ONLY = flags.DEFINE_bool("plan_only", False, "Say the plan and end.")
_TABLE_ONLY = flags.DEFINE_bool(
    "table_only", False, "Write the tables of what is there; train nothing."
)


def archive_location() -> str:
  """The archive's URL or path."""
  if not _WORKDIR.value:
    raise flags.Error("give --workdir=DIR, where cells and tables are kept")
  return _ARCHIVE.value or str(pathlib.Path(_WORKDIR.value) / "archive.db")


def opened(*, create: bool) -> store.Archive | None:
  """The archive; None if there is none and none is to be made."""
  location = archive_location()
  path = pathlib.Path(location)
  if create:
    pathlib.Path(_WORKDIR.value).mkdir(parents=True, exist_ok=True)
  elif "://" not in location and not path.exists():
    return None
  return store.Archive.open(location, create=create)


def executor() -> executors.Executor:
  """How cells are run."""
  kind = executors.processes if _PROCESSES.value else executors.threads
  return kind(_WORKERS.value)


def run() -> None:
  """Plans, trains what is missing, and writes the tables."""
  archive_location()
  told = sweep_axes.read(
      _CONFIG.value,
      _SWEEP.value,
      draw=_RANDOM.value
      and functools.partial(
          design_lib.random, count=_RANDOM.value, seed=_DESIGN_SEED.value
      ),
  )
  baseline = _BASELINE.value or told.baseline or told.configs[0].name
  names = [config.name for config in told.configs]
  if baseline not in names:
    raise flags.Error(
        f"--baseline={baseline} must be a configuration of the sweep; there"
        f" are: {', '.join(names)}"
    )
  design = design_lib.paired if _PAIRED.value else design_lib.independent
  cells = sweep_lib.plan(told.configs, told.seeds, design)
  dry = _PLAN_ONLY.value or _TABLE_ONLY.value
  archive = opened(create=not dry)
  try:
    forecast = forecast_lib.forecast(cells, archive)
    for sentence in forecast_lib.sentences(
        forecast, workers=_WORKERS.value, axes=told.counts
    ):
      print(sentence, file=None if _PLAN_ONLY.value else sys.stderr)
    if _PLAN_ONLY.value:
      return
    if archive is None:
      raise flags.Error(f"--table_only: nothing in {archive_location()} yet")
    if _TABLE_ONLY.value:
      done = sweep_lib.stored(cells, archive)
    else:
      with progress.display(forecast.missing) as shown:
        done = sweep_lib.sweep(
            told.configs,
            told.seeds,
            executor(),
            archive=archive,
            design=design,
            progress=shown,
        )
  finally:
    if archive is not None:
      archive.close()
  table = table_lib.make(done, baseline)
  write(done, table, told.title)
  for sentence in sweep_text.sentences(table):
    print(sentence)
  print(f"tables are in {_WORKDIR.value}")
  failed = sum(one.evaluation is None for one in done)
  if failed and not _TABLE_ONLY.value:
    raise flags.Error(
        f"{failed} of {len(done)} cells failed: the same command runs them"
        " again"
    )


def write(
    done: Sequence[sweep_lib.Done], table: table_lib.Table, title: str
) -> None:
  """Writes all files, each whole or not at all."""
  folder = pathlib.Path(_WORKDIR.value)
  about = facts(done)
  files = {
      "table.md": sweep_text.markdown(table, about, title),
      "sweep.json": json.dumps(view.as_json(done, table), indent=2) + "\n",
      "table.csv": view.as_csv(view.rows(table)),
      "cells.csv": view.as_csv(view.cells(done)),
  }
  for name, text in files.items():
    results.write_atomically(folder / name, text)
  sweep_page.write(table, about, title, folder)


def facts(done: Sequence[sweep_lib.Done]) -> Mapping[str, Any]:
  """What the table rests on."""
  runs = [d.evaluation for d in done if d.evaluation is not None]
  seconds = sum((r.finished_at - r.started_at).total_seconds() for r in runs)
  values = lambda of: ", ".join(sorted({str(of(d)) for d in done}))
  script = os.path.relpath(sys.argv[0])
  skipped = ("--table_only", "--workdir", "--archive")
  flags_given = [a for a in sys.argv[1:] if not a.startswith(skipped)]
  return {
      "command": shlex.join(["python", script, *flags_given, "--workdir=DIR"]),
      "cells": f"{len(runs)} of {len(done)}",
      "seeds": values(lambda d: d.cell.seed),
      "task": values(lambda d: d.cell.key["task"]),
      "budget": values(lambda d: d.cell.config.budget.name),
      "problems": values(lambda d: d.cell.config.split.name.lower()),
      "base policy": values(lambda d: d.cell.key["base"]),
      "cost": f"{seconds / 3600:.2f} hours of cells by the clock,"
      f" {seconds / max(len(runs), 1):.1f} s each",
      **dict(done[0].cell.key["versions"]),
  }


def load() -> None:
  """Executes the experiment file: missing, it is noticed only when asked."""
  if _CONFIG.value is None or not callable(_CONFIG.value.to_dict):
    raise flags.Error(
        "give --config=FILE, such as experiments/train_embedded.py"
    )


if __name__ == "__main__":
  program.start("sweep", run, errors=(store.ArchiveError,), load=load)
