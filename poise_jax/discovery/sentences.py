"""The sentences of a reflection: numbers rounded, and what they can bear.

Each function gives one sentence, or nothing where there is nothing to say.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from poise_jax.archive import records
from poise_jax.discovery import yardstick as yardsticks
from poise_jax.discovery.evidence import breakdown, pairing
from poise_jax.discovery.proposer import wording
from poise_jax.evaluation import statistics

Evidence = pairing.Evidence


class Broken(NamedTuple):
  """A run that broke down, and why."""

  run: records.Evaluation
  reason: str


def fault(run: records.Evaluation) -> str:
  """Why a run broke down, as the race sees it; empty if it did not."""
  found = breakdown.find(run.reason, run.curve)
  if found is not None:
    return found.detail
  return "no reason" if run.outcome == "diverged" else ""


def stopped(
    child: Evidence, parent: Evidence, yardstick: yardsticks.Yardstick
) -> str:
  """Why a candidate got no further, in part of a sentence.

  Args:
    child: the candidate; the last of its runs that broke down is named.
    parent: that it was to improve.
    yardstick: what counts, where it was compared with the parent.
  """
  faults = [(run, why) for run in child.evaluations if (why := fault(run))]
  if faults:
    run, why = faults[-1]
    return f"broke down in training at the {run.budget} budget: {why}"
  own = yardstick.compare(child, parent, yardsticks.Prior(0.0, 0.0))
  if own is None:
    return "not compared with its parent"
  return (
      f"{'Overall' if yardstick.plain else 'objective'} {words(own.gain)} at"
      f" the {own.pairs.budget} budget against its parent, not measured further"
  )


def changed(
    child: Evidence, baseline: Evidence, changed: Sequence[str] | None
) -> str:
  """The first sentence."""
  if child.id == baseline.id:
    return f"{child.name} is the root; there is nothing to compare it with."
  if changed is None:
    return f"{child.name} against {baseline.name}: no description of both."
  what = "; ".join(changed) if changed else "nothing in the description"
  return f"{child.name} changed, against {baseline.name}: {what}."


def versus(
    child: Evidence,
    versus: Mapping[str, yardsticks.Comparison],
    yardstick: yardsticks.Yardstick,
    prefer: str,
) -> list[str]:
  """One sentence for each comparison, with what it can bear."""
  if not versus:
    return [_alone(child, prefer)]
  sentences = []
  if not yardstick.plain:
    wanted = yardsticks.wanted(yardstick.worth.objective)
    sentences.append(f"Wanted: {wanted}.")
  for name, gap, gain, pairs in versus.values():
    seeds = len(pairs.seeds)
    sentences.append(
        f"{'Overall' if yardstick.plain else 'Objective'} against {name}:"
        f" {words(gain)} over {seeds} common"
        f" {'seed' if seeds == 1 else 'seeds'}"
        f" ({pairs.budget} budget, {pairs.split} split)"
        + ("" if yardstick.plain else f", Overall {words(gap)}")
        + ("; no claim." if seeds < yardsticks.CLAIM_SEEDS else ".")
    )
  if any(len(c.pairs.seeds) >= yardsticks.CLAIM_SEEDS for c in versus.values()):
    sentences.append(
        "Intervals are at 95 %, not corrected for how many candidates were"
        " tried."
    )
  return sentences


def _alone(child: Evidence, prefer: str) -> str:
  """The score of what has nothing to be compared with, by budget."""
  scores: dict[str, list[float]] = {}
  for run in pairing.scored(child.evaluations):
    if "overall" in run.metrics:
      scores.setdefault(run.budget, []).append(run.metrics["overall"])
  if not scores:
    return "It has no score."
  each = [
      f"{sum(own) / len(own):.2f} in {_runs(len(own))}"
      + (elsewhere(budget, prefer))
      for budget, own in scores.items()
  ]
  return f"Overall {', '.join(each)}, compared with none."


def elsewhere(budget: str | None, prefer: str) -> str:
  """Names a budget unless it is the one that is meant anyway."""
  return f" ({budget} budget)" if budget and prefer not in ("", budget) else ""


def limits(limits: Mapping[str, yardsticks.Limit] | None) -> str:
  """How each constraint is kept."""
  if limits is None:
    return "Whether its limits are kept is not known."
  each = [
      f"{name} by {words(own.slack)} with a margin of {own.margin:.2f}"
      f" ({own.standing})"
      for name, own in limits.items()
  ]
  return f"Limits, beside the root: {'; '.join(each)}." if each else ""


def judge(baseline: Evidence, judge: Evidence) -> str:
  """Says so if the parent is no yardstick."""
  if judge.id == baseline.id:
    return ""
  return (
      f"{baseline.name} misses a limit itself, so what counts is the"
      f" comparison with {judge.name}."
  )


def sets(sets: Mapping[str, statistics.Interval]) -> str:
  """Differences set by set, in points."""
  if not sets:
    return ""
  each = [
      f"{metric.split('/')[1]} {gap.mean:+.1f}" for metric, gap in sets.items()
  ]
  return f"By set, in points: {', '.join(each)}."


def verdicts(verdicts: Mapping[str, str]) -> str:
  """Prediction against outcome."""
  each = [
      f"{wording.SIGNALS.get(metric, metric)} {verdict}"
      for metric, verdict in verdicts.items()
  ]
  return f"Its predictions: {'; '.join(each)}." if each else ""


def broken(broken: Sequence[Broken], runs: int, prefer: str) -> str:
  """How many runs broke down, and why."""
  if not broken:
    return ""
  diverged = all(run.outcome == "diverged" for run, _ in broken)
  reasons = {reason + elsewhere(run.budget, prefer) for run, reason in broken}
  return (
      f"{len(broken)} of {_runs(runs)}"
      f" {'diverged' if diverged else 'broke down'}:"
      f" {'; '.join(sorted(reasons))}."
  )


def suggestion(
    suggestion: yardsticks.Suggestion,
    child: Evidence,
    baseline: Evidence,
    limits: Mapping[str, yardsticks.Limit] | None,
    broken: Sequence[Broken],
) -> str:
  """What to do next."""
  if suggestion == "keep":
    if child.id == baseline.id:
      return "Suggestion: keep as the reference."
    left = [n for n, own in (limits or {}).items() if own.standing == "open"]
    also = f"; open is whether it keeps {', '.join(left)}" if left else ""
    return f"Suggestion: keep, and confirm on fresh seeds{also}."
  if suggestion == "drop":
    return "Suggestion: drop" + (" as unstable." if broken else ".")
  return "Suggestion: undecided; more seeds would tell."


def _runs(count: int) -> str:
  """A number of runs in words."""
  return f"{count} run" if count == 1 else f"{count} runs"


def words(gap: statistics.Interval) -> str:
  """A mean difference with its interval."""
  if gap.low is None or gap.high is None:
    return f"{gap.mean:+.2f}"
  return f"{gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"
