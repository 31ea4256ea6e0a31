"""The page of a sweep: whole, escaped, drawn."""

import importlib.util
import json
import pathlib
import re

import pytest

from poise_jax.report import sweep

_PATH = pathlib.Path(__file__).with_name("sweep_text_test.py")
_SPEC = importlib.util.spec_from_file_location("sweep_text_rows", _PATH)
_rows = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_rows)
table = _rows.table  # the same table, as a fixture


def test_a_page_with_its_script(table, tmp_path):
  path = sweep.write(table, {"command": "x"}, "A <sweep>", tmp_path / "out")
  text = path.read_text()
  assert (path.parent / "plotly.min.js").is_file()
  assert text.endswith("</html>\n") and "A &lt;sweep&gt;" in text
  # The script of the page is the only one without data.
  assert "<b>" not in text and "&lt;b&gt;down|" in text
  data = re.findall(r'data-figure="(\w+)">(.*?)</script>', text)
  assert [name for name, _ in data] == ["differences", "scores", "sets"]
  for _, figure in data:
    assert json.loads(figure)["data"]


def test_differences_have_their_intervals(table):
  (points,) = sweep.differences(table).data
  assert list(points.x) == [-11.0, 1.0, 9.0]
  assert list(points.error_x.array) == [1.0, 1.0, 1.0]
  assert points.y[0] == "&lt;b&gt;down|"


def test_scores_show_every_seed(table):
  seeds, means = sweep.scores(table).data
  assert len(seeds.x) == 2 * len(means.x) == 10
  assert list(means.x) == [40.0, 51.0, 51.0, 52.0, 60.0]


def test_sets_are_shares_of_hundred(table):
  (grid,) = sweep.sets(table).data
  assert len(grid.y) == 5
  assert 50.0 in list(grid.z[0])


def test_nothing_scored_is_a_page_too(table):
  empty = table.__class__(table.rows[5:6], "gone", 0, True)
  assert sweep.render(empty, {}, "t").count("data-figure") == 4


@pytest.mark.parametrize("draw", [sweep.differences, sweep.scores, sweep.sets])
def test_figures_are_as_tall_as_their_rows(table, draw):
  assert 120 < draw(table).layout.height < 300
