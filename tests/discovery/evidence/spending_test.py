"""Levels by hand, and the error rate of the whole procedure by counting."""

import numpy as np
import pytest
from scipy import special

from poise_jax.discovery.evidence import spending


def test_weights_by_hand():
  assert spending.weights(1) == (1.0,)
  assert spending.weights(2) == pytest.approx((0.8, 0.2))
  assert spending.weights(3) == pytest.approx((36 / 49, 9 / 49, 4 / 49))
  assert spending.weights(4, power=0.0) == pytest.approx((0.25,) * 4)


def test_a_success_passes_its_level_on():
  entries = spending.ledger(0.05, (0.6, 0.3, 0.1), [True, False])
  levels = [entry.level for entry in entries]
  # 0.03; 0.015 + 0.03; 0.005 + 0.
  assert levels == pytest.approx([0.03, 0.045, 0.005])
  assert [entry.carried for entry in entries] == pytest.approx([0, 0.03, 0])
  assert [entry.confirmed for entry in entries] == [True, False, None]
  assert spending.next_level(0.05, (0.6, 0.4), [True]) == pytest.approx(0.05)
  assert spending.next_level(0.05, (0.6, 0.4), [True, True]) is None


def test_the_log_names_every_level():
  lines = spending.as_text(spending.ledger(0.05, (0.8, 0.2), [False]))
  assert lines == [
      (
          "confirmation 1: level 0.0400 (own 0.0400, carried 0.0000), not"
          " confirmed"
      ),
      "confirmation 2: level 0.0100 (own 0.0100, carried 0.0000), pending",
  ]


@pytest.mark.parametrize("nulls", [(0, 1, 2), (1,), (0, 2), (2,)])
@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_any_false_confirmation_has_at_most_alpha(nulls, shared):
  rng = np.random.default_rng(0)
  shares, false = spending.weights(3), 0
  for _ in range(1500):
    z = shared * rng.normal() + np.sqrt(1 - shared**2) * rng.normal(size=3)
    outcomes = []
    for k in range(3):
      level = spending.next_level(0.2, shares, outcomes)
      edge = -np.sqrt(2) * _inverse_erf(2 * level - 1)
      outcomes.append(bool(z[k] + (0 if k in nulls else 3) > edge))
    false += any(outcomes[k] for k in nulls)
  assert false / 1500 <= 0.2 + 4 * np.sqrt(0.16 / 1500)


def _inverse_erf(x):

  return special.erfinv(x)


@pytest.mark.parametrize(
    "alpha,shares,confirmed,message",
    [
        (1.5, (1.0,), [], "`alpha` must lie in"),
        (0.05, (0.7, 0.7), [], "`shares` must not be negative"),
        (0.05, (1.0,), [True, False], "`confirmed` must have at most the 1"),
    ],
)
def test_what_cannot_be_is_refused(alpha, shares, confirmed, message):
  with pytest.raises(ValueError, match=message):
    spending.ledger(alpha, shares, confirmed)


def test_weights_need_a_count_and_a_power():
  with pytest.raises(ValueError, match="`count` must be at least 1"):
    spending.weights(0)
  with pytest.raises(ValueError, match="`power` must not be negative"):
    spending.weights(2, power=-1.0)
