"""Scores with intervals from stored results; no policy needed.

All scores are points of 100. Intervals are at 95 %, over the problems as a
sample of problems like them, and over seeds where there are several.
"""

from collections.abc import Mapping, Sequence
import os
import pathlib
from typing import Any

import numpy as np

from poise_jax.evaluation import (
    measures,
    pass_at_k,
    provenance,
    results,
    statistics,
    weighted,
)

# Fields of a header that may differ between seeds of one measurement.
_OF_A_SEED = ("policy.checkpoint", "sampling.seed")


def read_all(
    directory: str | os.PathLike[str], names: Sequence[str] | None = None
) -> dict[str, results.Results]:
  """Reads the results of the sets in a directory.

  Args:
    directory: that launch/evaluate.py wrote.
    names: of the sets; None for all there are.

  Raises:
    FileNotFoundError: if there are none, or one is missing.
    ValueError: if one is broken, or has no problems yet.
  """
  folder = pathlib.Path(directory)
  if names is None:
    names = sorted(p.stem for p in folder.glob(f"*{results.SUFFIX}"))
    if not names:
      raise FileNotFoundError(
          f"no results in {folder}; run launch/evaluate.py with this --out"
      )
  found = {n: results.read(results.path_of(folder, n)) for n in names}
  for name, result in found.items():
    if not result.records:
      raise ValueError(
          f"{results.path_of(folder, name)} has no problems yet; run the same"
          " command again to continue"
      )
  return dict(sorted(found.items(), key=_importance))


def summarise(
    by_seed: Sequence[Mapping[str, results.Results]],
) -> dict[str, Any]:
  """Summarises results as JSON.

  Args:
    by_seed: results by set, for each seed (of sampling, or of training) of one
      measurement; all with the same sets and problems.

  Raises:
    ValueError: if they do not belong together.
  """
  if not by_seed or any(r.keys() != by_seed[0].keys() for r in by_seed):
    raise ValueError(
        "all results must have the same sets, got"
        f" {[sorted(r) for r in by_seed]}"
    )
  sets = {
      name: _of_set(name, [result[name] for result in by_seed])
      for name in by_seed[0]
  }
  parts = {n: s for n, s in sets.items() if s["weight"]}
  whole = abs(sum(s["weight"] for s in parts.values()) - 1) < 1e-9
  overall = None
  if whole:
    intervals = [statistics.Interval(**s["score"]) for s in parts.values()]
    weights = [s["weight"] for s in parts.values()]
    overall = weighted.combine(intervals, weights)._asdict()
  return {
      "overall": overall,
      "complete": all(s["problems"] == s["of"] for s in sets.values()),
      "sets": sets,
  }


def _of_set(name: str, seeds: Sequence[results.Results]) -> dict[str, Any]:
  """All scores of one set."""
  headers = [result.header for result in seeds]
  for header in headers[1:]:
    if wrong := [
        text
        for text in provenance.differences(headers[0], header)
        if not text.startswith(_OF_A_SEED)
    ]:
      raise ValueError(
          f"results of {name} must differ in seed or checkpoint alone, they"
          f" differ in: {'; '.join(wrong)}"
      )
  found = [measures.measure(result.records.values()) for result in seeds]
  if any(f.ids != found[0].ids for f in found):
    raise ValueError(f"results of {name} have different problems; continue all")
  header, samples = headers[0], found[0].samples

  def over(field: str, share: bool = True) -> dict[str, Any]:
    values = [getattr(f, field) for f in found]
    interval, _ = measures.interval(values, share=share)
    return measures.scaled(interval, 100.0 if share else 1.0)._asdict()

  score, method = measures.interval([f.score(samples) for f in found])
  ks = sorted({1 << i for i in range(samples.bit_length())} | {samples})
  return {
      "metric": header["set"]["metric"],
      "weight": header["set"]["weight"],
      "problems": len(found[0].ids),
      "of": header["set"]["problems"],
      "samples": samples,
      "seeds": len(seeds),
      "score": measures.scaled(score)._asdict(),
      "method": method,
      "pass_at_k": {str(k): _pass_at(found, k) for k in ks if k <= samples},
      f"maj_at_{samples}": over("majority"),
      "valid_rate": over("valid"),
      "truncated_rate": over("truncated"),
      "response_tokens": over("tokens", share=False),
      "response_words": over("words", share=False),
      "results": [result.id for result in seeds],
  }


def _pass_at(found: Sequence[measures.Measures], k: int) -> dict[str, Any]:
  """pass@k with its interval and errors."""
  values = [f.score(k) for f in found]
  interval, _ = measures.interval(values)
  error = pass_at_k.standard_error(np.mean(values, axis=0))
  shown = measures.scaled(interval)._asdict()
  shown["standard_error"] = None if error is None else 100 * error
  if len(found) == 1 and k < found[0].samples:
    own = pass_at_k.sampling_error(found[0].hits, found[0].samples, k)
    shown["sampling_error"] = 100 * own
  return shown


def markdown(summary: Mapping[str, Any]) -> str:
  """The summary as a table."""
  lines = [
      "| set | metric | problems | score | mean of samples | majority | valid |"
      " cut off | tokens | words |",
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
  ]
  for name, found in summary["sets"].items():
    samples = found["samples"]
    metric = f"pass@{samples}" if samples > 1 else "greedy accuracy"
    count = str(found["problems"])
    if found["problems"] < found["of"]:
      count += f" of {found['of']}"
    cells = (
        name,
        metric,
        count,
        measures.text(found["score"]),
        measures.text(found["pass_at_k"]["1"]),
        measures.text(found[f"maj_at_{samples}"]),
        measures.text(found["valid_rate"]),
        measures.text(found["truncated_rate"]),
        measures.text(found["response_tokens"]),
        measures.text(found["response_words"]),
    )
    lines.append(f"| {' | '.join(cells)} |")
  notes = [
      "Points of 100, with 95 % intervals over problems"
      + _seeds(summary)
      + ": Wilson's for shares of problems solved, else BCa bootstrap."
  ]
  if summary["overall"]:
    notes.insert(0, f"Overall {measures.text(summary['overall'], 2)}")
  if not summary["complete"]:
    notes.append("Not all problems were asked: this is no score to cite.")
  return "\n".join(lines) + "\n\n" + "\n\n".join(notes) + "\n"


def _seeds(summary: Mapping[str, Any]) -> str:
  counts = {found["seeds"] for found in summary["sets"].values()}
  return "" if counts == {1} else f" and {max(counts)} seeds (crossed)"


def _importance(item: tuple[str, results.Results]) -> tuple[float, bool, str]:
  """Heaviest sets first, sampled before greedy."""
  header = item[1].header["set"]
  return -header["weight"], header["metric"] != "pass_at_k", item[0]
