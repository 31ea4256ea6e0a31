"""One HTML page about a campaign, readable offline and on a phone.

Everything in an archive is text from elsewhere, candidate sources above all:
nothing reaches the page unescaped.
"""

from collections.abc import Iterable, Mapping, Sequence
import html
import os
import pathlib
import tempfile
from typing import get_args

from plotly import graph_objects as go
from plotly import offline

from poise_jax.archive import records, store
from poise_jax.discovery import conclusions, leaderboard
from poise_jax.report import claims, figures

_CSS = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem;
  margin: 0 auto; padding: 1rem; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #8886; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: left; white-space: nowrap;
  border-bottom: 1px solid #8884; }
.claim { border-left: .3rem solid #8888; padding-left: .8rem; }
.note { opacity: .75; font-size: .9rem; }
details { margin: .5rem 0; border: 1px solid #8884; border-radius: .3rem;
  padding: .4rem .8rem; }
summary { cursor: pointer; overflow-wrap: anywhere; }
pre { overflow-x: auto; background: #8882; padding: .6rem; font-size: .85rem; }
p, li, dd { overflow-wrap: anywhere; }
"""

_SCRIPT = """
for (const node of document.querySelectorAll("script[data-figure]")) {
  const figure = JSON.parse(node.textContent);
  Plotly.newPlot(node.dataset.figure, figure.data, figure.layout,
    {responsive: true, displayModeBar: false});
}
"""


def write(
    archive: store.Archive,
    campaign_id: str,
    out_dir: str | os.PathLike[str],
) -> pathlib.Path:
  """Writes `index.html`, and beside it the script that draws its figures.

  Args:
    archive: where the campaign is kept.
    campaign_id: which campaign.
    out_dir: made if it does not exist.

  Returns:
    The path of `index.html`.

  Raises:
    ArchiveError: if there is no such campaign.
    OSError: if the files cannot be written.
  """
  text = render(
      archive.campaign(campaign_id),
      archive.candidates(campaign_id),
      archive.evaluations(campaign_id),
      archive.reflections(campaign_id),
      archive.decisions(campaign_id),
  )
  folder = pathlib.Path(out_dir)
  folder.mkdir(parents=True, exist_ok=True)
  write_atomically(folder / "plotly.min.js", offline.get_plotlyjs())
  return write_atomically(folder / "index.html", text)


def write_atomically(path: str | os.PathLike[str], text: str) -> pathlib.Path:
  """Writes a file that is at no moment half written; returns its path."""
  path = pathlib.Path(path)
  handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
  try:
    with os.fdopen(handle, "w", encoding="utf-8") as file:
      file.write(text)
    os.chmod(name, 0o644)
    os.replace(name, path)
  except BaseException:
    os.unlink(name)
    raise
  return path


def render(
    campaign: records.Campaign,
    candidates: Sequence[records.Candidate],
    evaluations: Sequence[records.Evaluation],
    reflections: Sequence[records.Reflection],
    decisions: Sequence[records.Decision] = (),
) -> str:
  """Renders the page as text."""
  candidates = [c for c in candidates if c.role != "variant"]
  standings = leaderboard.rank(campaign, candidates, evaluations)
  basis = claims.basis(campaign, evaluations)
  record_of = {candidate.id: candidate for candidate in candidates}
  ranked = [record_of[standing.id] for standing in standings]
  searched = leaderboard.counted(campaign, evaluations)
  shown = [c.id for c in ranked[:3]]
  shown += [c.id for c in ranked[3:] if c.role == "root"]
  title = _escape(f"Campaign {campaign.name}")
  body = [
      f"<h1>{title}</h1>",
      _header(campaign, standings, basis),
      "<h2>Result</h2>",
      _claims(claims.result(standings, basis)),
      *_concluded(conclusions.of(decisions)),
      "<h2>Canaries</h2>",
      _claims(claims.canaries(standings)),
      "<h2>Leaderboard</h2>",
      f'<p class="note">{_escape(basis)}. Intervals are 95 %, not corrected'
      " for the number of candidates.</p>",
      _table(standings, record_of),
      _figure("bars", figures.leaderboard_bars(standings)),
      "<h2>Evolution</h2>",
      '<p class="note">Square: root (hollow: baseline). Diamond: canary. Cross: rejected by'
      " verification. Star: twin of another. Hollow: diverged (triangle), pending (circle) or"
      " dropped on a cheaper budget (square).</p>",
      _figure("tree", figures.evolution_tree(candidates, standings)),
      "<h2>Frontier by depth</h2>",
      f'<p class="note">{_escape(basis)}.</p>',
      _figure("frontier", figures.frontier_by_depth(candidates, standings)),
      "<h2>Training curves</h2>",
      '<p class="note">Means over seeds; choose candidates in the legend.</p>',
      _figure("curves", figures.training_curves(ranked, searched, shown=shown)),
      "<h2>Candidates</h2>",
      *_details(candidates, standings, reflections),
  ]
  return "\n".join(
      [
          '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
          '<meta name="viewport" content="width=device-width, initial-scale=1">',
          f"<title>{title}</title><style>{_CSS}</style>",
          '<script src="plotly.min.js"></script></head><body>',
          *body,
          f"<script>{_SCRIPT}</script></body></html>\n",
      ]
  )


def _escape(value: object) -> str:
  return html.escape(str(value), quote=True)


def _concluded(lines: Sequence[str]) -> list[str]:
  """What fresh seeds said, if the campaign is over."""
  if not lines:
    return []
  return ["<h2>Confirmed</h2>", _claims(lines)]


def _claims(sentences: Iterable[str]) -> str:
  return "\n".join(f'<p class="claim">{_escape(s)}</p>' for s in sentences)


def _header(
    campaign: records.Campaign,
    standings: Sequence[leaderboard.Standing],
    basis: str,
) -> str:
  """Says what was run: counts, basis, configuration."""
  counts = dict.fromkeys(get_args(leaderboard.Status), 0)
  for standing in standings:
    counts[standing.status] += 1
  told = ", ".join(f"{count} {status}" for status, count in counts.items())
  rows = "".join(
      f"<tr><th>{_escape(key)}</th><td>{_escape(_inline(value))}</td></tr>"
      for key, value in sorted(campaign.config.items())
  )
  return (
      f"<p>Campaign {_escape(campaign.id)}, begun"
      f" {campaign.created_at:%Y-%m-%d %H:%M} UTC: {len(standings)} candidates"
      f" ({told}). {_escape(basis)}.</p>\n<details><summary>Configuration"
      f'</summary><div class="scroll"><table>{rows}</table></div></details>'
  )


def _inline(value: object) -> str:
  return value if isinstance(value, str) else records.canonical_json(value)


def _table(
    standings: Sequence[leaderboard.Standing],
    record_of: Mapping[str, records.Candidate],
) -> str:
  """Renders the leaderboard: totals, then one column a problem set."""
  sets = sorted({name for s in standings for name in s.set_means})
  heads = (
      "#",
      "candidate",
      "overall",
      "95 % interval",
      "seeds",
      "status",
      "role",
      *sets,
      "length",
      "parents",
  )
  rows = ["".join(f"<th>{_escape(head)}</th>" for head in heads)]
  for rank, standing in enumerate(standings, start=1):
    parents = ", ".join(record_of[parent].name for parent in standing.parents)
    link = f'<a href="#{_escape(standing.id)}">{_escape(standing.name)}</a>'
    cells = (
        _number(standing.overall_mean),
        _interval(standing),
        standing.n_seeds,
        standing.status,
        standing.role,
        *(_number(standing.set_means.get(name), 3) for name in sets),
        _number(standing.response_length),
        parents,
    )
    cells = "".join(f"<td>{_escape(cell)}</td>" for cell in cells)
    rows.append(f"<td>{rank}</td><td>{link}</td>{cells}")
  body = "\n".join(f"<tr>{row}</tr>" for row in rows)
  return f'<div class="scroll"><table id="leaderboard">{body}</table></div>'


def _number(value: float | None, digits: int = 1) -> str:
  return "" if value is None else f"{value:.{digits}f}"


def _interval(standing: leaderboard.Standing) -> str:
  if standing.overall_low is None:
    return ""
  return f"{standing.overall_low:.1f} to {standing.overall_high:.1f}"


def _figure(name: str, figure: go.Figure) -> str:
  """Places a figure, its data as JSON that cannot end its own element."""
  data = figure.to_json()
  for character in "<>&":
    data = data.replace(character, f"\\u{ord(character):04x}")
  return (
      f'<div id="{name}"></div>\n<script type="application/json"'
      f' data-figure="{name}">{data}</script>'
  )


def _details(
    candidates: Sequence[records.Candidate],
    standings: Sequence[leaderboard.Standing],
    reflections: Sequence[records.Reflection],
) -> list[str]:
  """Renders one folded section a candidate, in order of index."""
  standing_of = {standing.id: standing for standing in standings}
  reflection_of = {r.candidate_id: r.text for r in reflections}
  sections = []
  for candidate in candidates:
    score = figures.interval_text(standing_of[candidate.id])
    findings = "".join(
        "<li>"
        + _escape("; ".join(f"{k}: {v}" for k, v in found.items()))
        + "</li>"
        for found in candidate.findings
    )
    sections.append(
        f'<details id="{_escape(candidate.id)}"><summary>'
        f"<strong>{_escape(candidate.name)}</strong> ({_escape(candidate.role)}, round"
        f" {candidate.generation}): {_escape(score)}</summary>\n"
        f"<p>{_escape(candidate.rationale)}</p>\n<ul>{findings}</ul>\n"
        f"{_described(candidate)}"
        f"<p>{_escape(reflection_of.get(candidate.id, 'No reflection.'))}</p>\n"
        f"<pre><code>{_escape(candidate.source)}</code></pre>\n"
        f'<p class="note">Source SHA-256 {_escape(candidate.source_sha256)}</p>'
        "</details>"
    )
  return sections


def _described(candidate: records.Candidate) -> str:
  """Says what is known of a loss without training: what it is, numbers."""
  text = ""
  if candidate.nearest:
    text += f"<p>As a loss: {_escape(candidate.nearest[0]['words'])}.</p>\n"
  numbers = "".join(
      f"<tr><th>{_escape(name)}</th><td>{value:.4g}</td></tr>"
      for name, value in candidate.intrinsic.items()
      if value is not None
  )
  if numbers:
    text += (
        "<details><summary>Numbers before training</summary>"
        f"<table>{numbers}</table></details>\n"
    )
  return text
