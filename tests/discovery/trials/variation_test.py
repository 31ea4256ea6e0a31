"""Names that hold all of a variation, and the budgets that they make."""

import dataclasses

import numpy as np
import pytest

from poise_jax.discovery.trials import budgets, variation
from poise_jax.training import loop

USUAL = variation.Variation("quick")
ALL = variation.Variation(
    "quick",
    rate=0.1 + 0.2,
    group_size=4,
    completion_length=25,
    lag=2,
    false_positive=0.05,
    false_negative=0.1,
    constants=(("clip_eps", 0.4), ("rate", 1e-06)),
)


def test_a_name_holds_everything():
  assert USUAL.name == "explain:quick"
  assert ALL.name == (
      "explain:quick rate=0.30000000000000004 group_size=4"
      " completion_length=25 lag=2 false_positive=0.05 false_negative=0.1"
      " hparams.clip_eps=0.4 hparams.rate=1e-06"
  )
  for varied in (USUAL, ALL, dataclasses.replace(USUAL, lag=1)):
    assert variation.read(varied.name) == varied


def test_a_plain_budget_is_no_variation():
  assert variation.read("quick") is None


@pytest.mark.parametrize(
    "name",
    ["explain:quick lag", "explain:quick lag=x", "explain:quick odd=1"],
)
def test_other_names_are_refused(name):
  with pytest.raises(ValueError, match="`name` must be that of a variation"):
    variation.read(name)


def test_only_what_changes_is_told():
  assert USUAL.changes == {}
  assert dataclasses.replace(USUAL, rate=2.0).changes == {"rate": 2.0}


def test_a_budget_with_its_sizes_changed():
  quick = budgets.named("quick")
  plain = USUAL.applied(quick)
  assert plain == dataclasses.replace(quick, name="explain:quick")
  found = ALL.applied(quick).train
  # 16 prompts of 8 completions are 32 of 4.
  assert (found.prompts, found.group_size) == (32, 4)
  assert found.completion_length == 25
  assert found.learning_rate == pytest.approx(0.3 * 2e-4)
  assert ALL.applied(quick).evaluate == quick.evaluate


def test_hardship_is_what_a_configuration_cannot_say():
  assert USUAL.hardship == loop.NO_HARDSHIP
  found = ALL.hardship
  assert found.lag == 2
  flipped = found.flip(np.ones((50, 40), np.float32), 0, 3)
  assert 0.85 < flipped.mean() < 0.95
  np.testing.assert_array_equal(
      flipped, found.flip(np.ones((50, 40), np.float32), 0, 3)
  )
