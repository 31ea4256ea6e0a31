"""What the pages of this package have in common: look, parts, files.

Everything in an archive is text from elsewhere, candidate sources above all:
what is passed here as text is escaped, what is passed as `body` is HTML.
"""

from collections.abc import Iterable, Sequence
import html
import os
import pathlib

from plotly import graph_objects as go
from plotly import offline

from poise_jax.evaluation import results

_CSS = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; }
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


def document(
    title: str, body: Iterable[str], *, width: str = "72rem", style: str = ""
) -> str:
  """A whole page without a script.

  Args:
    title: as text.
    body: as HTML.
    width: at most, as CSS.
    style: of this page alone, as CSS.
  """
  style = f"{_CSS}body {{ max-width: {width}; }}\n{style}"
  return "\n".join(
      [
          '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
          '<meta name="viewport" content="width=device-width, initial-scale=1">',
          f"<title>{escape(title)}</title><style>{style}</style></head><body>",
          *body,
          "</body></html>\n",
      ]
  )


def drawn(
    title: str, body: Iterable[str], *, width: str = "72rem", style: str = ""
) -> str:
  """A whole page that draws its figures by the script beside it."""
  parts = ['<script src="plotly.min.js"></script>', *body]
  parts.append(f"<script>{_SCRIPT}</script>")
  return document(title, parts, width=width, style=style)


def escape(value: object) -> str:
  """Text as HTML, also inside an attribute."""
  # Halves of surrogate pairs cannot be written to a file.
  text = str(value).encode("utf-8", "replace").decode()
  return html.escape(text, quote=True)


def claims(sentences: Iterable[str]) -> str:
  """Sentences that stand out, a paragraph each."""
  return "\n".join(f'<p class="claim">{escape(s)}</p>' for s in sentences)


def note(text: str) -> str:
  """A paragraph in small print."""
  return f'<p class="note">{escape(text)}</p>'


def table(
    name: str, heads: Sequence[object], rows: Iterable[Sequence[object]]
) -> str:
  """A table of text that scrolls by itself; `name` is its id."""
  lines = ["".join(f"<th>{escape(head)}</th>" for head in heads)]
  lines += ["".join(f"<td>{escape(v)}</td>" for v in row) for row in rows]
  body = "\n".join(f"<tr>{line}</tr>" for line in lines)
  return f'<div class="scroll"><table id="{escape(name)}">{body}</table></div>'


def figure(name: str, drawn: go.Figure) -> str:
  """Places a figure, its data as JSON that cannot end its own element."""
  data = drawn.to_json()
  for character in "<>&":
    data = data.replace(character, f"\\u{ord(character):04x}")
  return (
      f'<div id="{name}"></div>\n<script type="application/json"'
      f' data-figure="{name}">{data}</script>'
  )


def publish(out_dir: str | os.PathLike[str], text: str) -> pathlib.Path:
  """Writes `index.html`, and beside it the script that draws its figures.

  Args:
    out_dir: made if it does not exist.
    text: from `drawn`.

  Returns:
    The path of `index.html`.

  Raises:
    OSError: if the files cannot be written.
  """
  folder = pathlib.Path(out_dir)
  results.write_atomically(folder / "plotly.min.js", offline.get_plotlyjs())
  results.write_atomically(folder / "index.html", text)
  return folder / "index.html"
