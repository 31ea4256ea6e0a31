"""A sweep in words and in Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from poise_jax.discovery.sweeps import table as table_lib
from poise_jax.evaluation import statistics
from poise_jax.tasks import embedded

METHODS = (
    "Overall is on 0-100, means are over seeds. Intervals are Student's at"
    " 95 %, not corrected, the variance of each configuration moderated by that"
    " of the others with four degrees of freedom at most. p-values are of the"
    " same t statistic, corrected by Holm's method for the number of tests:"
    " better and worse mean that the corrected one is below 5 %. Open is not"
    " equal: see what would have been detectable, with a chance of 80 %."
    " Identical is the baseline bit for bit. Problems are the same for all, so"
    " what is said holds for these problems, this base policy and this budget."
)


def sets(table: table_lib.Table) -> list[tuple[str, str]]:
  """Name and metric of each scored set, of all tasks that occur."""
  tasks = dict.fromkeys(row.config.task for row in table.rows)
  return [
      (one.name, f"{one.metric}/{one.name}")
      for task in tasks
      for one in embedded.named(task).suite
  ]


def heads(table: table_lib.Table) -> tuple[str, ...]:
  """Names of the columns."""
  return (
      *("configuration", "Overall, 95 %", "seeds", "difference, 95 %"),
      *("p, corrected", "detectable", "verdict"),
      *(name for name, _ in sets(table)),
      *("valid", "length", "s a cell"),
  )


def sentences(table: table_lib.Table) -> list[str]:
  """Says what holds, and what does not."""
  by_verdict = lambda verdict: [r for r in table.rows if r.verdict == verdict]
  told = []
  for verdict in ("better", "worse"):
    if rows := by_verdict(verdict):
      listed = ", ".join(
          f"{r.config.name} by {interval(r.difference.interval, sign=True)}"
          for r in rows
      )
      told.append(
          f"{verdict.capitalize()} than {table.baseline}, of {table.tests}"
          f" tested: {listed}."
      )
  if not by_verdict("better") and table.tests:
    told.insert(
        0,
        f"Nothing is better than {table.baseline}, of {table.tests} tested.",
    )
  if rows := by_verdict("open"):
    reach = [r.detectable for r in rows]
    told.append(
        f"No difference from {table.baseline} detected:"
        f" {', '.join(r.config.name for r in rows)} (detectable would have been"
        f" {min(reach):.1f} to {max(reach):.1f} points)."
    )
  if rows := by_verdict("identical"):
    told.append(
        f"The same policies as {table.baseline}, bit for bit:"
        f" {', '.join(r.config.name for r in rows)}."
    )
  missing: dict[str, list[str]] = {}
  for row in table.rows:
    if row.overall is None:
      missing.setdefault(why(row), []).append(row.config.name)
  told += [
      f"No mean for {', '.join(names)} ({reason})."
      for reason, names in missing.items()
  ]
  if not table.paired:
    told.append("Seeds are not shared: differences are unpaired (Welch).")
  return told


def why(row: table_lib.Row) -> str:
  """Why seeds have no score, each reason once."""
  seeds: dict[str, list[str]] = {}
  for seed, reason in row.reasons.items():
    seeds.setdefault(reason, []).append(str(seed))
  return "; ".join(
      f"seed {', '.join(own)}: {reason}" for reason, own in seeds.items()
  )


def interval(found: statistics.Interval | None, *, sign: bool = False) -> str:
  """Writes a mean with its ends, such as 57.1 [55.0, 59.2]."""
  if found is None:
    return ""
  form = "+.1f" if sign else ".1f"
  if found.low is None or found.high is None:
    return f"{found.mean:{form}}"
  return f"{found.mean:{form}} [{found.low:{form}}, {found.high:{form}}]"


def cells(table: table_lib.Table, row: table_lib.Row) -> tuple[str, ...]:
  """What a table says of a configuration, see `heads`."""
  metric = lambda name, form: (
      f"{row.metrics[name]:{form}}" if name in row.metrics else ""
  )
  percent = lambda name: (
      f"{100 * row.metrics[name]:.1f}" if name in row.metrics else ""
  )
  return (
      row.config.name,
      interval(row.overall),
      f"{len(row.scores)} of {row.planned}",
      interval(row.difference and row.difference.interval, sign=True),
      p_text(row.adjusted),
      "" if row.detectable is None else f"{row.detectable:.1f}",
      {"none": "not judged" if not row.reasons else "failed"}.get(
          row.verdict, row.verdict
      ),
      *(percent(name) for _, name in sets(table)),
      percent("valid_rate"),
      metric("response_length", ".1f"),
      "" if row.seconds is None else f"{row.seconds:.0f}",
  )


def p_text(value: float | None) -> str:
  """Writes a p-value: `<0.001`, or two significant digits."""
  if value is None:
    return ""
  return "<0.001" if value < 0.001 else f"{value:.2g}"


def markdown(
    table: table_lib.Table, facts: Mapping[str, Any], title: str
) -> str:
  """Renders the table with what it rests on.

  Args:
    table: the sweep, judged.
    facts: what it rests on, by name: command, budget, cost, versions.
    title: of the document.
  """
  lines = [f"# {title}", ""]
  lines += [f"{sentence}\n" for sentence in sentences(table)]
  columns = heads(table)
  lines += [_line(columns), _line(["---"] * len(columns))]
  lines += [_line(cells(table, row)) for row in table.rows]
  lines += ["", METHODS, "", _line(("fact", "value")), _line(("---", "---"))]
  lines += [_line((name, str(value))) for name, value in facts.items()]
  return "\n".join(lines) + "\n"


def _line(values: Sequence[str]) -> str:
  safe = (" ".join(v.split()).replace("|", "\\|") for v in values)
  return f"| {' | '.join(safe)} |"
