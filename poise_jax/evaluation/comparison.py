"""Two policies on the same problems with the same keys: what differs?

Results are compared set by set: the score of the set decides, with a p-value
that is corrected over the sets (Holm). What could have been detected is told at
the level that the first of Holm's steps asks for, 5 % over the number of sets.
Overall is one question of its own and is not corrected. Everything is a function of the two results alone.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from poise_jax.evaluation import (
    detectable,
    measures,
    multiplicity,
    paired_scores,
    provenance,
    results,
    sign_flip,
    statistics,
    weighted,
)

LEVEL = 0.05

# Of the header of a set: what two policies must not have in common.
_OWN = ("policy",)


class Flip(NamedTuple):
  """A problem that one policy solved and the other did not.

  Attributes:
    id: of the problem.
    problem: the question.
    gold: the reference answer.
    gained: whether B solved it.
    hits: right completions of A and of B.
    a: a completion of A: a wrong one if B gained, else a right one.
    b: a completion of B, likewise.
  """

  id: str
  problem: str
  gold: str
  gained: bool
  hits: tuple[int, int]
  a: results.Completion
  b: results.Completion


class SetComparison(NamedTuple):
  """Two policies on one set; scores are shares of 1.

  Attributes:
    name: of the set.
    metric: `pass_at_k` or `accuracy`.
    weight: in Overall.
    problems: compared.
    of: problems in the set.
    samples: completions of each, by each.
    score: the difference in the set's own score, which decides.
    adjusted: its p-value, corrected over the sets.
    others: differences in other measures, by name.
    flips: problems that one solved, in their order.
    same: completions that are equal token by token.
    gaps: of each problem, in the score.
    not_graded: completions of A and of B whose grading was cut off, and which
      count as wrong.
  """

  name: str
  metric: str
  weight: float
  problems: int
  of: int
  samples: int
  score: paired_scores.Difference
  adjusted: float
  others: Mapping[str, paired_scores.Difference]
  flips: tuple[Flip, ...]
  same: int
  gaps: np.ndarray
  not_graded: tuple[int, int] = (0, 0)


class Comparison(NamedTuple):
  """Two policies on all sets.

  Attributes:
    same_checkpoint: whether the two are one.
    sets: by name.
    overall: the weighted difference; None unless the weights add up to 1.
  """

  same_checkpoint: bool
  sets: Mapping[str, SetComparison]
  overall: paired_scores.Difference | None


def compare(
    a: Mapping[str, results.Results],
    b: Mapping[str, results.Results],
    *,
    limit: int | None = None,
) -> Comparison:
  """Compares the results of two policies.

  Args:
    a: of the first, by set.
    b: of the second, the same sets.
    limit: problems to compare, None for all; both must have them.

  Raises:
    ValueError: if the two were not asked the same with the same keys by the
      same code (all differences are named), or one is not complete.
  """
  if a.keys() != b.keys():
    raise ValueError(
        f"both results must have the same sets, got {list(a)} and {list(b)}"
    )
  for name in a:
    check_pair(name, a[name], b[name], limit)
  # Equal bits of the weights and of the tokenizer: nothing can differ.
  same = all(a[n].header["policy"] == b[n].header["policy"] for n in a) and all(
      a[n].records == b[n].records for n in a
  )
  # The least that Holm asks of any set, whatever the others show.
  level = LEVEL / max(len(a), 1)
  found = {name: _set(name, a[name], b[name], same, level) for name in a}
  p_values = {name: s.score.p_value for name, s in found.items()}
  adjusted = multiplicity.holm(p_values)
  sets = {n: s._replace(adjusted=adjusted[n]) for n, s in found.items()}
  return Comparison(same, sets, _overall(sets, same))


def _settings(found: results.Results) -> dict[str, Any]:
  """The header; that the same code has graded again is no difference."""
  graded = found.header.get("graded")
  again = graded is not None and graded == found.header["code"]
  return {k: v for k, v in found.header.items() if k != "graded" or not again}


def check_pair(
    name: str, a: results.Results, b: results.Results, limit: int | None
) -> None:
  """Refuses results that cannot be compared.

  Raises:
    ValueError: naming what differs, or is missing.
  """
  if different := [
      text
      for text in provenance.differences(_settings(a), _settings(b))
      if not text.startswith(_OWN)
  ]:
    raise ValueError(
        f"results of {name} must come from the same problems, prompts, keys and"
        f" code, but (A, B): {'; '.join(different)}. Evaluate one of them"
        " again, or if both are graded with other code, regrade both"
    )
  wanted = min(
      limit or a.header["set"]["problems"], a.header["set"]["problems"]
  )
  counts = len(a.records), len(b.records)
  if a.records.keys() != b.records.keys() or counts[0] < wanted:
    raise ValueError(
        f"results of {name} must have {wanted} problems, the same ones, got"
        f" {counts[0]} and {counts[1]}; continue with launch/evaluate.py, or"
        " set --limit to what both have"
    )


def notes(
    a: Mapping[str, results.Results], b: Mapping[str, results.Results]
) -> list[str]:
  """What is no fault of a comparison but has to be said aloud, in sentences.

  Policies may have different tokenizers, so that what ends a completion is not
  part of what they must have in common.
  """
  told = []
  for name in a:
    left, right = (r[name].header["policy"] for r in (a, b))
    if left["eos_ids"] != right["eos_ids"]:
      ids = [", ".join(map(str, p["eos_ids"])) for p in (left, right)]
      told.append(
          f"On {name}, completions of A end at the tokens {ids[0]}, those of B"
          f" at {ids[1]}: lengths, and what is cut off, may differ for that."
      )
  return told


def _set(
    name: str,
    a: results.Results,
    b: results.Results,
    same: bool,
    level: float,
) -> SetComparison:
  header = a.header["set"]
  left, right = (measures.measure(r.records.values()) for r in (a, b))
  samples = left.samples
  pairs = [(a.records[i], b.records[i]) for i in left.ids]

  def difference(
      x: np.ndarray,
      y: np.ndarray,
      share: bool = True,
      level: float = LEVEL,
  ) -> paired_scores.Difference:
    if same:
      return paired_scores.none(float(np.mean(x)))
    return paired_scores.compare(x, y, share=share, level=level)

  others = {}
  if samples > 1:
    mean = difference(left.score(1), right.score(1))
    others[f"mean of {samples} samples"] = mean
    others["majority"] = difference(left.majority, right.majority)
  others["valid"] = difference(left.valid, right.valid)
  others["cut off"] = difference(left.truncated, right.truncated)
  for field in ("tokens", "words"):
    lengths = getattr(left, field), getattr(right, field)
    others[field] = difference(*lengths, share=False)
  scores = left.score(samples), right.score(samples)
  gaps = scores[1] - scores[0]
  return SetComparison(
      name=name,
      metric=header["metric"],
      weight=header["weight"],
      problems=len(left.ids),
      of=header["problems"],
      samples=samples,
      score=difference(*scores, level=level),
      adjusted=1.0,
      others=others,
      flips=tuple(
          _flip(*pair) for pair, gap in zip(pairs, gaps, strict=True) if gap
      ),
      same=sum(
          x.ids_sha256 == y.ids_sha256
          for one, other in pairs
          for x, y in zip(one.completions, other.completions, strict=True)
      ),
      gaps=gaps,
      not_graded=tuple(
          sum(c.timed_out for r in side for c in r.completions)
          for side in zip(*pairs, strict=True)
      ),
  )


def _flip(a: results.Record, b: results.Record) -> Flip:
  hits = tuple(sum(c.correct for c in r.completions) for r in (a, b))
  gained = hits[1] > hits[0]
  # The sample of the solver that is right, and that of the other with its key.
  solver = b if gained else a
  row = next(i for i, c in enumerate(solver.completions) if c.correct)
  return Flip(
      a.id,
      a.problem,
      a.gold,
      gained,
      hits,
      a.completions[row],
      b.completions[row],
  )


def _overall(
    sets: Mapping[str, SetComparison], same: bool
) -> paired_scores.Difference | None:
  """The weighted difference; problems are independent between sets."""
  parts = [s for s in sets.values() if s.weight]
  if abs(sum(s.weight for s in parts) - 1) > 1e-9:
    return None
  mean_a = sum(s.weight * s.score.a for s in parts)
  if same:
    return paired_scores.none(mean_a)
  weights = [s.weight for s in parts]
  interval = weighted.combine([s.score.interval for s in parts], weights)
  scaled = [s.weight / s.problems * s.gaps for s in parts]
  return paired_scores.Difference(
      mean_a,
      sum(s.weight * s.score.b for s in parts),
      interval,
      "squares of the sets' intervals added",
      sign_flip.p_value(np.concatenate(scaled)),
      "sign flips",
      _detectable(interval),
  )


def _detectable(interval: statistics.Interval) -> float | None:
  if interval.low is None or interval.high is None:
    return None
  return detectable.of_interval((interval.high - interval.low) / 2)


def as_json(found: Comparison) -> dict[str, Any]:
  """The comparison as JSON, in points of 100 (lengths as they are)."""
  return {
      "same_checkpoint": found.same_checkpoint,
      "overall": found.overall and difference_json(found.overall),
      "sets": {name: _set_json(s) for name, s in found.sets.items()},
  }


def difference_json(
    found: paired_scores.Difference, factor: float = 100.0
) -> dict[str, Any]:
  """A difference as JSON."""
  smallest = found.detectable
  return {
      "a": factor * found.a,
      "b": factor * found.b,
      "difference": measures.scaled(found.interval, factor)._asdict(),
      "interval": found.method,
      "p_value": found.p_value,
      "test": found.test,
      "minimum_detectable": None if smallest is None else factor * smallest,
  }


def _set_json(found: SetComparison) -> dict[str, Any]:
  lengths = ("tokens", "words")
  return {
      "metric": found.metric,
      "weight": found.weight,
      "problems": found.problems,
      "of": found.of,
      "samples": found.samples,
      **difference_json(found.score),
      "adjusted_p_value": found.adjusted,
      "gained": sum(f.gained for f in found.flips),
      "lost": sum(not f.gained for f in found.flips),
      "same_completions": found.same,
      "not_graded": dict(zip("ab", found.not_graded, strict=True)),
      "others": {
          name: difference_json(d, 1.0 if name in lengths else 100.0)
          for name, d in found.others.items()
      },
      "flips": [
          f._asdict() | {"a": f.a._asdict(), "b": f.b._asdict()}
          for f in found.flips
      ],
  }
