"""What was learned from a candidate, in words, and the numbers behind them.

Rules, no model: what changed, what moved on common seeds and how surely, what
that may mean, whether the prediction came true, and what to do with it. With
one or two seeds nothing is claimed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from poise_jax.archive import records
from poise_jax.discovery import diagnosis
from poise_jax.discovery.evidence import pairing
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import wording
from poise_jax.evaluation import statistics

Evidence = pairing.Evidence

_CLAIM_SEEDS = 3  # fewer common seeds than this support no claim

_SHOWN = {
    "valid_rate": ("valid rate", "{:.2f}"),
    "response_length": ("response length", "{:.1f}"),
    "entropy": ("entropy", "{:.3f}"),
    "kl": ("KL to the reference", "{:.4f}"),
    "clip_fraction": ("clipped tokens", "{:.4f}"),
}


class _Comparison(NamedTuple):
  """A paired difference in Overall and what it rests on."""

  name: str
  gap: statistics.Interval
  pairs: pairing.Pairs


class _Prior(NamedTuple):
  """Variance of a paired difference in Overall, known from elsewhere."""

  variance: float
  dof: float


def reflect(
    child: Evidence,
    parent: Evidence | None,
    root: Evidence,
    *,
    prior_variance: float = 0.0,
    prior_dof: float = 0.0,
    prefer: str = "",
) -> tuple[str, dict[str, Any]]:
  """Reflects on a candidate after training.

  Args:
    child: the candidate.
    parent: its first parent, None for the root.
    root: the root of the campaign.
    prior_variance: variance of a paired difference in Overall, known from
      elsewhere; in points².
    prior_dof: degrees of freedom behind it; 0 to use the own spread alone.
    prefer: name of the budget to compare at where it has a common seed; see
      `pairing.common_runs`.

  Returns:
    (text, data): deterministic sentences with rounded numbers, and JSON-like
    data with `suggestion` (keep, drop or undecided), `changed`, `versus`,
    `sets`, `signals`, `readings`, `prediction`, `diverged`.
  """
  baseline = parent if parent is not None else root
  changed = _changes(child, baseline)
  diverged = [e for e in child.evaluations if e.outcome == "diverged"]
  pairs = None
  if child.id != baseline.id:
    pairs = pairing.common_runs(child, baseline, prefer=prefer)
  prior = _Prior(prior_variance, prior_dof)
  versus = _versus(child, [baseline, root], prior, prefer)
  sets = _set_differences(pairs)
  moves = _moves(pairs)
  readings = diagnosis.diagnose(moves)
  verdicts = _verdicts(child.mechanisms, pairs, prior)
  suggestion = _suggestion(child, baseline, versus.get(baseline.id))
  text = [
      _changed_text(child, baseline, changed),
      *_versus_text(child, versus),
      _sets_text(sets),
      _moves_text(moves),
      *(rule.reading for rule in readings),
      _verdicts_text(verdicts),
      _diverged_text(diverged, len(child.evaluations)),
      _suggestion_text(suggestion, child, baseline),
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
      "diverged": [e.reason for e in diverged],
  }
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


def _versus(
    child: Evidence, others: Sequence[Evidence], prior: _Prior, prefer: str
) -> dict[str, _Comparison]:
  """Id -> comparison with that candidate, where there is a common seed."""
  found = {}
  for other in others:
    if other.id == child.id:
      continue
    pairs = pairing.common_runs(child, other, prefer=prefer)
    if pairs is not None:
      gap = pairing.interval(
          pairing.differences(pairs, "overall"),
          prior_variance=prior.variance,
          prior_dof=prior.dof,
      )
      if gap is not None:
        found[other.id] = _Comparison(other.name, gap, pairs)
  return found


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


def _moves(pairs: pairing.Pairs | None) -> dict[str, tuple[float, float]]:
  """Signal -> (parent, child), with the mean over sets of either kind."""
  if pairs is None:
    return {}
  moves = {}
  for name in diagnosis.SIGNALS:
    both = pairing.mean_signals(pairs, name)
    if both is not None:
      moves[name] = both
  for kind in ("pass_at_k", "accuracy"):
    names = [n for n in pairs.ours[0].metrics if n.startswith(f"{kind}/")]
    known = [pairing.mean_signals(pairs, n) for n in names]
    known = [both for both in known if both is not None]
    if known:
      before, after = (sum(x) / len(known) for x in zip(*known, strict=True))
      moves[kind] = (before, after)
  return moves


def _verdicts(
    mechanisms: Mapping[str, Any] | None,
    pairs: pairing.Pairs | None,
    prior: _Prior,
) -> dict[str, str]:
  """Predicted metric -> confirmed, contradicted, or which way it points."""
  predicted = (mechanisms or {}).get("prediction") or {}
  if pairs is None:
    return dict.fromkeys(predicted, "not measured")
  verdicts = {}
  for metric, sign in predicted.items():
    gaps = pairing.differences(pairs, metric)
    known = prior if metric == "overall" else _Prior(0.0, 0.0)
    gap = pairing.interval(
        gaps, prior_variance=known.variance, prior_dof=known.dof
    )
    verdicts[metric] = _verdict(gap, sign, len(gaps))
  return verdicts


def _verdict(gap: statistics.Interval | None, sign: int, seeds: int) -> str:
  """Judges one prediction by the interval of what happened."""
  if gap is None:
    return "not measured"
  if seeds >= _CLAIM_SEEDS and gap.low is not None and gap.high is not None:
    if min(sign * gap.low, sign * gap.high) > 0:
      return "confirmed"
    if max(sign * gap.low, sign * gap.high) < 0:
      return "contradicted"
  if gap.mean == 0:
    return "open, did not move"
  way = "the predicted way" if sign * gap.mean > 0 else "the other way"
  return f"open, points {way}"


def _suggestion(
    child: Evidence, baseline: Evidence, comparison: _Comparison | None
) -> str:
  """Keep, drop or undecided: a decision only where the interval decides."""
  if child.evaluations and not pairing.scored(child.evaluations):
    return "drop"
  if child.id == baseline.id:
    return "keep"
  if comparison is None or len(comparison.pairs.seeds) < _CLAIM_SEEDS:
    return "undecided"
  low, high = comparison.gap.low, comparison.gap.high
  if low is not None and low > 0:
    return "keep"
  return "drop" if high is not None and high < 0 else "undecided"


def _changed_text(
    child: Evidence, baseline: Evidence, changed: Sequence[str] | None
) -> str:
  """The first sentence."""
  if child.id == baseline.id:
    return f"{child.name} is the root; there is nothing to compare it with."
  if changed is None:
    return f"{child.name} against {baseline.name}: no description of both."
  what = "; ".join(changed) if changed else "nothing in the description"
  return f"{child.name} changed, against {baseline.name}: {what}."


def _versus_text(
    child: Evidence, versus: Mapping[str, _Comparison]
) -> list[str]:
  """One sentence for each comparison, with what it can bear."""
  own = [e.metrics.get("overall") for e in pairing.scored(child.evaluations)]
  known = [x for x in own if x is not None]
  if not versus:
    if not known:
      return ["It has no score."]
    mean = sum(known) / len(known)
    return [f"Overall {mean:.2f} in {_runs(len(known))}, compared with none."]
  sentences = []
  for name, gap, pairs in versus.values():
    seeds = len(pairs.seeds)
    sentences.append(
        f"Overall against {name}: {_words(gap)} over {seeds} common"
        f" {'seed' if seeds == 1 else 'seeds'}"
        f" ({pairs.budget} budget, {pairs.split} split)"
        + ("; no claim." if seeds < _CLAIM_SEEDS else ".")
    )
  if any(len(c.pairs.seeds) >= _CLAIM_SEEDS for c in versus.values()):
    sentences.append(
        "Intervals are at 95 %, not corrected for how many candidates were"
        " tried."
    )
  return sentences


def _sets_text(sets: Mapping[str, statistics.Interval]) -> str:
  """Differences set by set, in points."""
  if not sets:
    return ""
  each = [
      f"{metric.split('/')[1]} {gap.mean:+.1f}" for metric, gap in sets.items()
  ]
  return f"By set, in points: {', '.join(each)}."


def _moves_text(moves: diagnosis.Moves) -> str:
  """Before and after of the training signals."""
  each = [
      f"{words} {form.format(moves[name][0])} to {form.format(moves[name][1])}"
      for name, (words, form) in _SHOWN.items()
      if name in moves
  ]
  return f"Signals, from parent to child: {', '.join(each)}." if each else ""


def _verdicts_text(verdicts: Mapping[str, str]) -> str:
  """Prediction against outcome."""
  each = [
      f"{wording.SIGNALS.get(metric, metric)} {verdict}"
      for metric, verdict in verdicts.items()
  ]
  return f"Its predictions: {'; '.join(each)}." if each else ""


def _diverged_text(diverged: Sequence[records.Evaluation], runs: int) -> str:
  """How many runs diverged, and why."""
  if not diverged:
    return ""
  reasons = "; ".join(sorted({e.reason or "no reason" for e in diverged}))
  return f"{len(diverged)} of {_runs(runs)} diverged: {reasons}."


def _suggestion_text(
    suggestion: str, child: Evidence, baseline: Evidence
) -> str:
  """What to do next."""
  if suggestion == "keep":
    if child.id == baseline.id:
      return "Suggestion: keep as the reference."
    return "Suggestion: keep, and confirm on fresh seeds."
  if suggestion == "drop":
    unstable = not pairing.scored(child.evaluations)
    return "Suggestion: drop" + (" as unstable." if unstable else ".")
  return "Suggestion: undecided; more seeds would tell."


def _runs(count: int) -> str:
  """A number of runs in words."""
  return f"{count} run" if count == 1 else f"{count} runs"


def _words(gap: statistics.Interval) -> str:
  """A mean difference with its interval."""
  if gap.low is None or gap.high is None:
    return f"{gap.mean:+.2f}"
  return f"{gap.mean:+.2f} [{gap.low:+.2f}, {gap.high:+.2f}]"


def _interval_json(gap: statistics.Interval) -> dict[str, float | None]:
  """An interval as the archive stores it."""
  return {
      key: None if value is None else round(value, 4)
      for key, value in gap._asdict().items()
  }


def _comparison_json(own: _Comparison) -> dict[str, Any]:
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


def _move_json(before: float, after: float) -> dict[str, float]:
  """A signal of parent and child."""
  return {"before": round(before, 6), "after": round(after, 6)}
