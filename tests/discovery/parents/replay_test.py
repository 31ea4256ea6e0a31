import dataclasses
import datetime
import math

import numpy as np
import pytest

from poise_jax.archive import records
from poise_jax.discovery.parents import (
    acquisition,
    nodes,
    policies,
    replay,
    selection,
)

WEIGHTS = acquisition.Weights(
    pareto=0.0, performance=1.0, diversity=0.0, uniform_share=0.2
)
UP, DOWN = 0.85 * math.tanh(2.0), 0.85 * math.tanh(-2.0)


def _choice(generation, names, performance, chosen, odds):
  zero = np.zeros(len(names))
  columns = dict.fromkeys(
      ("pareto", "diversity", "potential", "potential_counts"), zero
  )
  columns["performance"] = np.asarray(performance, float)
  columns["shrunken"] = columns["performance"]
  table = acquisition.Table(tuple(names), tuple(names), 0, columns)
  return replay.Round(generation, table, tuple(chosen), np.asarray(odds, float))


def _grown(edges, scores):
  """Edges: child -> (parents, generation); others are of generation 0."""
  names = dict.fromkeys([*scores, *edges])
  return replay.Grown(
      {n: edges[n][0] if n in edges else () for n in names},
      {n: edges[n][1] if n in edges else 0 for n in names},
      scores,
      dict.fromkeys(scores, 0.0),
  )


#  a 50 - a1 55 (round 1) - a11 60 (round 2)     a - a2 45 (round 2)
#  b 50 - b1 unscored (round 1)                  c 50, never built on
GROWN = _grown(
    {
        "a1": (("a",), 1),
        "a11": (("a1",), 2),
        "a2": (("a", "b"), 2),
        "b1": (("b",), 1),
    },
    {"a": 50.0, "b": 50.0, "c": 50.0, "a1": 55.0, "a11": 60.0, "a2": 45.0},
)
FIRST = _choice(1, "abc", [1, 0.5, 0], [0, 1, 2], np.full((3, 3), 1 / 3))
SECOND = _choice(2, "abc", [1, 0.5, 0], [0], [[0.5, 0.25, 0.25]])


def test_outcomes_count_what_the_draw_itself_made():
  # Of a in round 1: a1 and a11, not a2. b1 has no score, c made nothing.
  top = (0.85**2 * math.tanh(4.0) + UP) / 2
  assert replay.outcomes(FIRST, GROWN, WEIGHTS) == [
      pytest.approx(top),
      0.0,
      None,
  ]
  assert replay.outcomes(SECOND, GROWN, WEIGHTS) == [pytest.approx(DOWN)]


def test_prospects_count_all_that_was_made_from_then_on():
  first = replay.prospects(FIRST, GROWN, WEIGHTS)
  assert set(first) == {0, 1}
  whole = (0.85**2 * math.tanh(4.0) + UP + DOWN) / 3
  assert first[0].value == pytest.approx(whole)
  # b is the second parent of a2.
  assert first[1].value == pytest.approx(DOWN)
  second = replay.prospects(SECOND, GROWN, WEIGHTS)
  assert second[0].value == pytest.approx(DOWN)


def test_gains_over_an_origin():
  # Over b and its 50 as over a itself; of b1, unscored, nothing is known.
  first = replay.outcomes(FIRST, GROWN, WEIGHTS, "a1")
  own, apart = 0.85 * math.tanh(0.0), 0.85**2 * math.tanh(2.0)
  assert first == [pytest.approx((apart + own) / 2), 0.0, None]
  over = replay.prospects(SECOND, GROWN, WEIGHTS, "a1")
  assert over[0].value == pytest.approx(0.85 * math.tanh(-4.0))
  # A child of a poor node that merely recovers is no gain over a good one.
  grown = _grown({"b1": (("b",), 1)}, {"a": 50.0, "b": 40.0, "b1": 45.0})
  choices = [_choice(1, "ab", [1, 0], [1], [[0.5, 0.5]])]
  gain = lambda estimate, *origin: estimate(
      choices,
      grown,
      policies.greedy,
      WEIGHTS,
      np.random.default_rng(0),
      *origin,
  ).value.mean
  for estimate in (replay.importance, replay.hindsight):
    assert gain(estimate) == pytest.approx(UP)
    assert gain(estimate, "a") == pytest.approx(DOWN)


def test_importance_by_hand():
  # Uniform logged (.5, .5): a drawn and up, then b drawn and down. Greedy has
  # .9 on a: weights 1.8 and .2, so (1.8 - .2) UP / 2 against 0.
  edges = {"a1": (("a",), 1), "b1": (("b",), 2)}
  grown = _grown(edges, {"a": 50.0, "b": 50.0, "a1": 55.0, "b1": 45.0})
  choices = [
      _choice(1, "ab", [1, 0], [0], [[0.5, 0.5]]),
      _choice(2, "ab", [1, 0], [1], [[0.5, 0.5]]),
  ]
  got = replay.importance(
      choices, grown, policies.greedy, WEIGHTS, np.random.default_rng(0)
  )
  assert got.value.mean == pytest.approx(0.8 * UP)
  assert got.logged.mean == pytest.approx(0.0)
  assert got.regret.mean == pytest.approx(0.8 * UP)
  assert got.support == pytest.approx(4 / (1.8**2 + 0.2**2))
  # The same rule has weights of 1.
  same = replay.importance(
      choices, grown, policies.uniform, WEIGHTS, np.random.default_rng(0)
  )
  assert same.regret.mean == same.regret.low == same.regret.high == 0.0
  assert same.support == pytest.approx(2.0)


def test_hindsight_by_hand():
  edges = {"a1": (("a",), 1), "b1": (("b",), 2)}
  grown = _grown(
      edges, {"a": 50.0, "b": 50.0, "c": 50.0, "a1": 55.0, "b1": 45.0}
  )
  choices = [_choice(1, "abc", [1, 0, 0], [0], [[1 / 3] * 3])]
  # Odds of greedy: .8 + .2/3 on a, .2/3 on b; c is not covered.
  got = replay.hindsight(
      choices, grown, policies.greedy, WEIGHTS, np.random.default_rng(0)
  )
  a, b = 0.8 + 0.2 / 3, 0.2 / 3
  assert got.value.mean == pytest.approx((a * UP + b * DOWN) / (a + b))
  assert got.logged.mean == pytest.approx(0.0)
  assert got.support == pytest.approx(a + b)


def test_a_rule_without_overlap_has_no_estimate():
  grown = _grown({"b1": (("b",), 1)}, {"a": 50.0, "b": 50.0, "b1": 55.0})
  choices = [_choice(1, "ab", [1, 0], [1], [[0.5, 0.5]])]
  args = (choices, grown, policies.best_of_n, WEIGHTS)
  assert replay.importance(*args, np.random.default_rng(0)) is None
  assert replay.hindsight(*args, np.random.default_rng(0)) is None


def _campaign(seed, count=100):
  """Rounds of one draw from four; the last is twice as likely to gain."""
  rng = np.random.default_rng(seed)
  edges, scores, choices = {}, {}, []
  for t in range(1, count + 1):
    names = [f"{t}-{i}" for i in range(4)]
    scores |= dict.fromkeys(names, 50.0)
    pick = int(rng.integers(4))
    gains = rng.random() < (0.8 if pick == 3 else 0.4)
    edges[f"{t}-child"] = ((names[pick],), t)
    scores[f"{t}-child"] = 55.0 if gains else 45.0
    choices.append(_choice(t, names, [0, 0, 0, 1], [pick], [[0.25] * 4]))
  return choices, _grown(edges, scores)


def test_importance_finds_the_value_of_a_rule_that_was_not_run():
  # Greedy takes the last with .8 + .05: .85 (.6 UP) + .15 (-.2 UP).
  truth, flat = (0.85 * 0.6 - 0.15 * 0.2) * UP, 0.0
  estimates, covered = [], 0
  for seed in range(8):
    choices, grown = _campaign(seed)
    got = replay.importance(
        choices, grown, policies.greedy, WEIGHTS, np.random.default_rng(seed)
    )
    estimates.append((got.value.mean, got.logged.mean))
    covered += got.value.low <= truth <= got.value.high
    assert got.regret.mean > 0
  value, logged = np.mean(estimates, axis=0)
  assert value == pytest.approx(truth, abs=0.08)
  assert logged == pytest.approx(flat, abs=0.08)
  assert covered >= 6


def test_rounds_are_read_back_as_they_were_drawn():
  nodes_ = [
      nodes.Node("c0", (), 50.0, 2, {"x": 1.0}),
      nodes.Node("c1", ("c0",), 52.0, 2, {"x": 1.2}),
      nodes.Node("c2", ("c1",), 47.0, 2, {"x": 0.5}),
  ]
  weights = selection.Weights()
  drawn = selection.select(
      nodes_, count=2, weights=weights, rng=np.random.default_rng(0)
  )
  time = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
  stored = records.Selection("c", 1, drawn.parents, drawn.terms, time)
  [choice] = replay.rounds([stored], nodes.parents(nodes_))
  assert choice.table.ids == ("c0", "c1", "c2")
  assert choice.table.branches == ("c0", "c1", "c1")
  assert choice.table.root == 0
  assert tuple(choice.table.ids[i] for i in choice.chosen) == drawn.parents
  # The rule that drew them has the odds that were logged.
  for i, odds in enumerate(choice.odds):
    again = policies.epistemic(choice.table, weights, choice.chosen[:i])
    np.testing.assert_allclose(again, odds)


def test_branches_are_those_of_the_tree_that_was_drawn_from():
  # b has no score, so c starts a branch of its own, as it did in the draw.
  terms = {i: {"propensity_1": 1.0, "shrunken": 0.0} for i in "acd"}
  time = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
  stored = records.Selection("c", 1, ("a",), terms, time)
  above = {"a": (), "b": ("a",), "c": ("b",), "d": ("c",)}
  [choice] = replay.rounds([stored], above)
  assert choice.table.branches == ("a", "c", "c")


def test_hindsight_needs_what_the_logged_rule_might_have_drawn():
  grown = _grown({"a1": (("a",), 2)}, {"a": 50.0, "b": 50.0, "a1": 55.0})
  choices = [_choice(1, "ab", [1, 0], [1], [[0.0, 1.0]])]
  args = (choices, grown, policies.greedy, WEIGHTS)
  assert replay.hindsight(*args, np.random.default_rng(0)) is None


def test_selections_without_propensities_cannot_be_replayed():
  time = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
  old = records.Selection("c", 3, ("a",), {"a": {"score": 1.0}}, time)
  with pytest.raises(ValueError, match="round 3 has only"):
    replay.rounds([old], {"a": ()})


def test_alternatives_differ_from_the_rule_in_one_thing():
  found = replay.alternatives(acquisition.Weights())
  assert set(policies.POLICIES) < set(found)
  policy, weights = found["without_diversity"]
  assert policy is policies.epistemic
  assert weights == dataclasses.replace(acquisition.Weights(), diversity=0.0)
  assert found["pareto_alone"][1].pareto == 1.0
  assert found["pareto_alone"][1].performance == 0.0


def test_trusting_hears_the_process_even_where_it_did_not_count():
  choice = _choice(1, "ab", [0, 0], [0], [[0.5, 0.5]])
  choice.table.terms["potential"] = np.asarray([0.0, 1.0])
  cautious = policies.epistemic(choice.table, WEIGHTS, ())
  assert cautious.tolist() == [0.5, 0.5]
  assert replay.trusting(choice.table, WEIGHTS, ())[1] > 0.8
