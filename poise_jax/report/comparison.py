"""One HTML page about two policies, readable offline and on a phone.

Completions are whatever a policy wrote: nothing reaches the page unescaped,
and there is no script on it.
"""

from collections.abc import Mapping
import json
from typing import Any

from poise_jax.evaluation import comparison, paired_scores, results, verdict
from poise_jax.report import layout

_WIDTH = 720
_ROW = 30
_LEFT = 130

_STYLE = """
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
@media (max-width: 40rem) { .sides { grid-template-columns: 1fr; } }
.sides > div { min-width: 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
svg { max-width: 100%; height: auto; font: 13px system-ui, sans-serif; }
svg text { fill: currentColor; }
"""


def render(found: comparison.Comparison, manifest: Mapping[str, Any]) -> str:
  """Renders the page as text.

  Args:
    found: the comparison.
    manifest: what it depends on.
  """
  title = "Comparison of two policies"
  heads = (
      "set", "metric", "problems", "A", "B", "B - A, 95 %", "p", "corrected",
      "minimum detectable", "gained", "lost",
  )  # fmt: skip
  scores = [verdict.score_cells(s) for s in found.sets.values()]
  others = [
      (s.name, *verdict.other_cells(name, d))
      for s in found.sets.values()
      for name, d in s.others.items()
  ]
  body = [
      f"<h1>{title}</h1>",
      layout.claims(verdict.sentences(found)),
      "<h2>Scores</h2>",
      layout.table("scores", heads, scores),
      f'<p class="note">Points of 100. {layout.escape(verdict.METHODS)}</p>',
      _forest(found),
      "<h2>Other measures</h2>",
      layout.table(
          "others", ("set", "measure", "A", "B", "B - A, 95 %", "p"), others
      ),
      '<p class="note">Not corrected for their number.</p>',
      "<h2>Flips</h2>",
      *(_flips(s) for s in found.sets.values()),
      "<h2>Manifest</h2>",
      f"<pre><code>{layout.escape(json.dumps(manifest, indent=2))}</code></pre>",
  ]
  return layout.document(title, body, style=_STYLE)


def _forest(found: comparison.Comparison) -> str:
  """Differences with their intervals, one line a set, as a drawing."""
  rows = [(s.name, s.score) for s in found.sets.values()]
  if found.overall is not None:
    rows.append(("Overall", found.overall))
  ends = [x for _, d in rows for x in d.interval if x is not None]
  reach = max(1e-3, *map(abs, ends))
  place = lambda x: _LEFT + (_WIDTH - _LEFT - 20) * (x / reach + 1) / 2
  height = _ROW * (len(rows) + 1)
  parts = [
      f'<line x1="{place(0):.1f}" x2="{place(0):.1f}" y1="0"'
      f' y2="{height - _ROW}" stroke="#888"/>',
      _label(
          place(-reach), height - 8, f"A better by {100 * reach:.1f}", "start"
      ),
      _label(place(reach), height - 8, f"B better by {100 * reach:.1f}", "end"),
  ]
  for i, (name, difference) in enumerate(rows):
    parts += _bar(name, difference, _ROW * i + _ROW // 2, place)
  return (
      f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img"'
      f' aria-label="Differences with intervals">{"".join(parts)}</svg>'
  )


def _bar(
    name: str, found: paired_scores.Difference, y: int, place: Any
) -> list[str]:
  mean, low, high = found.interval
  parts = [
      _label(0.0, y + 4, name, "start"),
      f'<circle cx="{place(mean):.1f}" cy="{y}" r="4" fill="currentColor"/>',
  ]
  if low is not None and high is not None:
    parts.append(
        f'<line x1="{place(low):.1f}" x2="{place(high):.1f}" y1="{y}" y2="{y}"'
        ' stroke="currentColor" stroke-width="2"/>'
    )
  return parts


def _label(x: float, y: int, text: str, anchor: str) -> str:
  return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}">{layout.escape(text)}</text>'


def _flips(found: comparison.SetComparison) -> str:
  """Problems that one solved, folded, the two completions side by side."""
  gained = sum(f.gained for f in found.flips)
  lines = [
      f"<h3>{layout.escape(found.name)}: {gained} gained,"
      f" {len(found.flips) - gained} lost</h3>"
  ]
  for flip in found.flips:
    winner = "B" if flip.gained else "A"
    sides = "".join(
        _side(name, completion, hits, found.samples)
        for name, completion, hits in (
            ("A", flip.a, flip.hits[0]),
            ("B", flip.b, flip.hits[1]),
        )
    )
    lines.append(
        f"<details><summary><strong>{layout.escape(flip.id)}</strong>: only"
        f" {winner} solved it</summary>\n<pre>{layout.escape(flip.problem)}</pre>\n"
        f"<p>Reference answer: <code>{layout.escape(flip.gold)}</code></p>\n"
        f'<div class="sides">{sides}</div></details>'
    )
  return "\n".join(lines)


def _side(
    name: str, completion: results.Completion, hits: int, samples: int
) -> str:
  marks = ["right" if completion.correct else "wrong"]
  marks += ["cut off"] * (not completion.finished)
  marks += ["no valid answer"] * (not completion.format_valid)
  count = f", {hits} of {samples} samples right" if samples > 1 else ""
  return (
      f"<div><p>{name}: {', '.join(marks)}, {completion.tokens} tokens"
      f"{count}</p>\n<pre>{layout.escape(completion.text)}</pre></div>"
  )
