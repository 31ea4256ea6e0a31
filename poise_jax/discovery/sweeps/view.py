"""A sweep as plain data: records for files, a data frame for notebooks."""

from collections.abc import Sequence
import csv
import io
from typing import Any

from poise_jax.discovery.sweeps import cell
from poise_jax.discovery.sweeps import sweep as sweep_lib
from poise_jax.discovery.sweeps import table as table_lib


def describe(config: cell.Config) -> dict[str, Any]:
  """What a configuration is, in one level."""
  return {
      "config": config.name,
      "algorithm": config.algorithm,
      "task": config.task,
      "budget": config.budget.name,
      "steps": config.budget.train.steps,
      "prompts": config.budget.train.prompts,
      "group_size": config.budget.train.group_size,
      "epochs": config.budget.train.epochs,
      "learning_rate": config.budget.train.learning_rate,
      "base": config.base,
      "split": config.split.name.lower(),
      **{f"hparam.{k}": float(v) for k, v in config.hparams.items()},
  }


def cells(done: Sequence[sweep_lib.Done]) -> list[dict[str, Any]]:
  """One record a cell: what it is, how it ended, all its metrics."""
  return [_cell(one) for one in done]


def _cell(done: sweep_lib.Done) -> dict[str, Any]:
  run = done.evaluation
  found = describe(done.cell.config) | {
      "seed": done.cell.seed,
      "cell": done.cell.id,
      "outcome": run.outcome if run else "failed",
      "reason": done.reason,
      "seconds": None,
  }
  if run is not None:
    elapsed = run.finished_at - run.started_at
    found |= {"seconds": elapsed.total_seconds(), **run.metrics}
  return found


def rows(table: table_lib.Table) -> list[dict[str, Any]]:
  """One record a configuration: scores, differences, what holds."""
  return [_row(row) for row in table.rows]


def _row(row: table_lib.Row) -> dict[str, Any]:
  overall = row.overall or (None, None, None)
  gap = row.difference
  interval = gap.interval if gap else (None, None, None)
  return describe(row.config) | {
      "seeds": len(row.scores),
      "planned": row.planned,
      "overall": overall[0],
      "overall_low": overall[1],
      "overall_high": overall[2],
      "difference": interval[0],
      "difference_low": interval[1],
      "difference_high": interval[2],
      "p_value": gap.p_value if gap else None,
      "p_adjusted": row.adjusted,
      "detectable": row.detectable,
      "verdict": row.verdict,
      "reason": "; ".join(f"seed {s}: {r}" for s, r in row.reasons.items()),
      "seconds": row.seconds,
      **{k: v for k, v in row.metrics.items() if k != "overall"},
  }


def as_json(
    done: Sequence[sweep_lib.Done], table: table_lib.Table
) -> dict[str, Any]:
  """All there is to know, for other programs."""
  return {
      "baseline": table.baseline,
      "tests": table.tests,
      "paired": table.paired,
      "versions": dict(done[0].cell.key["versions"]),
      "base_sha256": sorted({d.cell.key["base"] for d in done}),
      "configs": rows(table),
      "cells": cells(done),
  }


def as_csv(records: Sequence[dict[str, Any]]) -> str:
  """Records as CSV; columns in the order in which they first occur."""
  columns = dict.fromkeys(name for record in records for name in record)
  text = io.StringIO()
  writer = csv.DictWriter(text, list(columns), lineterminator="\n")
  writer.writeheader()
  writer.writerows(records)
  return text.getvalue()


def to_pandas(records: Sequence[dict[str, Any]]) -> Any:
  """Records, from `cells` or `rows`, as a `pandas.DataFrame`.

  Raises:
    ImportError: if pandas is not installed.
  """
  try:
    import pandas
  except ImportError as error:
    raise ImportError(
        "a data frame needs pandas: `pip install pandas`, or use the records"
        " as they are"
    ) from error
  return pandas.DataFrame.from_records(list(records))
