import numpy as np
import pytest

from poise_jax.discovery.parents import nodes, policies, rules, selection


def _nodes():
  scores = [50, 40, 60, 55, 58, 45]
  parents = [(), (0,), (0,), (1,), (2,), (2,)]
  return [
      nodes.Node(
          f"c{i}",
          tuple(f"c{p}" for p in above),
          float(score),
          3,
          {"a": float(score), "b": float(100 - score)},
      )
      for i, (score, above) in enumerate(zip(scores, parents, strict=True))
  ]


def _run(name, seed=0, **options):
  rule = rules.named(name)
  return rule(
      _nodes(),
      count=3,
      weights=selection.Weights(),
      rng=np.random.default_rng(seed),
      **options,
  )


@pytest.mark.parametrize("name", sorted(rules.RULES))
def test_rules_log_alike(name):
  chosen = _run(name)
  assert chosen.log["rule"] == name
  assert set(chosen.terms) == {f"c{i}" for i in range(6)}
  for odds in chosen.propensities:
    assert sum(odds.values()) == pytest.approx(1.0)
  others = set(_run("epistemic").terms["c0"]) - {"propensity_2", "propensity_3"}
  assert others <= set(chosen.terms["c0"])
  assert _run(name) == chosen


def test_every_policy_is_a_rule():
  assert set(rules.RULES) == set(policies.POLICIES)


def test_greedy_takes_the_best_of_what_is_left():
  first, second, third = _run("greedy").propensities
  assert first["c2"] == pytest.approx(0.95 + 0.05 / 6)
  left = max(second, key=lambda node: second[node])
  assert second[left] == pytest.approx(0.95 + 0.05 / 5)
  assert third[_run("greedy").parents[0]] == 0.0


def test_uniform_takes_all_alike():
  assert set(_run("uniform").propensities[0].values()) == {1 / 6}
  assert len({_run("uniform", seed).parents for seed in range(6)}) > 3


def test_best_of_n_is_the_root_alone():
  chosen = _run("best_of_n")
  assert chosen.parents == ("c0",)
  assert chosen.propensities[0]["c0"] == 1.0


def test_unknown_rule_lists_those_there_are():
  with pytest.raises(ValueError, match="best_of_n.*got 'best'"):
    rules.named("best")
