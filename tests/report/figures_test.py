import dataclasses
import json

import pytest

from poise_jax.discovery import leaderboard
from poise_jax.report import figures

HOSTILE = '<b onmouseover="x()">%{y}</b><br>'


@pytest.fixture
def standings(campaign, candidates, evaluations):
  return leaderboard.rank(campaign, candidates, evaluations)


def points(figure, *, mode="markers"):
  """All (x, y, hover) of the traces drawn as `mode`."""
  return [
      point
      for trace in figure.data
      if trace.mode == mode
      for point in zip(
          trace.x, trace.y, trace.hovertext or [""] * len(trace.x), strict=True
      )
  ]


def test_tree_has_a_node_a_candidate_in_its_round(candidates, standings):
  figure = figures.evolution_tree(candidates, standings)
  found = {hover.split(" ")[0]: (x, y) for x, y, hover in points(figure)}
  assert {name: x for name, (x, _) in found.items()} == {
      c.name: c.generation for c in candidates
  }
  assert len({y for _, y in found.values()}) >= 5
  better = next(h for _, _, h in points(figure) if h.startswith("better"))
  assert "52.0 [45.2 to 58.8], 2 seeds, budget quick" in better
  assert "better for a reason" in better


def test_tree_tells_scores_roles_and_failures_apart(candidates, standings):
  figure = figures.evolution_tree(candidates, standings)
  scored, failed = (t for t in figure.data if t.mode == "markers")
  assert list(scored.marker.color) == [41.0, 30.0, 52.0, 35.0]
  assert list(scored.marker.symbol) == [
      "square",
      "diamond",
      "circle",
      "circle",
  ]
  assert list(failed.marker.symbol) == [
      "x",
      "triangle-down-open",
      "circle-open",
  ]
  assert failed.marker.color == "#888888"


def test_tree_draws_first_parents_solid_and_others_dotted(
    candidates, standings
):
  figure = figures.evolution_tree(candidates, standings)
  solid, dotted = (t for t in figure.data if t.mode == "lines")
  assert (solid.line.dash, dotted.line.dash) == ("solid", "dot")
  assert len(solid.x) == 3 * 5
  assert list(dotted.x) == [0, 2, None]


def test_frontier_is_the_best_at_each_depth_without_canaries(
    candidates, standings
):
  figure = figures.frontier_by_depth(candidates, standings)
  assert sorted((x, y) for x, y, _ in points(figure)) == [
      (0, 41.0),
      (1, 35.0),
      (1, 52.0),
  ]
  best = points(figure, mode="lines+markers")
  assert [(x, y) for x, y, _ in best] == [(0, 41.0), (1, 52.0)]
  assert figure.data[1].error_y.array[0] == pytest.approx(6.80309, abs=1e-4)


def test_frontier_keeps_the_earlier_of_ties(make, campaign):
  #   0 - 1 - 3       3 also descends from 2; 4 has no score.
  #     \ 2 - 4
  family = [
      make.candidate(index, f"n{index}", above)
      for index, above in enumerate([(), (0,), (0,), (1, 2), (2,)])
  ]
  runs = [make.evaluation(i, 0, x) for i, x in enumerate((5.0, 7.0, 7.0, 1.0))]
  standings = leaderboard.rank(campaign, family, runs)
  figure = figures.frontier_by_depth(family, standings)
  best = points(figure, mode="lines+markers")
  assert [(x, y) for x, y, _ in best] == [(0, 5.0), (1, 7.0), (2, 1.0)]
  assert best[1][2].startswith("n1<br>")


def test_bars_rank_the_scored_with_intervals(standings):
  figure = figures.leaderboard_bars(standings)
  assert list(figure.layout.yaxis.ticktext) == [
      "zero_gradient",
      "worse",
      "root",
      "better",
  ]
  (trace,) = figure.data
  assert list(trace.x) == [30.0, 35.0, 41.0, 52.0]
  assert trace.error_x.array[3] == pytest.approx(6.80309, abs=1e-4)


def test_bars_without_interval(standings):
  alone = dataclasses.replace(standings[0], overall_low=None, overall_high=None)
  (trace,) = figures.leaderboard_bars([alone]).data
  assert list(trace.error_x.array) == [None]
  assert "no interval" in trace.hovertext[0]


def test_curves_are_means_over_seeds(candidates, evaluations):
  figure = figures.training_curves(candidates, evaluations)
  root = [t for t in figure.data if t.legendgroup == "c0ffee-000"]
  # Rewards of the seeds: 0.1, 0.2 and 0.1, 1.2.
  assert list(root[0].y) == pytest.approx([0.1, 0.7])
  assert [list(t.y) for t in root[1:]] == [[1.0, 0.9], [0.0, 0.1], [12.0, 11.0]]
  assert [t.showlegend for t in root] == [True, False, False, False]


def test_curves_show_a_few_and_offer_the_rest(candidates, evaluations):
  few = figures.training_curves(candidates, evaluations)
  visible = {t.legendgroup: t.visible for t in few.data}
  assert visible["c0ffee-003"] is True
  assert visible["c0ffee-005"] == "legendonly"
  chosen = figures.training_curves(
      candidates, evaluations, shown=["c0ffee-005"]
  )
  visible = {t.legendgroup: t.visible for t in chosen.data}
  assert visible["c0ffee-005"] is True
  assert visible["c0ffee-000"] == "legendonly"


def test_curves_that_stop_early_count_while_they_last(candidates, evaluations):
  short = dataclasses.replace(evaluations[1], curve={"reward": [0.3]})
  figure = figures.training_curves(candidates, [evaluations[0], short])
  assert list(figure.data[0].y) == pytest.approx([0.2, 0.2])


def test_text_from_candidates_is_literal_in_plotly(
    make, campaign, candidates, evaluations
):
  hostile = [
      dataclasses.replace(c, name=f"{c.name}{HOSTILE}", rationale=HOSTILE)
      for c in candidates
  ]
  standings = leaderboard.rank(campaign, hostile, evaluations)
  for figure in (
      figures.evolution_tree(hostile, standings),
      figures.frontier_by_depth(hostile, standings),
      figures.leaderboard_bars(standings),
      figures.training_curves(hostile, evaluations),
  ):
    text = figure.to_json().replace("\\u003c", "<").replace("\\u003e", ">")
    assert "<b" not in text.replace("<br>", "")
    assert (
        "template"
        not in {key for trace in json.loads(text)["data"] for key in trace}
        and "hovertemplate" not in text
    )
    assert "&lt;b onmouseover" in text


@pytest.mark.parametrize("count", [0, 1])
def test_campaigns_that_have_hardly_begun(campaign, candidates, count):
  few = candidates[:count]
  standings = leaderboard.rank(campaign, few, [])
  assert not points(figures.frontier_by_depth(few, standings))
  assert len(points(figures.evolution_tree(few, standings))) == count
  assert not figures.training_curves(few, []).data
  assert not figures.leaderboard_bars(standings).data[0].x


def test_a_lineage_of_a_thousand(make, campaign):
  chain = [
      make.candidate(i, f"n{i}", [i - 1] if i else [], generation=i)
      for i in range(1000)
  ]
  standings = leaderboard.rank(campaign, chain, [])
  figure = figures.evolution_tree(chain, standings)
  assert {y for _, y, _ in points(figure)} == {0.0}
