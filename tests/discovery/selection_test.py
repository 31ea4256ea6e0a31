import dataclasses
import json
import math

import numpy as np
import pytest

from poise_jax.candidates import fingerprint
from poise_jax.discovery import genome as genomes
from poise_jax.discovery import selection

SETS = ("h1", "h2", "m", "e1", "e2", "e3")
GREEDY = selection.Weights(
    pareto=0.0, performance=1.0, diversity=0.0, potential=0.0
)


def _node(name, overall, parents=(), seeds=3, **fields):
  sets = fields.pop("set_scores", dict.fromkeys(SETS, float(overall)))
  return selection.Node(
      name, tuple(parents), float(overall), seeds, sets, **fields
  )


def _print(*slopes, suite="s"):
  """A fingerprint on one probe, of one prompt, completion and token."""
  values = np.asarray(slopes, np.float32).reshape(1, 2, 1, 1, 1)
  return fingerprint.Fingerprint(suite, ("a",), values)


def test_distance_is_of_what_losses_do():
  up = _node("a", 1, fingerprint=_print(1.0, 0.0))
  longer = _node("b", 1, fingerprint=_print(3.0, 0.0))
  down = _node("c", 1, fingerprint=_print(-1.0, 0.0))
  assert selection.distance(up, longer) == pytest.approx(0.0)
  assert selection.distance(up, down) == 1.0
  # |(1, -1)| over |(1, 0)| + |(0, 1)|.
  aside = _node("d", 1, fingerprint=_print(0.0, 1.0))
  assert selection.distance(up, aside) == pytest.approx(2**0.5 / 2)


def test_distance_is_of_descriptions_where_nothing_was_measured():
  first, second = genomes.named("grpo"), genomes.named("dapo")
  one = _node("a", 1, genome=first, fingerprint=_print(1.0, 0.0))
  for other in (None, _print(1.0, 0.0, suite="other")):
    two = _node("b", 1, genome=second, fingerprint=other)
    assert selection.distance(one, two) == genomes.distance(first, second)
  bare = _node("c", 1)
  assert selection.distance(one, bare) == 1.0
  assert selection.distance(bare, _node("d", 1)) == 0.0


def test_shrinkage_by_hand():
  # 10th percentile of (50, 60) is 51: mean 55.5, variance 4.5² = 20.25.
  # Own variances 4/1 and 4/4, between 20.25 - 2.5 = 17.75.
  centre, factors = selection.shrinkage(np.asarray([50.0, 60.0]), [1, 4], 4.0)
  assert centre == pytest.approx(55.5)
  np.testing.assert_allclose(factors, [17.75 / 21.75, 17.75 / 18.75])


def test_shrinkage_without_noise_or_without_spread():
  _, factors = selection.shrinkage(np.asarray([50.0, 60.0]), [1, 4], 0.0)
  np.testing.assert_allclose(factors, 1.0)
  centre, factors = selection.shrinkage(np.asarray([50.0, 50.0]), [1, 1], 4.0)
  assert centre == 50
  np.testing.assert_allclose(factors, 0.04 / 4.04)


def test_performance_by_hand():
  # 0..10: 10th percentile 1, so 5 lies at 1 - 5/9, and 0 is cut to 0.
  values = selection.performance(np.arange(11.0))
  assert values[5] == pytest.approx(4 / 9)
  assert values[0] == values[1] == 0 and values[10] == 1


def test_performance_does_not_stretch_noise():
  values = selection.performance(np.asarray([50.0, 50.1]), min_range=2.0)
  np.testing.assert_allclose(values, [0.95, 1.0])
  assert selection.performance(np.asarray([7.0, 7.0])).tolist() == [1.0, 1.0]


def test_pareto_by_hand():
  # (2,2) and (1,3) dominate (1,1) and (0,1); (1,1) dominates (0,1).
  scores = np.asarray([[2.0, 2], [1, 3], [1, 1], [0, 1]])
  expected = [1 / 2 + 1 / 3, 1 / 2 + 1 / 3, 1 / 3 + 1 / 18, 1 / 4]
  np.testing.assert_allclose(selection.pareto(scores), expected)


def test_pareto_of_equal_nodes_and_of_one():
  np.testing.assert_allclose(selection.pareto(np.ones((3, 2))), 0.5)
  np.testing.assert_allclose(selection.pareto(np.ones((1, 2))), 0.5)


def test_diversity_by_hand():
  nodes = [_node(n, 50) for n in "abcde"]
  place = dict(a=0.0, b=0.1, c=0.2, d=0.4, e=1.0)
  values = selection.diversity(
      nodes,
      dict(a=0, b=1, c=0, d=0, e=0),
      distance=lambda x, y: abs(place[x.id] - place[y.id]),
      neighbours=3,
  )
  assert values[0] == pytest.approx((0.1 + 0.2 + 0.4) / 3)
  assert values[1] == pytest.approx((0.1 + 0.1 + 0.3) / 3 / 2)
  assert values[4] == pytest.approx((0.6 + 0.8 + 0.9) / 3)


def test_one_lucky_seed_does_not_beat_a_measured_score():
  nodes = [
      _node("root", 55),
      _node("lucky", 62, ["root"], seeds=1),
      _node("solid", 61, ["root"], seeds=8),
      _node("other", 54, ["root"]),
  ]
  noisy = dataclasses.replace(GREEDY, noise_variance=9.0)
  assert selection.select(nodes, count=1, weights=noisy).parents == ("solid",)
  sure = dataclasses.replace(GREEDY, noise_variance=0.0)
  assert selection.select(nodes, count=1, weights=sure).parents == ("lucky",)


def test_branch_penalty_spreads_the_choice():
  nodes = [
      _node("root", 40),
      _node("a", 50, ["root"]),
      _node("aa", 60, ["a"]),
      _node("ab", 59, ["a"]),
      _node("b", 58, ["root"]),
  ]
  free = dataclasses.replace(GREEDY, branch_penalty=0.0)
  spread = dataclasses.replace(GREEDY, branch_penalty=0.3)
  assert selection.select(nodes, count=2, weights=free).parents == ("aa", "ab")
  assert selection.select(nodes, count=2, weights=spread).parents == (
      "aa",
      "b",
  )


def _tree(seed=0, count=24):
  rng = np.random.default_rng(seed)
  nodes = [_node("c-000", 50.0, genome=genomes.named("grpo"))]
  known = [genomes.named(n) for n in ("dapo", "rloo", "dr_grpo", "bn_grpo")]
  for index in range(1, count):
    parents = {f"c-{rng.integers(index):03d}" for _ in range(2)}
    scores = {s: float(rng.normal(50, 8)) for s in SETS}
    nodes.append(
        _node(
            f"c-{index:03d}",
            np.mean(list(scores.values())),
            sorted(parents)[: 1 + index % 2],
            seeds=1 + index % 3,
            set_scores=scores,
            genome=known[index % 5] if index % 5 < 4 else None,
            features={"entropy": float(rng.random())} if index % 4 else {},
        )
    )
  return nodes


def test_every_term_of_every_node_is_logged_and_adds_up():
  nodes = _tree()
  weights = selection.Weights()
  chosen = selection.select(nodes, count=3, weights=weights)
  assert len(set(chosen.parents)) == 3
  assert set(chosen.terms) == {n.id for n in nodes}
  text = json.dumps(chosen.terms, allow_nan=False)
  for terms in json.loads(text).values():
    total = (
        0.25 * terms["pareto"]
        + 0.30 * terms["performance"]
        + 0.15 * terms["diversity"]
        + 0.30 * terms["potential"]
    )
    assert terms["score"] == pytest.approx(total)
    for name in ("pareto", "performance", "diversity", "potential"):
      assert 0 <= terms[name] <= 1
  potentials = [t["potential"] for t in chosen.terms.values()]
  assert min(potentials) == 0 and max(potentials) == 1
  parents = {p for n in nodes for p in n.parents}
  assert parents == {
      i for i, t in chosen.terms.items() if "descendant_gain" in t
  }
  assert chosen.parents[0] == max(
      chosen.terms, key=lambda i: chosen.terms[i]["score"]
  )


def test_select_is_deterministic():
  first = selection.select(_tree(), count=3, weights=selection.Weights())
  assert first == selection.select(
      _tree(), count=3, weights=selection.Weights()
  )


def test_descendant_gain_is_computed_on_shrunken_scores():
  nodes = [_node("r", 50, seeds=1), _node("c", 60, ["r"], seeds=1)]
  weights = selection.Weights(noise_variance=0.0)
  terms = selection.select(nodes, count=1, weights=weights).terms
  assert terms["r"]["descendant_gain"] == pytest.approx(0.85 * math.tanh(4.0))
  assert "descendant_gain" not in terms["c"]
  noisy = selection.Weights(noise_variance=16.0)
  shrunk = selection.select(nodes, count=1, weights=noisy).terms
  gap = shrunk["c"]["shrunken"] - shrunk["r"]["shrunken"]
  assert 0 < gap < 10
  assert shrunk["r"]["descendant_gain"] == pytest.approx(
      0.85 * math.tanh(gap / 2.5)
  )


def test_root_alone_is_returned_once():
  chosen = selection.select(
      [_node("root", 50)], count=3, weights=selection.Weights()
  )
  assert chosen.parents == ("root",)
  assert chosen.terms["root"]["performance"] == 1


def test_a_parent_that_was_left_out_starts_a_branch():
  nodes = [_node("root", 50), _node("x", 51, ["diverged"])]
  chosen = selection.select(nodes, count=2, weights=selection.Weights())
  assert set(chosen.parents) == {"root", "x"}


def test_select_refuses_nothing_to_choose():
  with pytest.raises(ValueError, match="`nodes` must not be empty"):
    selection.select([], count=1, weights=selection.Weights())
  with pytest.raises(ValueError, match="`count` at least 1"):
    selection.select([_node("r", 1)], count=0, weights=selection.Weights())
