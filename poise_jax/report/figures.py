"""Plotly figures of a campaign, as functions of its records.

Names and rationales come from candidates and are not trusted. Plotly reads a
subset of HTML in every text, so they are escaped, and never put into templates.
"""

from collections.abc import Mapping, Sequence
import html
import textwrap

import numpy as np
from plotly import graph_objects as go
from plotly import subplots

from poise_jax.archive import records
from poise_jax.discovery import leaderboard
from poise_jax.discovery.parents import tree

# Panels of the training curves: title, and name in `Evaluation.curve`.
CURVES = (
    ("reward", "reward"),
    ("entropy (nats)", "entropy"),
    ("KL to the base policy (nats)", "kl"),
    ("response length (tokens)", "completions/mean_length"),
)
_GRAY = "#888888"
_SYMBOLS = {
    "root": "square",
    "baseline": "square-open",
    "canary": "diamond",
    "clone": "diamond-open",
    "generated": "circle",
}
_FAILED_SYMBOLS = {
    "rejected": "x",
    "twin": "asterisk-open",
    "diverged": "triangle-down-open",
    "pending": "circle-open",
    "dropped": "square-open",
}
_SHOWN_CURVES = 4


def escape(text: str) -> str:
  """Makes `text` literal where plotly would read HTML."""
  # Plotly decodes no entity of the double quote, which is harmless here.
  return html.escape(text, quote=False)


def interval_text(standing: leaderboard.Standing) -> str:
  """Writes a score with its interval, seeds and budget, or why there is none."""
  if standing.overall_mean is None:
    return standing.status
  seeds = f"{standing.n_seeds} seed" + "s" * (standing.n_seeds != 1)
  if standing.overall_low is None or standing.overall_high is None:
    spread = "no interval"
  else:
    spread = f"{standing.overall_low:.1f} to {standing.overall_high:.1f}"
  return (
      f"{standing.overall_mean:.1f} [{spread}], {seeds}, budget"
      f" {standing.budget}"
  )


def evolution_tree(
    candidates: Sequence[records.Candidate],
    standings: Sequence[leaderboard.Standing],
) -> go.Figure:
  """Draws who came from whom: round to the right, colour by overall score.

  Solid lines lead to the first parent, dotted lines to further ones.
  """
  standing_of = {standing.id: standing for standing in standings}
  generation = {c.id: c.generation for c in candidates}
  row = _rows(candidates)
  figure = go.Figure()
  for first, dash in ((True, "solid"), (False, "dot")):
    x, y = [], []
    for candidate in candidates:
      chosen = candidate.parents[:1] if first else candidate.parents[1:]
      for parent in chosen:
        x += [generation[parent], candidate.generation, None]
        y += [row[parent], row[candidate.id], None]
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": _GRAY, "width": 1, "dash": dash},
        hoverinfo="skip",
        showlegend=False,
    )
  scored = [c for c in candidates if _is_scored(standing_of[c.id])]
  failed = [c for c in candidates if not _is_scored(standing_of[c.id])]
  for group in (scored, failed):
    figure.add_scatter(
        x=[c.generation for c in group],
        y=[row[c.id] for c in group],
        mode="markers",
        marker=_markers([standing_of[c.id] for c in group]),
        hovertext=[_hover(c, standing_of[c.id]) for c in group],
        hoverinfo="text",
        showlegend=False,
    )
  figure.update_yaxes(visible=False)
  height = 160 + 22 * (1 + int(max(row.values(), default=0)))
  return _styled(figure, x_title="round", height=height)


def frontier_by_depth(
    candidates: Sequence[records.Candidate],
    standings: Sequence[leaderboard.Standing],
) -> go.Figure:
  """Draws every score against the depth of its lineage, and the best by depth.

  Canaries are left out: they stand outside the search.
  """
  standing_of = {s.id: s for s in standings if s.overall_mean is not None}
  parents = {c.id: c.parents for c in candidates}
  level = {key: tree.depth(parents, key) for key in parents}
  shown = [c for c in candidates if c.role != "canary" and c.id in standing_of]
  scores = {c.id: standing_of[c.id].overall_mean for c in shown}
  best = _best_by_depth(level, scores)
  name = {c.id: escape(c.name) for c in candidates}
  figure = go.Figure()
  figure.add_scatter(
      x=[level[c.id] for c in shown],
      y=[scores[c.id] for c in shown],
      mode="markers",
      name="candidates",
      marker={"color": _GRAY, "size": 7},
      hovertext=[_hover(c, standing_of[c.id]) for c in shown],
      hoverinfo="text",
  )
  figure.add_scatter(
      x=list(best),
      y=[scores[key] for key in best.values()],
      error_y=_error_bars([standing_of[key] for key in best.values()]),
      mode="lines+markers",
      name="best at this depth",
      hovertext=[
          f"{name[key]}<br>{escape(interval_text(standing_of[key]))}"
          for key in best.values()
      ],
      hoverinfo="text",
  )
  figure.update_xaxes(dtick=1)
  return _styled(
      figure, x_title="depth below the root", y_title="overall (0-100)"
  )


def _best_by_depth(
    level: Mapping[str, int], scores: Mapping[str, float]
) -> dict[int, str]:
  """Maps each depth to its best-scoring candidate, the earlier one if tied."""
  best: dict[int, str] = {}
  for key, score in scores.items():
    champion = best.get(level[key])
    if champion is None or score > scores[champion]:
      best[level[key]] = key
  return dict(sorted(best.items()))


def leaderboard_bars(
    standings: Sequence[leaderboard.Standing],
) -> go.Figure:
  """Draws mean scores with their 95 % intervals, best on top."""
  scored = [s for s in standings if _is_scored(s)][::-1]
  figure = go.Figure()
  figure.add_scatter(
      x=[s.overall_mean for s in scored],
      y=list(range(len(scored))),
      error_x=_error_bars(scored),
      mode="markers",
      marker=_markers(scored) | {"showscale": False},
      hovertext=[
          f"{escape(s.name)}<br>{escape(interval_text(s))}" for s in scored
      ],
      hoverinfo="text",
      showlegend=False,
  )
  for root in (s for s in scored if s.role == "root"):
    figure.add_vline(x=root.overall_mean, line={"dash": "dot", "color": _GRAY})
  figure.update_yaxes(
      tickvals=list(range(len(scored))),
      ticktext=[escape(_short(s.name)) for s in scored],
      automargin=True,
  )
  return _styled(
      figure, x_title="overall (0-100)", height=120 + 24 * len(scored)
  )


def training_curves(
    candidates: Sequence[records.Candidate],
    evaluations: Sequence[records.Evaluation],
    *,
    shown: Sequence[str] = (),
) -> go.Figure:
  """Draws training curves, one line a candidate: the mean over its runs.

  Args:
    candidates: in the order of the legend.
    evaluations: whose curves to draw; of one budget.
    shown: ids drawn from the start; others by a click on the legend. The
      first few candidates if empty.
  """
  shown = shown or [c.id for c in candidates[:_SHOWN_CURVES]]
  figure = subplots.make_subplots(
      rows=2, cols=2, subplot_titles=[title for title, _ in CURVES]
  )
  for candidate in candidates:
    runs = [run for run in evaluations if run.candidate_id == candidate.id]
    in_legend = False
    for panel, (_, name) in enumerate(CURVES):
      values = _mean_curve([r.curve[name] for r in runs if name in r.curve])
      if not values:
        continue
      figure.add_scatter(
          x=list(range(len(values))),
          y=values,
          row=1 + panel // 2,
          col=1 + panel % 2,
          mode="lines",
          name=escape(_short(candidate.name)),
          line={"color": _color(candidate.index)},
          legendgroup=candidate.id,
          showlegend=not in_legend,
          visible=True if candidate.id in shown else "legendonly",
      )
      in_legend = True
  figure.update_xaxes(title_text="step", row=2)
  return _styled(figure, height=640)


def _is_scored(standing: leaderboard.Standing) -> bool:
  return standing.overall_mean is not None


def _short(name: str) -> str:
  return name if len(name) <= 40 else name[:39] + "…"


def _hover(candidate: records.Candidate, standing: leaderboard.Standing) -> str:
  """Writes what a node says of itself: name, score, rationale."""
  rationale = textwrap.shorten(candidate.rationale, 360, placeholder=" ...")
  lines = [
      f"{candidate.name} ({candidate.role})",
      interval_text(standing),
      *textwrap.wrap(rationale, 60),
  ]
  return "<br>".join(map(escape, lines))


def _rows(candidates: Sequence[records.Candidate]) -> dict[str, float]:
  """Places candidates such that subtrees of first parents do not cross."""
  parent = {c.id: c.parents[0] if c.parents else None for c in candidates}
  below: dict[str | None, list[str]] = {None: []}
  for child, above in parent.items():
    below[child] = []
    below[above].append(child)
  row: dict[str, float] = {}
  leaves = 0
  # Depth first, without recursion: lineages may be long.
  stack = [(key, False) for key in reversed(below[None])]
  while stack:
    key, done = stack.pop()
    if done:
      row[key] = sum(row[child] for child in below[key]) / len(below[key])
    elif below[key]:
      stack.append((key, True))
      stack += [(child, False) for child in reversed(below[key])]
    else:
      row[key], leaves = float(leaves), leaves + 1
  return row


def _markers(standings: Sequence[leaderboard.Standing]) -> dict[str, object]:
  """Styles nodes by role and score; those without a score are gray."""
  scored = bool(standings) and all(map(_is_scored, standings))
  marker: dict[str, object] = {
      "size": 12,
      "symbol": [
          _FAILED_SYMBOLS.get(s.status, _SYMBOLS[s.role]) for s in standings
      ],
      "color": [s.overall_mean for s in standings] if scored else _GRAY,
  }
  if scored:
    marker |= {
        "colorscale": "Viridis",
        "showscale": True,
        "colorbar": {"title": {"text": "overall"}, "thickness": 12},
    }
  return marker


def _error_bars(
    standings: Sequence[leaderboard.Standing],
) -> dict[str, object]:
  """Half widths of intervals; nothing is drawn where there is none."""
  half = [
      None if s.overall_high is None else s.overall_high - s.overall_mean
      for s in standings
  ]
  return {"type": "data", "array": half, "color": _GRAY, "thickness": 1.5}


def _mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
  """Averages curves step by step, each as far as it goes."""
  steps = max(map(len, curves), default=0)
  return [
      float(np.mean([curve[step] for curve in curves if step < len(curve)]))
      for step in range(steps)
  ]


def _color(index: int) -> str:
  """A colour of its own for each of many indices."""
  return f"hsl({(index * 137) % 360},60%,50%)"


def _styled(
    figure: go.Figure,
    *,
    x_title: str = "",
    y_title: str = "",
    height: int = 420,
) -> go.Figure:
  """Gives all figures one look, readable on light and dark ground."""
  figure.update_layout(
      template="none",
      height=height,
      margin={"l": 50, "r": 10, "t": 40, "b": 50},
      font={"color": _GRAY, "family": "system-ui, sans-serif"},
      paper_bgcolor="rgba(0,0,0,0)",
      plot_bgcolor="rgba(0,0,0,0)",
      legend={"orientation": "h", "y": -0.15},
      hoverlabel={"align": "left"},
  )
  figure.update_xaxes(gridcolor="rgba(136,136,136,0.25)", zeroline=False)
  figure.update_yaxes(gridcolor="rgba(136,136,136,0.25)", zeroline=False)
  if x_title:
    figure.update_xaxes(title_text=x_title)
  if y_title:
    figure.update_yaxes(title_text=y_title)
  return figure
