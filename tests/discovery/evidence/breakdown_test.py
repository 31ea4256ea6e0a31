"""Break-downs by kind, and healthy runs left alone."""

import pytest

from poise_jax.discovery.evidence import breakdown

HEALTHY = {"kl": [0.0, 5.3, 0.1, 0.1], "entropy": [0.6, 0.4, 0.2, 0.2]}


def test_a_healthy_run_may_spike():
  assert breakdown.find("", HEALTHY) is None
  assert breakdown.find("", {}) is None


@pytest.mark.parametrize(
    "diverged,kind",
    [
        ("non-finite loss at step 3", breakdown.Kind.NOT_FINITE),
        (
            "cannot be run at the size of training: ValueError",
            breakdown.Kind.NOT_RUN,
        ),
        ("stopped", breakdown.Kind.OTHER),
    ],
)
def test_a_run_that_stopped_has_the_kind_of_its_reason(diverged, kind):
  found = breakdown.find(diverged, HEALTHY)
  assert found == (kind, diverged)


def test_kl_that_stays_high_is_a_collapse():
  found = breakdown.find("", HEALTHY | {"kl": [0.0, 1.0, 4.0, 4.0]})
  assert found.kind is breakdown.Kind.KL
  assert "4" in found.detail and "3" in found.detail


def test_entropy_that_vanishes_is_a_collapse():
  found = breakdown.find("", HEALTHY | {"entropy": [0.6, 0.01, 0.011, 0.01]})
  assert found.kind is breakdown.Kind.ENTROPY
  assert "0.012" in found.detail


def test_limits_can_be_set():
  limits = breakdown.Limits(kl=0.05)
  assert breakdown.find("", HEALTHY, limits).kind is breakdown.Kind.KL
