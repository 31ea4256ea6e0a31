"""Effects that are planted: of the loss, of its step size, of its tuning."""

import math

import pytest

from poise_jax.discovery.dissection import confounds, equal_cost, fair_tuning

CHOOSING, FRESH = (0, 1), (10, 11, 12, 13)


def _arm(name, score, travel, constants=None):
  """Scores and travel are functions of (setting, fresh)."""
  asked = []

  def train(fresh):
    def run(setting, seed):
      asked.append((fresh, setting, seed))
      wobble = 0.1 * ((seed * 7) % 5 - 2)
      moved = travel(setting)
      curve = {
          equal_cost.VALUE: [0.1, 0.2],
          "num_tokens": [10.0, 10.0],
          "kl": [moved, moved],
      }
      return equal_cost.Run(score(setting) + wobble, "", curve, 3.0)

    return run

  settings = fair_tuning.design(constants or {}, {})
  arm = confounds.Arm(name, settings, train(False), train(True), 1.5)
  return arm, asked


def _control(child, root, **changes):
  values = dict(tuning_seeds=CHOOSING, fresh_seeds=FRESH)
  return confounds.control(child, root, **(values | changes))


# The best policy is one that moved 0.2: no loss matters.
_by_travel = lambda moved: 60.0 - 20.0 * abs(math.log(moved / 0.2))


def test_an_effect_of_step_size_is_seen_through():
  child, _ = _arm(
      "child", lambda s: _by_travel(0.2 * s.rate), lambda s: 0.2 * s.rate
  )
  root, asked = _arm(
      "root", lambda s: _by_travel(0.1 * s.rate), lambda s: 0.1 * s.rate
  )
  found = _control(child, root)
  whole = 20.0 * math.log(2)
  assert found.untuned.mean == pytest.approx(whole)
  step = found.step_size
  assert step.rate == pytest.approx(2.0)
  assert step.explained.mean == pytest.approx(whole)
  assert step.left.mean == pytest.approx(0.0, abs=1e-9)
  assert step.explained.mean + step.left.mean == pytest.approx(
      found.untuned.mean
  )
  assert step.matched_travel == pytest.approx(step.child_travel)
  # So does tuning see through it: the root at twice the rate is as good.
  assert found.root_setting == (2.0, ())
  assert found.tuned.mean == pytest.approx(0.0, abs=1e-9)
  assert found.root_gain.mean == pytest.approx(whole)
  # Fresh: as it is and at twice the rate, which is both best and matched.
  assert len([a for a in asked if a[0]]) == 2 * len(FRESH)
  assert found.trainings == 14 * len(CHOOSING) + 3 * len(FRESH)
  told = " ".join(confounds.sentences(found))
  assert "is not shown to hold against a tuned root" in told
  assert "2.00 times its learning rate" in told


def test_an_effect_of_the_loss_stays():
  child, _ = _arm(
      "child", lambda s: 5.0 + _by_travel(0.1 * s.rate), lambda s: 0.1 * s.rate
  )
  root, _ = _arm(
      "root", lambda s: _by_travel(0.1 * s.rate), lambda s: 0.1 * s.rate
  )
  found = _control(child, root)
  assert found.tuned.mean == pytest.approx(5.0)
  assert found.step_size.rate == pytest.approx(1.0)
  assert found.step_size.left.mean == pytest.approx(5.0)
  assert found.step_size.explained.mean == pytest.approx(0.0)
  assert set(found.equal) == {"tokens", "KL", "seconds"}
  told = list(confounds.sentences(found))
  assert "the effect holds against a tuned root" in told[1]
  assert told[-1].startswith("Gradients before the optimizer are 1.5 and 1.5")


def test_a_constant_of_the_root_counts_like_the_childs():
  child, _ = _arm("child", lambda s: 52.0, lambda s: 0.1 * s.rate)
  root, _ = _arm(
      "root",
      lambda s: 52.0 if dict(s.changes).get("eps") == 0.4 else 50.0,
      lambda s: 0.1 * s.rate,
      {"eps": 0.2},
  )
  found = _control(child, root)
  assert found.untuned.mean == pytest.approx(2.0)
  assert found.root_setting.changes == (("eps", 0.4),)
  assert found.tuned.mean == pytest.approx(0.0)


def test_a_step_that_the_root_never_makes_is_said_to_be_that():
  child, _ = _arm("child", lambda s: 5.0, lambda s: 7.0)
  root, _ = _arm("root", lambda s: 4.0, lambda s: 0.1 * s.rate)
  found = _control(child, root)
  assert found.step_size is None
  assert "nothing can be said" in " ".join(confounds.sentences(found))


def test_without_curves_nothing_is_said_of_step_size():
  arms = [_arm(name, lambda s: 5.0, lambda s: 0.0)[0] for name in ("a", "b")]
  assert _control(*arms).step_size is None


def test_the_crossing_closest_to_the_usual_rate_is_taken():
  travels = {0.25: 0.3, 0.5: 0.1, 1.0: 0.1, 2.0: 0.4, 4.0: 0.05}

  def tuned(travels):
    runs = {
        fair_tuning.Setting(rate): (
            equal_cost.Run(1.0, "", {"kl": [moved] * 4}),
        )
        for rate, moved in travels.items()
    }
    return fair_tuning.Tuned(fair_tuning.DEFAULT, {}, runs)

  rate = confounds.matching_rate(tuned({1.0: 0.2}), tuned(travels))
  # Half way, in logarithms, from 0.1 at rate 1 to 0.4 at rate 2.
  assert rate == pytest.approx(math.sqrt(2))


def test_travel_is_read_from_curves():
  run = equal_cost.Run(1.0, "", {"kl": [0.0] * 6 + [0.2, 0.4]})
  assert confounds.travel(run) == pytest.approx(0.3)
  still = equal_cost.Run(1.0, "", {"kl": [0.0] * 8})
  assert confounds.travel(still) is None
  assert confounds.travel(equal_cost.Run(1.0, "", {})) is None
  assert confounds.travel(equal_cost.Run(0.0, "NaN", run.curve)) is None


def test_unfair_comparisons_are_refused():
  child, _ = _arm("child", lambda s: 5.0, lambda s: 0.1)
  root, _ = _arm("root", lambda s: 4.0, lambda s: 0.1)
  fewer = confounds.Arm("root", root.settings[:3], root.tune, root.confirm)
  with pytest.raises(ValueError, match="`settings` must be as many .* 7 and 3"):
    _control(child, fewer)
  turned = confounds.Arm("root", root.settings[::-1], root.tune, root.confirm)
  with pytest.raises(ValueError, match="`settings` of root must begin with"):
    _control(child, turned)
  with pytest.raises(ValueError, match=r"`fresh_seeds` .* got \[1\] in both"):
    _control(child, root, fresh_seeds=(1, 2))
  with pytest.raises(ValueError, match="must differ, got child twice"):
    _control(child, child)
