import numpy as np
import pytest

from poise_jax.discovery.parents import nodes as nodes_lib
from poise_jax.discovery.parents import posterior, references
from poise_jax.discovery.proposer import genome as genomes

#       r 50 - a 60 - aa 58
#            \ b 57 - ba 40      d 59 (of r)
SCORES = {"r": 50, "a": 60, "aa": 58, "b": 57, "ba": 40, "d": 59}
PARENTS = {"a": "r", "aa": "a", "b": "r", "ba": "b", "d": "r"}
PLACE = {"r": 0.1, "a": 0.0, "aa": 0.2, "b": 0.7, "ba": 1.0, "d": 0.3}


def _nodes():
  return [
      nodes_lib.Node(
          name,
          (PARENTS[name],) if name in PARENTS else (),
          float(score),
          3,
          # `b` is best on the second set, `a` on the first.
          {"x": float(score), "y": 90.0 if name == "b" else float(score)},
      )
      for name, score in SCORES.items()
  ]


def _distance(a, b):
  return abs(PLACE[a.id] - PLACE[b.id])


def _choose(parent, seed=0, **sizes):
  nodes = _nodes()
  return references.choose(
      nodes,
      parent,
      posterior.of(nodes, 0.0),
      np.random.default_rng(seed),
      sizes=references.Sizes(**sizes),
      distance=_distance,
  )


def test_tiers_by_hand():
  chosen = _choose("a", pareto=2, complementary=1, exploratory=1)
  # On the front: a and b. The better half beside a: d, aa, b; b is taken, so d
  # is the one most unlike a. Left outside the line of a (r, aa): ba.
  assert [(c.id, c.tier) for c in chosen] == [
      ("b", "pareto"),
      ("d", "complementary"),
      ("ba", "exploratory"),
  ]
  assert [c.contrast for c in chosen] == pytest.approx([0.7, 0.3, 1.0])


def test_the_front_is_shown_best_first_and_without_the_parent():
  chosen = _choose("r", pareto=2, complementary=0, exploratory=0)
  assert [c.id for c in chosen] == ["a", "b"]


def test_a_collapsed_candidate_is_no_complement():
  chosen = _choose("a", pareto=0, complementary=9, exploratory=0)
  assert [c.id for c in chosen] == ["b", "d", "aa"]


def test_exploratory_is_by_lot_from_outside_the_line():
  seen = {
      _choose("aa", seed, pareto=0, complementary=0, exploratory=1)[0].id
      for seed in range(30)
  }
  assert seen == {"b", "ba", "d"}
  assert _choose("aa", 4) == _choose("aa", 4)


def test_none_is_shown_twice_and_a_tier_may_run_out():
  chosen = _choose("b", pareto=9, complementary=9, exploratory=9)
  assert len({c.id for c in chosen}) == len(chosen)
  assert "b" not in {c.id for c in chosen}
  assert _choose("r", pareto=0, complementary=0, exploratory=9) == ()


def test_contrast_joins_gradients_and_mechanisms():
  one, other = (
      nodes_lib.Node(n, (), 1.0, 1, {}, genome=genomes.named(n))
      for n in ("grpo", "vm_av_grpo")
  )
  apart = genomes.distance(one.genome, other.genome)
  got = references.contrast(one, other, lambda a, b: 1.0)
  assert got == pytest.approx((1 + apart) / 2)
  bare = nodes_lib.Node("x", (), 1.0, 1, {})
  assert references.contrast(one, bare, lambda a, b: 0.3) == 0.3


def test_unknown_parent():
  with pytest.raises(ValueError, match="`parent` must be one of"):
    _choose("zz")
