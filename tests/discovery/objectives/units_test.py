"""What a point of Overall is worth in other metrics."""

import pytest

from poise_jax.discovery.objectives import objective, units


def test_scales_by_seed_noise_pooled_over_candidates():
  # Overall: squares 2 + 8 on 2 dof, s² = 5. Length: 50 + 0 on 2, s² = 25.
  groups = [
      [
          {"overall": 50.0, "response_length": 100.0, "flops": 7.0},
          {"overall": 52.0, "response_length": 110.0, "flops": 7.0},
      ],
      [
          {"overall": 60.0, "response_length": 90.0, "flops": 7.0},
          {"overall": 64.0, "response_length": 90.0, "flops": 7.0},
      ],
  ]
  assert units.scales(groups) == {
      "response_length": pytest.approx(5**0.5),
      # The same for every seed: 5 % of the root's.
      "flops": pytest.approx(0.35),
  }


def _runs(flops, bits, *scores):
  return [
      {"overall": score, "flops": flops, "description_length": bits}
      for score in scores
  ]


def test_clones_do_not_make_the_loss_outweigh_overall():
  # The root, what differs from it in a constant, and one that is shorter.
  groups = [
      _runs(26_219.0, 3_400.0, 41.0, 44.0, 47.0),
      _runs(26_220.0, 3_408.0, 42.0, 43.0, 48.0),
      _runs(26_219.0, 3_400.0, 40.0, 45.0, 46.0),
  ]
  found = units.scales(groups)
  assert found == {
      "flops": pytest.approx(1310.95),
      "description_length": pytest.approx(170.0),
  }
  both = objective.Objective(
      (objective.Term("overall", "max"), objective.Term("flops", "min"))
  )
  # A tenth fewer flops are two points; so are they not worth four of Overall.
  root = {"overall": 44.0, "flops": 26_219.0}
  worth = lambda overall, flops: objective.utility(
      both, {"overall": overall, "flops": flops}, root, found
  )
  assert worth(44.0, 26_220.0) == pytest.approx(44.0, abs=1e-3)
  assert worth(44.0, 23_597.1) == pytest.approx(45.0)
  assert worth(40.0, 23_597.1) == pytest.approx(43.0)


def test_a_candidate_far_away_changes_nothing():
  near = [_runs(100.0, 50.0, 41.0, 44.0), _runs(101.0, 50.0, 40.0, 45.0)]
  far = [*near, _runs(9_000.0, 700.0, 42.0, 46.0)]
  assert units.scales(near) == units.scales(far)
  assert units.scales(near)["flops"] == pytest.approx(5.0)


def test_scales_of_little():
  assert units.scales([]) == {}
  assert units.scales([[]]) == {}
  assert units.scales([[{"overall": 5.0, "kl": 1.0}]]) == {"kl": 0.05}
  # Of a root without any, nothing is known.
  without = [[{"overall": 5.0, "kl": 0.0, "truncated_rate": 0.0}]]
  assert units.scales(without) == {"truncated_rate": 0.01}


def test_defaults():
  assert units.default("overall", 47.0) == 1.0
  assert units.default("pass_at_k/aime", 0.0) == 0.01
  assert units.default("valid_rate", 0.9) == 0.01
  assert units.default("response_length", 400.0) == pytest.approx(20.0)
  assert units.default("kl", -2.0) == pytest.approx(0.1)
  with pytest.raises(ValueError, match="what one point is worth in kl"):
    units.default("kl", 0.0)
