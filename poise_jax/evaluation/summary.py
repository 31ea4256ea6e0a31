"""Scores with intervals from stored results; no policy needed.

All scores are points of 100. Intervals are at 95 %, over the problems as a
sample of problems like them, and over seeds where there are several.
"""

from collections.abc import Mapping, Sequence
import os
import pathlib
from typing import Any

from jaxtyping import Float
import numpy as np

from poise_jax.evaluation import (
    bootstrap,
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
  seeds_of = {n: [result[n] for result in by_seed] for n in by_seed[0]}
  found = {n: _measured(n, seeds) for n, seeds in seeds_of.items()}
  sets = {n: _of_set(seeds_of[n], found[n]) for n in seeds_of}
  weights = {n: s["weight"] for n, s in sets.items() if s["weight"]}
  overall = None
  if abs(sum(weights.values()) - 1) < 1e-9:
    scores = {
        n: np.stack([f.score(f.samples) for f in found[n]]) for n in weights
    }
    overall = measures.scaled(_overall(scores, weights))._asdict()
  return {
      "overall": overall,
      "complete": all(s["problems"] == s["of"] for s in sets.values()),
      "sets": sets,
  }


def _overall(
    scores: Mapping[str, Float[np.ndarray, "S _"]],
    weights: Mapping[str, float],
    *,
    resamples: int = bootstrap.RESAMPLES,
) -> statistics.Interval:
  """Σ_s w_s score_s over problems and seeds.

  Problems of the sets are separate, so with one seed squares add. A seed of
  training moves all sets at once: several are drawn once for all of them. Sets
  of which all problems are solved, or none, keep the interval of their own.
  """
  alone = [n for n, v in scores.items() if len(v) == 1 or np.ptp(v) == 0]
  parts = [measures.interval(list(scores[n]))[0] for n in alone]
  shares = [weights[n] for n in alone]
  if drawn := [n for n in scores if n not in alone]:
    strata = [scores[n] for n in drawn]
    drawn_weights = [weights[n] for n in drawn]
    parts.append(bootstrap.crossed(strata, drawn_weights, resamples=resamples))
    shares.append(1.0)
  return measures.within(weighted.combine(parts, shares))


def _measured(
    name: str, seeds: Sequence[results.Results]
) -> list[measures.Measures]:
  """Measures each seed of one set, which must belong together."""
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
  return found


def _of_set(
    seeds: Sequence[results.Results], found: Sequence[measures.Measures]
) -> dict[str, Any]:
  """All scores of one set."""
  header, samples = seeds[0].header, found[0].samples

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
      "not_graded": sum(_not_graded(result) for result in seeds),
      "response_tokens": over("tokens", share=False),
      "response_words": over("words", share=False),
      "results": [result.id for result in seeds],
  }


def _not_graded(result: results.Results) -> int:
  """Completions whose grading was cut off."""
  return sum(
      c.timed_out for r in result.records.values() for c in r.completions
  )


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
    metric = measures.metric_name(found["metric"], samples)
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
  notes = [f"Points of 100, with 95 % intervals over problems{_how(summary)}."]
  if summary["overall"]:
    notes.insert(0, f"Overall {measures.text(summary['overall'], 2)}")
  if cut := [
      f"{count} {_answers(count)} on {name}"
      for name, s in summary["sets"].items()
      if (count := s["not_graded"])
  ]:
    notes.append(f"Not graded in time, and counted as wrong: {', '.join(cut)}.")
  if not summary["complete"]:
    notes.append("Not all problems were asked: this is no score to cite.")
  return "\n".join(lines) + "\n\n" + "\n\n".join(notes) + "\n"


def _answers(count: int) -> str:
  return "answer" if count == 1 else "answers"


def _how(summary: Mapping[str, Any]) -> str:
  counts = {found["seeds"] for found in summary["sets"].values()}
  if counts == {1}:
    return ": Wilson's for shares of problems solved, else BCa bootstrap"
  return (
      f" and {max(counts)} seeds (crossed): Student's, or Wilson's where all"
      " problems end alike"
  )


def _importance(item: tuple[str, results.Results]) -> tuple[float, bool, str]:
  """Heaviest sets first, sampled before greedy."""
  header = item[1].header["set"]
  return -header["weight"], header["metric"] != "pass_at_k", item[0]
