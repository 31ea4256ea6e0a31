"""What a comparison says, in sentences, and as a document in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

from poise_jax.evaluation import comparison, measures, paired_scores

_SHOWN = 400  # characters of a completion in the document


def sentences(found: comparison.Comparison) -> list[str]:
  """The verdict: Overall, then the sets with a difference, then the others.

  "Better" is only said of p-values of at most 5 %, corrected over the sets;
  what an interval alone would suggest is told apart.
  """
  if found.same_checkpoint:
    count = sum(s.same for s in found.sets.values())
    return [
        f"A and B are the same checkpoint, and all {count} completions are"
        " equal token by token: there is no difference."
    ]
  told = []
  if found.overall is not None:
    told.append(_overall(found.overall))
  sets = list(found.sets.values())
  clear = [s for s in sets if s.adjusted <= comparison.LEVEL]
  hints = [s for s in sets if s not in clear and _apart(s.score)]
  rest = [s for s in sets if s not in clear and s not in hints]
  told += [
      f"{_winner(s.score)} better on {s.name} by {_size(s.score)}"
      f" ({_equals(s.adjusted)} corrected for {len(sets)}"
      f" set{'s' * (len(sets) > 1)})."
      for s in clear
  ]
  told += [
      f"Not established on {s.name}: {_winner(s.score)} ahead by"
      f" {_size(s.score)}, but {_equals(s.adjusted)} after correction for"
      f" {len(sets)} set{'s' * (len(sets) > 1)} (minimum detectable"
      f" {_points(s.score.detectable)})."
      for s in hints
  ]
  if rest:
    parts = ", ".join(
        f"{s.name} ({_signed(s.score)}, minimum detectable"
        f" {_points(s.score.detectable)})"
        for s in rest
    )
    told.append(f"No difference detected on {parts}.")
  total = sum(s.problems * s.samples for s in sets)
  if sum(s.same for s in sets) == total:
    told.append(f"All {total} completions are equal token by token.")
  if cut := [
      f"on {s.name} {s.not_graded[0]} of A and {s.not_graded[1]} of B"
      for s in sets
      if any(s.not_graded)
  ]:
    told.append(
        "Answers not graded in time, and counted as wrong:"
        f" {', '.join(cut)}."
    )
  if any(s.problems < s.of for s in sets):
    told.append("Not all problems were asked: this is no result to cite.")
  return told


def markdown(
    found: comparison.Comparison, manifest: dict[str, Any], most: int = 20
) -> str:
  """The comparison as a document.

  Args:
    found: the comparison.
    manifest: what it depends on, as `launch/compare.py` makes it.
    most: flips to show of each set.
  """
  lines = ["# Comparison of two policies", ""]
  lines += [f"{sentence}\n" for sentence in sentences(found)]
  lines += ["## Scores", ""]
  head = (
      "set", "metric", "problems", "A", "B", "B - A [95 %]", "p", "corrected",
      "minimum detectable", "gained", "lost",
  )  # fmt: skip
  lines += [_row(head), _row(["---"] * len(head))]
  for s in found.sets.values():
    lines.append(_row(score_cells(s)))
  if found.overall is not None:
    d = found.overall
    cells = (
        "**Overall**", "weighted", "", f"{100 * d.a:.1f}", f"{100 * d.b:.1f}",
        _signed(d), _p(d.p_value), "", _points(d.detectable), "", "",
    )  # fmt: skip
    lines.append(_row(cells))
  lines += ["", "Points of 100. " + METHODS, "", "## Other measures", ""]
  head = ("set", "measure", "A", "B", "B - A [95 %]", "p")
  lines += [_row(head), _row(["---"] * len(head))]
  for s in found.sets.values():
    for name, d in s.others.items():
      lines.append(_row((s.name, *other_cells(name, d))))
  lines += ["", "Not corrected for their number.", "", "## Flips", ""]
  for s in found.sets.values():
    lines += _flips(s, most)
  lines += ["## Manifest", "", f"Identity `{manifest['id']}`.", ""]
  lines += [
      f"- {side}: `{manifest[side]['checkpoint']}`" for side in ("a", "b")
  ]
  return "\n".join(lines) + "\n"


METHODS = (
    "Problems are paired. Intervals: Tango's for problems solved or not, else"
    " BCa bootstrap over problems. Tests: McNemar's, exact, or sign flips;"
    " corrected over sets by Holm. Minimum detectable: with a chance of 80 % at"
    " 5 % over the number of sets, as the correction asks; Overall, at 5 %."
)


def score_cells(s: comparison.SetComparison) -> tuple[str, ...]:
  """A set's line in the table of scores."""
  d = s.score
  count = str(s.problems) + (f" of {s.of}" if s.problems < s.of else "")
  gained = sum(f.gained for f in s.flips)
  return (
      s.name,
      measures.metric_name(s.metric, s.samples),
      count,
      f"{100 * d.a:.1f}",
      f"{100 * d.b:.1f}",
      _signed(d),
      _p(d.p_value),
      _p(s.adjusted),
      _points(d.detectable),
      str(gained),
      str(len(s.flips) - gained),
  )


def other_cells(name: str, d: paired_scores.Difference) -> tuple[str, ...]:
  """A line in the table of other measures."""
  factor = 1.0 if name in ("tokens", "words") else 100.0
  interval = measures.scaled(d.interval, factor)._asdict()
  return (
      name,
      f"{factor * d.a:.1f}",
      f"{factor * d.b:.1f}",
      measures.text(interval),
      _p(d.p_value),
  )


def _flips(s: comparison.SetComparison, most: int) -> list[str]:
  lines = [f"### {s.name}: {len(s.flips)}", ""]
  for flip in s.flips[:most]:
    winner = "B" if flip.gained else "A"
    lines += [
        f"**{_inline(flip.id)}**, solved by {winner} only, answer"
        f" {_inline(flip.gold)}; right samples: A {flip.hits[0]},"
        f" B {flip.hits[1]}",
        "",
    ]
    for side, completion in (("A", flip.a), ("B", flip.b)):
      verdict = "right" if completion.correct else "wrong"
      lines += [f"{side}, {verdict}:", "", *_quoted(completion.text), ""]
  if len(s.flips) > most:
    lines += [f"And {len(s.flips) - most} more, in comparison.json.", ""]
  return lines


def _quoted(text: str) -> Iterable[str]:
  """An indented block, which no text can end."""
  shown = text if len(text) <= _SHOWN else "... " + text[-_SHOWN:]
  # Not splitlines: one that breaks differently elsewhere would end the block.
  return ["    " + line for line in " ".join(shown.split("\r")).split("\n")]


def _inline(text: str) -> str:
  """Text within a line: as code, which no text can end."""
  return "`" + " ".join(text.replace("`", "'").split()) + "`"


def _row(cells: Sequence[str]) -> str:
  return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _overall(d: paired_scores.Difference) -> str:
  if d.p_value <= comparison.LEVEL:
    return f"{_winner(d)} better Overall by {_size(d)} ({_equals(d.p_value)})."
  return (
      f"No difference detected Overall: B - A is {_signed(d)}"
      f" ({_equals(d.p_value)}, minimum detectable {_points(d.detectable)})."
  )


def _winner(d: paired_scores.Difference) -> str:
  return "B" if d.interval.mean > 0 else "A"


def _size(d: paired_scores.Difference) -> str:
  """By how much the winner is ahead, in points."""
  mean, low, high = measures.scaled(d.interval)
  if mean < 0 and low is not None and high is not None:
    low, high = -high, -low
  return measures.text({"mean": abs(mean), "low": low, "high": high})


def _signed(d: paired_scores.Difference) -> str:
  shown = measures.text(measures.scaled(d.interval)._asdict())
  return shown if d.interval.mean <= 0 else f"+{shown}"


def _apart(d: paired_scores.Difference) -> bool:
  """Whether the interval leaves out 0."""
  low, high = d.interval.low, d.interval.high
  return low is not None and high is not None and not low <= 0 <= high


def _points(value: float | None) -> str:
  return "unknown" if value is None else f"{100 * value:.1f}"


def _p(value: float) -> str:
  return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _equals(value: float) -> str:
  return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
