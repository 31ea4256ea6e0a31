import json
import os
import re
import stat

from plotly import graph_objects as go

from poise_jax.report import layout

HOSTILE = "</script><b id=\"x\" title='y'>&"


def test_text_is_only_text():
  escaped = "&lt;/script&gt;&lt;b id=&quot;x&quot; title=&#x27;y&#x27;&gt;&amp;"
  assert layout.escape(HOSTILE) == escaped
  assert layout.claims([HOSTILE]) == f'<p class="claim">{escaped}</p>'
  assert layout.note(HOSTILE) == f'<p class="note">{escaped}</p>'
  table = layout.table("t", [HOSTILE], [[HOSTILE], [3]])
  assert f"<tr><th>{escaped}</th></tr>" in table
  assert f"<tr><td>{escaped}</td></tr>\n<tr><td>3</td></tr>" in table
  page = layout.drawn(HOSTILE, ["<p>body</p>"], width="80rem")
  assert f"<title>{escaped}</title>" in page and "<p>body</p>" in page
  assert "max-width: 80rem" in page and page.count("</script>") == 2


def test_a_figure_cannot_end_its_element():
  text = layout.figure("f", go.Figure(layout={"title": {"text": HOSTILE}}))
  (data,) = re.findall(r'data-figure="f">(.*?)</script>', text)
  assert not set(data) & set("<>&")
  assert json.loads(data)["layout"]["title"]["text"] == HOSTILE


def test_a_page_with_its_script(tmp_path):
  (tmp_path / "index.html").write_text("old")
  path = layout.publish(tmp_path, layout.drawn("t", []))
  assert path.read_text().endswith("</html>\n")
  assert sorted(os.listdir(tmp_path)) == ["index.html", "plotly.min.js"]
  assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_page_without_figures_has_no_script():
  page = layout.document("t", ["<p>body</p>"], style=".mine {}")
  assert "<script" not in page and ".mine {}" in page
