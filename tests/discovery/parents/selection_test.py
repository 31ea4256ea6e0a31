import dataclasses
import json

import numpy as np
import pytest

from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.parents import selection
from poise_jax.discovery.proposer import genome as genomes

SETS = ("h1", "h2", "m", "e1", "e2", "e3")
GREEDY = selection.Weights(
    pareto=0.0, performance=1.0, diversity=0.0, potential=0.0
)


def _node(name, overall, parents=(), seeds=3, **fields):
  sets = fields.pop("set_scores", dict.fromkeys(SETS, float(overall)))
  return selection.Node(
      name, tuple(parents), float(overall), seeds, sets, **fields
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


def _select(nodes, weights=None, count=3, **options):
  return selection.select(
      nodes, count=count, weights=weights or selection.Weights(), **options
  )


def test_one_lucky_seed_does_not_beat_a_measured_score():
  nodes = [
      _node("root", 55),
      _node("lucky", 62, ["root"], seeds=1),
      _node("solid", 61, ["root"], seeds=8),
      _node("other", 54, ["root"]),
  ]
  noisy = dataclasses.replace(GREEDY, noise_variance=9.0)
  assert _select(nodes, noisy, 1).parents == ("solid",)
  sure = dataclasses.replace(GREEDY, noise_variance=0.0)
  assert _select(nodes, sure, 1).parents == ("lucky",)


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
  assert _select(nodes, free, 2).parents == ("aa", "ab")
  assert _select(nodes, spread, 2).parents == ("aa", "b")


def test_every_term_of_every_node_is_logged():
  nodes = _tree()
  chosen = _select(nodes, rng=np.random.default_rng(5))
  assert len(set(chosen.parents)) == 3
  assert set(chosen.terms) == {n.id for n in nodes}
  logged = json.loads(json.dumps(chosen.terms, allow_nan=False))
  always = {
      *("raw", "shrunken", "violation", "pareto", "performance", "diversity"),
      *("potential", "potential_counts", "gp_mean", "gp_sd", "score"),
      *("propensity_1", "propensity_2", "propensity_3"),
  }
  for terms in logged.values():
    assert set(terms) - {"descendant_gain", "gain_noise"} == always
  parents = {p for n in nodes for p in n.parents}
  labelled = {i for i, t in chosen.terms.items() if "descendant_gain" in t}
  assert parents == labelled
  assert labelled == {i for i, t in chosen.terms.items() if "gain_noise" in t}


def test_log_says_by_what_rule_and_with_what_weights():
  log = _select(_tree(), rng=np.random.default_rng(5)).log
  assert json.loads(json.dumps(log, allow_nan=False)) == log
  assert log["rule"] == "epistemic" and log["by_lot"]
  assert log["weights"] == dataclasses.asdict(selection.Weights())
  assert objectives.from_json(log["objective"]) == objectives.DEFAULT
  assert log["gp_weight"] == (0.3 if log["gp"]["trusted"] else 0.0)
  assert log["gp"]["labels"] > 0
  certain = _select(_tree(), selection.Weights(gp_margin=-1e9)).log
  assert certain["gp_weight"] == 0.3 and not certain["by_lot"]


def test_first_odds_do_not_depend_on_the_lot():
  nodes = _tree(count=6)
  drawn = [
      _select(nodes, count=1, rng=np.random.default_rng(seed))
      for seed in range(8)
  ]
  odds = drawn[0].propensities[0]
  assert all(chosen.propensities[0] == odds for chosen in drawn)
  assert sum(odds.values()) == pytest.approx(1.0)
  # Each node keeps its part of the uniform share.
  assert min(odds.values()) >= 0.05 / 6


def test_later_draws_have_odds_given_the_earlier():
  chosen = _select(_tree(), rng=np.random.default_rng(2))
  first, second, third = chosen.parents
  one, two, three = chosen.propensities
  assert 0 < one[first] and two[first] == three[first] == 0.0
  assert three[second] == 0.0 and three[third] > 0


def test_choice_is_a_function_of_its_inputs():
  draw = lambda seed: _select(_tree(), rng=np.random.default_rng([seed, 1]))
  assert draw(3) == draw(3)
  assert len({draw(seed).parents for seed in range(4)}) > 1
  assert _select(_tree()) == _select(_tree())


def test_without_a_generator_the_best_is_taken_for_certain():
  chosen = _select(_tree(), selection.Weights(branch_penalty=0.0))
  scores = {i: t["score"] for i, t in chosen.terms.items()}
  assert [*chosen.parents] == sorted(scores, key=lambda i: -scores[i])[:3]
  assert [max(p.values()) for p in chosen.propensities] == [1.0] * 3


def test_root_alone_is_returned_once():
  chosen = _select([_node("root", 50)], rng=np.random.default_rng(0))
  assert chosen.parents == ("root",)
  assert chosen.propensities == ({"root": 1.0},)


def test_a_parent_that_was_left_out_starts_a_branch():
  nodes = [_node("root", 50), _node("x", 51, ["diverged"])]
  assert set(_select(nodes, count=2).parents) == {"root", "x"}


def test_select_refuses_nothing_to_choose():
  with pytest.raises(ValueError, match="`nodes` must not be empty"):
    _select([])
  with pytest.raises(ValueError, match="`count` at least 1"):
    _select([_node("r", 1)], count=0)
