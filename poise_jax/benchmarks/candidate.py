"""What a new candidate costs: gate, load, compile."""

from collections.abc import Mapping, Sequence
import statistics
import time
from typing import Any

from poise_jax.algorithms import catalog
from poise_jax.candidates import artifact, contract, probes, verification
from poise_jax.candidates import jail as jail_lib
from poise_jax.candidates import limits as limits_lib


def run(names: Sequence[str]) -> dict[str, Any]:
  """Takes the sources of catalogue entries from text to a compiled loss.

  Args:
    names: of the entries.

  Raises:
    ValueError: if the gate refuses one.
  """
  batch = probes.suite()["off_policy"]
  columns: dict[str, list[float]] = {"verify": [], "load": [], "compile": []}
  with jail_lib.Jail(limits_lib.Limits()) as jail:
    for name in names:
      jail.wait_until_warm()
      source = catalog.source(name)
      start = time.perf_counter()
      verdict = verification.verify(source, jail)
      verified = time.perf_counter()
      if not verdict.ok:
        raise ValueError(f"{name} was refused: {verdict.findings}")
      loaded = artifact.load(verdict.artifact, name)
      read = time.perf_counter()
      contract.compile_step(loaded, loaded.init(loaded.hparams), batch)
      columns["verify"].append(verified - start)
      columns["load"].append(read - verified)
      columns["compile"].append(time.perf_counter() - read)
  totals = [sum(row) for row in zip(*columns.values(), strict=True)]
  return {
      f"{name}_seconds": statistics.median(values)
      for name, values in (columns | {"total": totals}).items()
  } | {"total_seconds_all": totals, "candidates": list(names)}


def table(figures: Mapping[str, Any]) -> str:
  """One line for each median."""
  return "\n".join(
      f"{name} {value:.3f}"
      for name, value in figures.items()
      if isinstance(value, float)
  )
