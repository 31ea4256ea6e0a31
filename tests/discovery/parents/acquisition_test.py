import math

import numpy as np
import pytest

from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.parents import acquisition
from poise_jax.discovery.parents import nodes as nodes_lib

SETS = ("pass_at_k/a", "accuracy/b", "accuracy/c")


def _node(name, overall, parents=(), seeds=3, **fields):
  sets = fields.pop("set_scores", dict.fromkeys(SETS, float(overall)))
  return nodes_lib.Node(
      name, tuple(parents), float(overall), seeds, sets, **fields
  )


def test_performance_by_hand():
  # 0..10: 10th percentile 1, so 5 lies at 1 - 5/9, and 0 is cut to 0.
  values = acquisition.performance(np.arange(11.0))
  assert values[5] == pytest.approx(4 / 9)
  assert values[0] == values[1] == 0 and values[10] == 1


def test_performance_does_not_stretch_noise():
  values = acquisition.performance(np.asarray([50.0, 50.1]), min_range=2.0)
  np.testing.assert_allclose(values, [0.95, 1.0])
  same = acquisition.performance(np.asarray([7.0, 7.0]))
  assert same.tolist() == [1.0, 1.0]


def test_diversity_by_hand():
  place = np.asarray([0.0, 0.1, 0.2, 0.4, 1.0])
  values = acquisition.diversity(
      np.abs(place[:, None] - place), [0, 1, 0, 0, 0], neighbours=3
  )
  assert values[0] == pytest.approx((0.1 + 0.2 + 0.4) / 3)
  assert values[1] == pytest.approx((0.1 + 0.1 + 0.3) / 3 / 2)
  assert values[4] == pytest.approx((0.6 + 0.8 + 0.9) / 3)
  alone = acquisition.diversity(np.zeros((1, 1)), [0], neighbours=3)
  assert alone.tolist() == [0.0]
  pair = acquisition.diversity(
      np.asarray([[0, 0.5], [0.5, 0]]), [0, 0], neighbours=3
  )
  assert pair.tolist() == [0.5, 0.5]


def test_gains_pass_through_what_has_no_score():
  weights = acquisition.Weights()
  parents = {"r": (), "broken": ("r",), "c": ("broken",), "d": ("r",)}
  scores, variances = {"r": 50.0, "c": 55.0, "d": 45.0}, {}
  variances = dict.fromkeys(scores, 0.0)
  got = acquisition.gains(parents, scores, variances, weights)
  assert set(got) == {"r"}
  far, near = 0.85**2 * math.tanh(2.0), 0.85 * math.tanh(-2.0)
  assert got["r"].value == pytest.approx((far + near) / 2)


def test_gain_is_of_posterior_means():
  nodes = [_node("r", 50, seeds=1), _node("c", 60, ["r"], seeds=1)]
  sure = acquisition.Weights(noise_variance=0.0)
  terms = acquisition.tabulate(nodes, sure)[0].terms
  assert terms["descendant_gain"][0] == pytest.approx(0.85 * math.tanh(4.0))
  assert math.isnan(terms["descendant_gain"][1])
  noisy = acquisition.Weights(noise_variance=16.0)
  shrunk = acquisition.tabulate(nodes, noisy)[0].terms
  gap = float(np.diff(shrunk["shrunken"])[0])
  assert 0 < gap < 10
  assert shrunk["descendant_gain"][0] == pytest.approx(
      0.85 * math.tanh(gap / 2.5)
  )
  assert shrunk["gain_noise"][0] > terms["gain_noise"][0]


def _grown(seed, predictable, count=48):
  """A tree whose children gain by their parent's entropy, or by chance."""
  rng = np.random.default_rng(seed)
  true, promise, nodes = [], [], []
  for i in range(count):
    parent = int(rng.integers(i)) if i else None
    if parent is None:
      true.append(50.0)
    elif predictable:
      true.append(true[parent] + rng.normal(-3 + 6 * promise[parent], 1.0))
    else:
      true.append(true[parent] + rng.normal(-0.5, 2.0))
    promise.append(float(rng.random()))
    seen = true[i] + rng.normal(0, 0.7)
    nodes.append(
        _node(
            f"c-{i:03d}",
            seen,
            () if parent is None else (f"c-{parent:03d}",),
            seeds=2,
            set_scores={s: float(seen + rng.normal(0, 2)) for s in SETS},
            features={"entropy": promise[i], "kl": float(rng.random())},
        )
    )
  return nodes


def _share_trusted(predictable, seeds=range(16)):
  weights = acquisition.Weights(noise_variance=1.0)
  kept = [
      acquisition.tabulate(
          _grown(seed, predictable), weights, distance=lambda a, b: 0.5
      )[1].trusted
      for seed in seeds
  ]
  return float(np.mean(kept))


def test_process_counts_where_gain_can_be_told_and_not_where_it_is_chance():
  assert _share_trusted(True) >= 0.5
  assert _share_trusted(False) <= 0.25


def test_score_adds_up_and_the_process_counts_only_when_trusted():
  weights = acquisition.Weights(noise_variance=1.0)
  for seed, predictable in ((0, True), (1, False)):
    table, verdict = acquisition.tabulate(_grown(seed, predictable), weights)
    own = {name: values[7] for name, values in table.terms.items()}
    assert own["potential_counts"] == float(verdict.trusted)
    expected = (
        0.25 * own["pareto"]
        + 0.30 * own["performance"]
        + 0.15 * own["diversity"]
        + 0.30 * own["potential"] * verdict.trusted
    )
    assert own["score"] == pytest.approx(expected)


def test_terms_lie_in_the_unit_interval():
  table, _ = acquisition.tabulate(_grown(3, True), acquisition.Weights())
  for name in ("pareto", "performance", "diversity", "potential"):
    assert 0 <= table.terms[name].min() <= table.terms[name].max() <= 1
  assert table.terms["potential"].min() == 0
  assert table.terms["potential"].max() == 1


def test_objective_decides_what_is_good():
  nodes = [
      _node("r", 50, features={"response_length": 100.0}),
      _node("long", 56, ["r"], features={"response_length": 160.0}),
      _node("short", 50, ["r"], features={"response_length": 60.0}),
      _node("lost", 40, ["r"], features={"response_length": 10.0}),
  ]
  weights = acquisition.Weights(noise_variance=0.01)
  best = lambda objective: int(
      np.argmax(
          acquisition.tabulate(nodes, weights, objective=objective)[0].terms[
              "performance"
          ]
      )
  )
  shorter = objectives.Term("response_length", "min")
  keep = objectives.Constraint("overall", ">=", 0.98, True)
  assert best(objectives.DEFAULT) == 1
  assert best(objectives.Objective((shorter,))) == 3
  assert best(objectives.Objective((shorter,), (keep,))) == 2


def test_root_alone():
  table, verdict = acquisition.tabulate(
      [_node("root", 50)], acquisition.Weights()
  )
  assert table.ids == ("root",) and table.branches == ("root",)
  assert table.terms["performance"].tolist() == [1.0]
  assert table.terms["gp_sd"].tolist() == [0.5]
  assert not verdict.trusted
