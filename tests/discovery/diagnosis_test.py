import pytest

from poise_jax.discovery import diagnosis
from poise_jax.discovery.evidence import pairing

STILL = {
    "overall": (60.0, 60.0),
    "valid_rate": (0.9, 0.9),
    "response_length": (20.0, 20.0),
    "entropy": (0.4, 0.4),
    "kl": (0.1, 0.1),
}

# What has to move for each reading to be given.
PATTERNS = {
    "idle": {},
    "rambling": {"response_length": (20.0, 23.0), "valid_rate": (0.9, 0.85)},
    "format_over_correctness": {
        "response_length": (20.0, 13.0),
        "valid_rate": (0.9, 0.97),
        "overall": (60.0, 45.0),
    },
    "longer_and_better": {
        "response_length": (20.0, 24.0),
        "overall": (60.0, 63.0),
    },
    "format_lost": {"valid_rate": (0.9, 0.3)},
    "entropy_collapse": {"entropy": (0.4, 0.1)},
    "entropy_excess": {"entropy": (0.4, 0.7), "overall": (60.0, 50.0)},
    "larger_steps": {"kl": (0.1, 0.2)},
    "smaller_steps": {"kl": (0.1, 0.05)},
    "sooner": {"early_length": (10.0, 14.0)},
    "faster_not_better": {"early_reward": (0.2, 0.3), "reward": (0.5, 0.5)},
    "clipping": {"clip_fraction": (0.01, 0.03)},
    "large_gradients": {"grad_norm": (1.0, 3.0)},
    "accuracy_for_diversity": {
        "accuracy": (0.5, 0.55),
        "pass_at_k": (0.6, 0.5),
    },
    "diversity_for_accuracy": {
        "accuracy": (0.5, 0.45),
        "pass_at_k": (0.5, 0.6),
    },
    "failures_persist": {"frac_groups_all_fail": (0.4, 0.5)},
}


def _names(moves):
  return [rule.name for rule in diagnosis.diagnose(moves)]


def test_every_rule_has_a_pattern_here():
  assert set(PATTERNS) == {rule.name for rule in diagnosis.RULES}


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_reading_appears_with_its_pattern_and_not_without(name):
  assert name in _names(STILL | PATTERNS[name])
  nudged = STILL | {"overall": (60.0, 60.5)}
  assert name not in _names(nudged)


def test_nothing_known_nothing_read():
  assert _names({}) == []


def test_readings_are_hedged_sentences():
  for rule in diagnosis.RULES:
    assert rule.reading.endswith(".") and "may" in rule.reading, rule.name


def test_ratio_without_a_base_is_one():
  assert diagnosis.ratio({"kl": (0.0, 3.0)}, "kl") == 1
  assert diagnosis.ratio({}, "kl") == 1
  assert diagnosis.change({"kl": (0.5, 0.25)}, "kl") == -0.25


def test_what_moved_is_read_from_common_seeds(make):
  parent, child = (
      pairing.Evidence(
          f"c-{index}",
          "x",
          {},
          [
              make.evaluation(index, seed, overall, curve={"kl": [0.0, kl]})
              for seed in (0, 1)
          ],
      )
      for index, overall, kl in ((0, 40.0, 0.5), (1, 44.0, 0.25))
  )
  moves = diagnosis.moved(pairing.common_runs(child, parent))
  assert moves["overall"] == (40.0, 44.0) and moves["kl"] == (0.5, 0.25)
  # One set of either kind: a hundredth, and half of it, of the score.
  assert moves["accuracy"] == pytest.approx((0.40, 0.44))
  assert moves["pass_at_k"] == pytest.approx((0.20, 0.22))
  assert "entropy" not in moves
  assert diagnosis.words(moves, " (smoke budget)") == (
      "Signals (smoke budget), from parent to child: response length 10.5 to"
      " 10.5, KL to the reference 0.5000 to 0.2500."
  )
  assert diagnosis.moved(None) == {} and diagnosis.words({}) == ""
