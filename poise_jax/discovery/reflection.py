"""What was learned from a candidate, in words, and the numbers behind them.

Rules, no model: what changed, what moved on common seeds and how surely, what
that may mean, whether the prediction came true, and what to do with it. With
one or two seeds nothing is claimed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from poise_jax.discovery import diagnosis, sentences
from poise_jax.discovery import yardstick as yardsticks
from poise_jax.discovery.evidence import pairing
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import wording
from poise_jax.evaluation import statistics

Evidence = pairing.Evidence


def reflect(
    child: Evidence,
    parent: Evidence | None,
    root: Evidence,
    *,
    prior_variance: float = 0.0,
    prior_dof: float = 0.0,
    prefer: str = "",
    yardstick: yardsticks.Yardstick = yardsticks.OVERALL,
) -> tuple[str, dict[str, Any]]:
  """Reflects on a candidate after training.

  One that broke down in any run is to be dropped, as the race does.

  Args:
    child: the candidate.
    parent: its first parent, None for the root.
    root: the root of the campaign.
    prior_variance: variance of a paired difference in Overall, known from
      elsewhere; in points².
    prior_dof: degrees of freedom behind it; 0 to use the own spread alone.
    prefer: name of the budget to compare at where it has a common seed; see
      `pairing.common_runs`. What was measured at others is said to be.
    yardstick: what counts; predictions are about Overall all the same.

  Returns:
    (text, data): deterministic sentences with rounded numbers, and JSON-like
    data with `suggestion` (keep, drop or undecided), `changed`, `versus`,
    `sets`, `signals`, `readings`, `prediction`, `diverged`; with another
    yardstick than Overall also `objective`.
  """
  baseline = parent if parent is not None else root
  prior = yardsticks.Prior(prior_variance, prior_dof)
  changed = _changes(child, baseline)
  broken = _broken(child, root)
  pairs = None
  if child.id != baseline.id:
    pairs = pairing.common_runs(child, baseline, prefer=prefer)
  versus = _versus(child, [baseline, root], yardstick, prior, prefer)
  sets = _set_differences(pairs)
  moves = diagnosis.moved(pairs)
  readings = diagnosis.diagnose(moves)
  verdicts = _verdicts(child.mechanisms, pairs, prior)
  limits = yardstick.limits(child, root, prior, prefer)
  judge = _judge(baseline, root, yardstick, prior, prefer)
  comparison = versus.get(judge.id)
  suggestion = _suggestion(child, baseline, comparison, limits, broken)
  text = [
      sentences.changed(child, baseline, changed),
      *sentences.versus(child, versus, yardstick, prefer),
      sentences.limits(limits),
      sentences.judge(baseline, judge),
      sentences.sets(sets),
      diagnosis.words(
          moves, sentences.elsewhere(pairs and pairs.budget, prefer)
      ),
      *(rule.reading for rule in readings),
      sentences.verdicts(verdicts),
      sentences.broken(broken, len(child.evaluations), prefer),
      sentences.suggestion(suggestion, child, baseline, limits, broken),
  ]
  data = {
      "suggestion": suggestion,
      "changed": changed,
      **_scope_json(pairs),
      "versus": {key: _comparison_json(own) for key, own in versus.items()},
      "sets": {key: _interval_json(gap) for key, gap in sets.items()},
      "signals": {name: _move_json(*both) for name, both in moves.items()},
      "readings": [rule.name for rule in readings],
      "prediction": verdicts,
      "diverged": [own.reason for own in broken],
  }
  if not yardstick.plain:
    data["objective"] = _objective_json(yardstick, versus, limits, judge)
  return " ".join(sentence for sentence in text if sentence), data


def reflect_rejected(
    findings: Sequence[Mapping[str, str]],
) -> tuple[str, dict[str, Any]]:
  """Reflects on a candidate that verification did not admit.

  Args:
    findings: as stored with the candidate.

  Returns:
    (text, data) as `reflect` does; the suggestion is to drop it.
  """
  twin = next((f for f in findings if f.get("rule") == "twin"), None)
  faults = [
      " ".join(
          part
          for part in (
              f"[{f.get('rule', 'unknown rule')}]",
              f.get("message", ""),
              f.get("hint", ""),
          )
          if part
      )
      for f in findings
  ]
  listed = " ".join(faults) if faults else "No reason was recorded."
  if twin is not None:
    text = (
        f"Not trained: it {twin['message']}, which was measured with one more"
        " seed instead. Suggestion: drop; what is known of that one holds for"
        " it."
    )
    return text, {"suggestion": "drop", "rules": ["twin"]}
  text = (
      f"Rejected before training. {listed} Nothing was learned about its"
      " mechanism. Suggestion: drop, or propose it again without the fault."
  )
  rules = sorted({f.get("rule", "unknown rule") for f in findings})
  return text, {"suggestion": "drop", "rules": rules}


def _changes(child: Evidence, baseline: Evidence) -> list[str] | None:
  """Differences of the two genomes in words, None if one has no genome."""
  found = [
      genomes.from_json(e.mechanisms["genome"])
      for e in (child, baseline)
      if e.mechanisms and "genome" in e.mechanisms
  ]
  return wording.difference(*found) if len(found) == 2 else None


def _broken(child: Evidence, root: Evidence) -> list[sentences.Broken]:
  """Runs that broke down; the root is what it is while it has a score."""
  return [
      sentences.Broken(run, why)
      for run in child.evaluations
      if (why := sentences.fault(run))
      and (run.outcome == "diverged" or child.id != root.id)
  ]


def _versus(
    child: Evidence,
    others: Sequence[Evidence],
    yardstick: yardsticks.Yardstick,
    prior: yardsticks.Prior,
    prefer: str,
) -> dict[str, yardsticks.Comparison]:
  """Id -> comparison with that candidate, where there is a common seed."""
  found = {}
  for other in others:
    own = yardstick.compare(child, other, prior, prefer)
    if own is not None:
      found[other.id] = own
  return found


def _judge(
    baseline: Evidence,
    root: Evidence,
    yardstick: yardsticks.Yardstick,
    prior: yardsticks.Prior,
    prefer: str,
) -> Evidence:
  """Whom to gain over: the parent, or the root if that one misses a limit."""
  limits = yardstick.limits(baseline, root, prior, prefer) or {}
  return root if any(own.short for own in limits.values()) else baseline


def _set_differences(
    pairs: pairing.Pairs | None,
) -> dict[str, statistics.Interval]:
  """Metric of each problem set -> paired difference in points."""
  if pairs is None:
    return {}
  found = {}
  for name in sorted(pairs.ours[0].metrics):
    kind, _, problem_set = name.partition("/")
    if kind in ("pass_at_k", "accuracy") and problem_set:
      points = [100 * gap for gap in pairing.differences(pairs, name)]
      gap = pairing.interval(points, prior_variance=0.0, prior_dof=0.0)
      if gap is not None:
        found[name] = gap
  return found


def _verdicts(
    mechanisms: Mapping[str, Any] | None,
    pairs: pairing.Pairs | None,
    prior: yardsticks.Prior,
) -> dict[str, str]:
  """Predicted metric -> confirmed, contradicted, or which way it points."""
  predicted = (mechanisms or {}).get("prediction") or {}
  if pairs is None:
    return dict.fromkeys(predicted, "not measured")
  verdicts = {}
  for metric, sign in predicted.items():
    gaps = pairing.differences(pairs, metric)
    known = prior if metric == "overall" else yardsticks.Prior(0.0, 0.0)
    gap = pairing.interval(
        gaps, prior_variance=known.variance, prior_dof=known.dof
    )
    verdicts[metric] = _verdict(gap, sign, len(gaps))
  return verdicts


def _verdict(gap: statistics.Interval | None, sign: int, seeds: int) -> str:
  """Judges one prediction by the interval of what happened."""
  if gap is None:
    return "not measured"
  if (
      seeds >= yardsticks.CLAIM_SEEDS
      and gap.low is not None
      and gap.high is not None
  ):
    if min(sign * gap.low, sign * gap.high) > 0:
      return "confirmed"
    if max(sign * gap.low, sign * gap.high) < 0:
      return "contradicted"
  if gap.mean == 0:
    return "open, did not move"
  way = "the predicted way" if sign * gap.mean > 0 else "the other way"
  return f"open, points {way}"


def _suggestion(
    child: Evidence,
    baseline: Evidence,
    comparison: yardsticks.Comparison | None,
    limits: Mapping[str, yardsticks.Limit] | None,
    broken: Sequence[sentences.Broken],
) -> yardsticks.Suggestion:
  """Keep, drop or undecided: a decision only where the interval decides."""
  if broken:
    return "drop"
  if child.id == baseline.id:
    return "keep"
  gain = comparison and comparison.gain
  seeds = len(comparison.pairs.seeds) if comparison else 0
  return yardsticks.decide(gain, seeds, limits)


def _interval_json(gap: statistics.Interval) -> dict[str, float | None]:
  """An interval as the archive stores it."""
  return {
      key: None if value is None else round(value, 4)
      for key, value in gap._asdict().items()
  }


def _comparison_json(own: yardsticks.Comparison) -> dict[str, Any]:
  """A comparison as the archive stores it."""
  return {
      "name": own.name,
      "seeds": len(own.pairs.seeds),
      **_interval_json(own.gap),
  }


def _scope_json(pairs: pairing.Pairs | None) -> dict[str, Any]:
  """What was compared."""
  return {
      "budget": pairs.budget if pairs else None,
      "split": pairs.split if pairs else None,
      "seeds": list(pairs.seeds) if pairs else [],
  }


def _objective_json(
    yardstick: yardsticks.Yardstick,
    versus: Mapping[str, yardsticks.Comparison],
    limits: Mapping[str, yardsticks.Limit] | None,
    judge: Evidence,
) -> dict[str, Any]:
  """What counted, as the archive stores it."""
  return {
      "wanted": yardsticks.wanted(yardstick.worth.objective),
      "judged_against": judge.id,
      "versus": {key: _interval_json(own.gain) for key, own in versus.items()},
      "limits": {
          name: {
              **_interval_json(own.slack),
              "margin": round(own.margin, 4),
              "seeds": own.seeds,
              "standing": own.standing,
          }
          for name, own in (limits or {}).items()
      },
  }


def _move_json(before: float, after: float) -> dict[str, float]:
  """A signal of parent and child."""
  return {"before": round(before, 6), "after": round(after, 6)}
