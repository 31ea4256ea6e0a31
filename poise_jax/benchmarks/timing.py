"""Timing on machines that do other things as well.

Every round times all functions one after the other, and one is judged by its
ratio to another in the same round: the median and the quartiles over rounds.
"""

from collections.abc import Callable, Mapping, Sequence
import os
import pathlib
import resource
import statistics
import sys
import time
from typing import Any

import jax
import numpy as np


def measure(
    work: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, list[float]]:
  """Times every function once a round, in seconds.

  Args:
    work: functions that wait for their results; each is called once before.
    rounds: how often.
  """
  for function in work.values():
    function()
  times: dict[str, list[float]] = {name: [] for name in work}
  for index in range(rounds):
    for name, function in work.items():
      start = time.perf_counter()
      function()
      times[name].append(time.perf_counter() - start)
    if sys.stderr.isatty():
      print(f"\rround {index + 1}/{rounds}", end="", file=sys.stderr)
  return times


def summarise(
    times: Mapping[str, Sequence[float]], reference: str
) -> dict[str, dict[str, float]]:
  """Reduces times to medians, and to ratios to the reference by round."""
  summary = {}
  for name, values in times.items():
    pairs = zip(values, times[reference], strict=True)
    ratios = [own / other for own, other in pairs]
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    summary[name] = {
        "milliseconds": 1e3 * statistics.median(values),
        "ratio": float(middle),
        "ratio_low": float(low),
        "ratio_high": float(high),
    }
  return summary


def cores() -> int:
  """Cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def machine() -> dict[str, Any]:
  """What the figures were measured on."""
  device = jax.devices()[0]
  return {
      "device": device.device_kind,
      "devices": jax.device_count(),
      "cores": cores(),
      "load": os.getloadavg()[0],
      "jax": jax.__version__,
  }


def peak_memory_gib() -> float:
  """Most memory held so far: of the device if it tells, else of the process."""
  stats = jax.devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in stats:
    return stats["peak_bytes_in_use"] / 2**30
  # On Linux not `getrusage`: it starts from the peak of the parent process.
  status = pathlib.Path("/proc/self/status")
  if status.exists():
    fields = dict(
        line.split(":", 1) for line in status.read_text().splitlines()
    )
    return int(fields["VmHWM"].split()[0]) / 2**20
  unit = 1 if sys.platform == "darwin" else 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
