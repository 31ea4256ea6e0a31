"""One HTML page about a sweep, readable offline and on a phone.

Names may be those of candidates: nothing reaches the page unescaped, and
plotly, which reads HTML in every text, gets them escaped too.
"""

from collections.abc import Mapping, Sequence
import os
import pathlib
from typing import Any

from plotly import graph_objects as go

from poise_jax.discovery.sweeps import table as table_lib
from poise_jax.report import figures, layout, sweep_text

_GRAY = "#888888"
_COLOURS = {"better": "#2e8b57", "worse": "#c0504d", "baseline": "#3b6fb6"}
_ROW = 18


def write(
    table: table_lib.Table,
    facts: Mapping[str, Any],
    title: str,
    out_dir: str | os.PathLike[str],
) -> pathlib.Path:
  """Writes `index.html`, and beside it the script that draws its figures.

  Args:
    table: the sweep, judged.
    facts: what it rests on, by name.
    title: of the page.
    out_dir: made if it does not exist.

  Returns:
    The path of `index.html`.

  Raises:
    OSError: if the files cannot be written.
  """
  return layout.publish(out_dir, render(table, facts, title))


def render(table: table_lib.Table, facts: Mapping[str, Any], title: str) -> str:
  """Renders the page as text."""
  body = [
      f"<h1>{layout.escape(title)}</h1>",
      layout.claims(sweep_text.sentences(table)),
      f"<h2>Against {layout.escape(table.baseline)}</h2>",
      layout.figure("differences", differences(table)),
      "<h2>Overall</h2>",
      layout.note("Bars are 95 % intervals of means, dots seeds."),
      layout.figure("scores", scores(table)),
      "<h2>Set by set</h2>",
      layout.figure("sets", sets(table)),
      "<h2>All figures</h2>",
      layout.table(
          "sweep",
          sweep_text.heads(table),
          [sweep_text.cells(table, row) for row in table.rows],
      ),
      layout.note(sweep_text.METHODS),
      "<h2>What it rests on</h2>",
      layout.table(
          "facts",
          ("fact", "value"),
          ((name, str(value)) for name, value in facts.items()),
      ),
  ]
  return layout.drawn(title, body, width="80rem")


def differences(table: table_lib.Table) -> go.Figure:
  """Draws each difference from the baseline with its interval."""
  rows = [r for r in reversed(table.rows) if r.difference is not None]
  found = [r.difference.interval for r in rows]
  figure = go.Figure()
  figure.add_vline(x=0, line={"color": _GRAY, "width": 1})
  figure.add_scatter(
      x=[i.mean for i in found],
      y=_names(rows),
      error_x=_bars(found),
      mode="markers",
      marker={"color": [_COLOURS.get(r.verdict, _GRAY) for r in rows]},
      hovertext=[figures.escape(_hover(r)) for r in rows],
      hoverinfo="text",
  )
  title = f"points of Overall more than {figures.escape(table.baseline)}"
  return _styled(figure, len(rows), title)


def scores(table: table_lib.Table) -> go.Figure:
  """Draws the mean of each configuration, and every seed."""
  rows = [r for r in reversed(table.rows) if r.overall is not None]
  figure = go.Figure()
  figure.add_scatter(
      x=[score for r in rows for score in r.scores.values()],
      y=[
          name
          for r, name in zip(rows, _names(rows), strict=True)
          for _ in r.scores
      ],
      mode="markers",
      marker={"color": _GRAY, "size": 5, "opacity": 0.5},
      hoverinfo="x",
  )
  figure.add_scatter(
      x=[r.overall.mean for r in rows],
      y=_names(rows),
      error_x=_bars([r.overall for r in rows]),
      mode="markers",
      marker={"color": [_COLOURS.get(r.verdict, _GRAY) for r in rows]},
      hovertext=[figures.escape(_hover(r)) for r in rows],
      hoverinfo="text",
  )
  return _styled(figure, len(rows), "Overall")


def sets(table: table_lib.Table) -> go.Figure:
  """Colours the score of each configuration on each set, 0-100."""
  rows = [r for r in reversed(table.rows) if r.overall is not None]
  figure = go.Figure()
  figure.add_heatmap(
      x=[name for name, _ in sweep_text.sets(table)],
      y=_names(rows),
      z=[
          [
              100 * r.metrics.get(name, float("nan"))
              for _, name in sweep_text.sets(table)
          ]
          for r in rows
      ],
      colorscale="Viridis",
      hovertemplate="%{y}, %{x}: %{z:.1f}<extra></extra>",
      colorbar={"thickness": 12},
  )
  return _styled(figure, len(rows), "")


def _names(rows: Sequence[table_lib.Row]) -> list[str]:
  return [figures.escape(row.config.name) for row in rows]


def _hover(row: table_lib.Row) -> str:
  gap = row.difference
  parts = [row.config.name, sweep_text.interval(row.overall), row.verdict]
  if gap is not None:
    parts.insert(2, sweep_text.interval(gap.interval, sign=True))
  return ", ".join(parts)


def _bars(found: Sequence[Any]) -> dict[str, object]:
  """Half widths of intervals; nothing is drawn where there is none."""
  half = [None if i.high is None else i.high - i.mean for i in found]
  return {"type": "data", "array": half, "color": _GRAY, "thickness": 1.5}


def _styled(figure: go.Figure, rows: int, title: str) -> go.Figure:
  """One look, readable on light and dark ground; tall as the rows need."""
  figure.update_layout(
      template="none",
      height=120 + _ROW * rows,
      margin={"l": 10, "r": 10, "t": 20, "b": 50},
      font={"color": _GRAY, "family": "system-ui, sans-serif"},
      paper_bgcolor="rgba(0,0,0,0)",
      plot_bgcolor="rgba(0,0,0,0)",
      showlegend=False,
  )
  grid = "rgba(136,136,136,0.25)"
  figure.update_xaxes(gridcolor=grid, zeroline=False, title_text=title)
  figure.update_yaxes(gridcolor=grid, automargin=True, dtick=1)
  return figure
