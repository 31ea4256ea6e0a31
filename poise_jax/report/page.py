"""One HTML page about a campaign, readable offline and on a phone.

Everything in an archive is text from elsewhere, candidate sources above all:
nothing reaches the page unescaped.
"""

from collections.abc import Mapping, Sequence
import os
import pathlib
from typing import get_args

from poise_jax.archive import records, store
from poise_jax.discovery import conclusions, leaderboard
from poise_jax.report import choices, claims, figures, layout


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
      choices.of(archive, campaign_id),
  )
  return layout.publish(out_dir, text)


def render(
    campaign: records.Campaign,
    candidates: Sequence[records.Candidate],
    evaluations: Sequence[records.Evaluation],
    reflections: Sequence[records.Reflection],
    decisions: Sequence[records.Decision] = (),
    chosen: Sequence[str] = (),
) -> str:
  """Renders the page as text.

  Args:
    campaign: the campaign.
    candidates: of the campaign, like all that follows.
    evaluations: see `candidates`.
    reflections: see `candidates`.
    decisions: see `candidates`.
    chosen: the section of `choices`, as HTML.
  """
  candidates = [c for c in candidates if c.role != "variant"]
  standings = leaderboard.rank(campaign, candidates, evaluations)
  basis = claims.basis(campaign, evaluations)
  result = claims.result(
      standings, basis, is_objective=not leaderboard.objective(campaign)
  )
  record_of = {candidate.id: candidate for candidate in candidates}
  ranked = [record_of[standing.id] for standing in standings]
  searched = leaderboard.counted(campaign, evaluations)
  shown = [c.id for c in ranked[:3]]
  shown += [c.id for c in ranked[3:] if c.role == "root"]
  body = [
      f"<h1>{layout.escape(f'Campaign {campaign.name}')}</h1>",
      _header(campaign, standings, basis),
      *_directed(decisions),
      "<h2>Result</h2>",
      layout.claims([*claims.objective(campaign), *result]),
      *_concluded(claims.confirmed(campaign, conclusions.of(decisions))),
      "<h2>Canaries</h2>",
      layout.claims(claims.canaries(standings)),
      "<h2>Leaderboard</h2>",
      f'<p class="note">{layout.escape(basis)}. Intervals are 95 %, not corrected'
      " for the number of candidates.</p>",
      _table(standings, record_of),
      layout.figure("bars", figures.leaderboard_bars(standings)),
      "<h2>Evolution</h2>",
      '<p class="note">Square: root (hollow: baseline). Diamond: canary. Cross: rejected by'
      " verification. Star: twin of another. Hollow: diverged (triangle), pending (circle) or"
      " dropped on a cheaper budget (square).</p>",
      layout.figure("tree", figures.evolution_tree(candidates, standings)),
      "<h2>Frontier by depth</h2>",
      f'<p class="note">{layout.escape(basis)}.</p>',
      layout.figure(
          "frontier", figures.frontier_by_depth(candidates, standings)
      ),
      "<h2>Training curves</h2>",
      '<p class="note">Means over seeds; choose candidates in the legend.</p>',
      layout.figure(
          "curves", figures.training_curves(ranked, searched, shown=shown)
      ),
      *chosen,
      "<h2>Candidates</h2>",
      *_details(candidates, standings, reflections),
  ]
  return layout.drawn(f"Campaign {campaign.name}", body)


def _directed(decisions: Sequence[records.Decision]) -> list[str]:
  """The directive and how it was read, if there is one."""
  for decision in decisions:
    if (decision.stage, decision.subject) == ("directive", "reading"):
      told = decision.data
      rows = "\n".join(layout.escape(line) for line in told["lines"])
      return [
          "<h2>Directive</h2>",
          layout.claims([told["text"]]),
          layout.note(f"As {told['reader']} read it:"),
          f'<pre id="directive">{rows}</pre>',
      ]
  return []


def _concluded(lines: Sequence[str]) -> list[str]:
  """What fresh seeds said, if the campaign is over."""
  if not lines:
    return []
  return ["<h2>Confirmed</h2>", layout.claims(lines)]


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
      f"<tr><th>{layout.escape(key)}</th><td>{layout.escape(_inline(value))}</td></tr>"
      for key, value in sorted(campaign.config.items())
  )
  return (
      f"<p>Campaign {layout.escape(campaign.id)}, begun"
      f" {campaign.created_at:%Y-%m-%d %H:%M} UTC: {len(standings)} candidates"
      f" ({told}). {layout.escape(basis)}.</p>\n<details><summary>Configuration"
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
  rows = ["".join(f"<th>{layout.escape(head)}</th>" for head in heads)]
  for rank, standing in enumerate(standings, start=1):
    parents = ", ".join(record_of[parent].name for parent in standing.parents)
    link = f'<a href="#{layout.escape(standing.id)}">{layout.escape(standing.name)}</a>'
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
    cells = "".join(f"<td>{layout.escape(cell)}</td>" for cell in cells)
    rows.append(f"<td>{rank}</td><td>{link}</td>{cells}")
  body = "\n".join(f"<tr>{row}</tr>" for row in rows)
  return f'<div class="scroll"><table id="leaderboard">{body}</table></div>'


def _number(value: float | None, digits: int = 1) -> str:
  return "" if value is None else f"{value:.{digits}f}"


def _interval(standing: leaderboard.Standing) -> str:
  if standing.overall_low is None:
    return ""
  return f"{standing.overall_low:.1f} to {standing.overall_high:.1f}"


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
        + layout.escape("; ".join(f"{k}: {v}" for k, v in found.items()))
        + "</li>"
        for found in candidate.findings
    )
    sections.append(
        f'<details id="{layout.escape(candidate.id)}"><summary>'
        f"<strong>{layout.escape(candidate.name)}</strong> ({layout.escape(candidate.role)}, round"
        f" {candidate.generation}): {layout.escape(score)}</summary>\n"
        f"<p>{layout.escape(candidate.rationale)}</p>\n<ul>{findings}</ul>\n"
        f"{_described(candidate)}"
        f"<p>{layout.escape(reflection_of.get(candidate.id, 'No reflection.'))}</p>\n"
        f"<pre><code>{layout.escape(candidate.source)}</code></pre>\n"
        f'<p class="note">Source SHA-256 {layout.escape(candidate.source_sha256)}</p>'
        "</details>"
    )
  return sections


def _described(candidate: records.Candidate) -> str:
  """Says what is known of a loss without training: what it is, numbers."""
  text = ""
  if candidate.nearest:
    text += (
        f"<p>As a loss: {layout.escape(candidate.nearest[0]['words'])}.</p>\n"
    )
  numbers = "".join(
      f"<tr><th>{layout.escape(name)}</th><td>{value:.4g}</td></tr>"
      for name, value in candidate.intrinsic.items()
      if value is not None
  )
  if numbers:
    text += (
        "<details><summary>Numbers before training</summary>"
        f"<table>{numbers}</table></details>\n"
    )
  return text
