"""What a new candidate costs: gate, load, compile."""

from collections.abc import Mapping, Sequence
import statistics
import time
from typing import Any

from poise_jax.algorithms import catalog
from poise_jax.candidates import artifact, contract, known, probes, verification
from poise_jax.candidates import jail as jail_lib


class _Timed(jail_lib.Jail):
  """Notes how long the children took for the last source, in seconds."""

  traced = examined = 0.0

  def trace(self, *args: Any, **kwargs: Any) -> Any:
    start = time.perf_counter()
    answer = super().trace(*args, **kwargs)
    self.traced = time.perf_counter() - start
    return answer

  def examine(self, *args: Any, **kwargs: Any) -> Any:
    start = time.perf_counter()
    answer = super().examine(*args, **kwargs)
    self.examined = time.perf_counter() - start
    return answer


_COLUMNS = ("verify", "trace", "examine", "rest", "load", "compile", "total")


def run(names: Sequence[str]) -> dict[str, Any]:
  """Takes the sources of catalogue entries from text to a compiled loss.

  Every source finds warm children. `verify` is `trace` and `examine` in them,
  and the `rest` in this process: syntax gate, comparison with the catalogue.

  Args:
    names: of the entries.

  Raises:
    ValueError: if the gate refuses one.
  """
  batch = probes.suite()["off_policy"]
  members = known.catalogue()
  rows = []
  with _Timed() as jail:
    for name in names:
      jail.wait_until_warm()
      source = catalog.source(name)
      start = time.perf_counter()
      verdict = verification.verify(
          source, jail, known=members, must_learn=False
      )
      verified = time.perf_counter()
      if not verdict.ok:
        raise ValueError(f"{name} was refused: {verdict.findings}")
      loaded = artifact.load(verdict.artifact, name)
      read = time.perf_counter()
      contract.compile_step(loaded, contract.first_state(loaded), batch)
      compiled = time.perf_counter()
      verify, load, compile_ = (
          verified - start,
          read - verified,
          compiled - read,
      )
      rest = verify - jail.traced - jail.examined
      total = verify + load + compile_
      rows.append(
          (verify, jail.traced, jail.examined, rest, load, compile_, total)
      )
  columns = dict(zip(_COLUMNS, zip(*rows, strict=True), strict=True))
  return {
      f"{name}_seconds": statistics.median(values)
      for name, values in columns.items()
  } | {"total_seconds_all": list(columns["total"]), "candidates": list(names)}


def table(figures: Mapping[str, Any]) -> str:
  """One line for each median."""
  return "\n".join(
      f"{name} {value:.3f}"
      for name, value in figures.items()
      if isinstance(value, float)
  )
