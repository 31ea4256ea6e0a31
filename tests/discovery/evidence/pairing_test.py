import datetime

import pytest

from poise_jax.archive import records
from poise_jax.discovery.evidence import pairing

WHEN = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def _run(seed, budget="quick", *, metrics=None, curve=None, outcome="scored"):
  return records.Evaluation(
      id=f"{budget}-{seed}",
      candidate_id="c",
      key={},
      seed=seed,
      budget=budget,
      split="search",
      outcome=outcome,
      reason="",
      metrics=metrics or {},
      curve=curve or {},
      started_at=WHEN,
      finished_at=WHEN,
  )


def _evidence(name, runs):
  return pairing.Evidence(name, name, None, runs)


def test_common_runs_pairs_seed_by_seed_within_the_best_covered_budget():
  ours = [_run(2), _run(1), _run(0, "standard"), _run(5, outcome="diverged")]
  theirs = [_run(1), _run(2), _run(3), _run(5), _run(0, "standard")]
  pairs = pairing.common_runs(_evidence("a", ours), _evidence("b", theirs))
  assert (pairs.budget, pairs.split, pairs.seeds) == ("quick", "search", (1, 2))
  assert pairs.ours == (ours[1], ours[0])
  assert pairs.theirs == (theirs[0], theirs[1])


def test_budgets_are_never_mixed():
  ours, theirs = [_run(0, "quick")], [_run(0, "standard")]
  assert (
      pairing.common_runs(_evidence("a", ours), _evidence("b", theirs)) is None
  )


def test_signal_reads_metric_then_tail_of_curve():
  run = _run(
      0,
      metrics={"kl": 0.5},
      curve={
          "kl": [9.0],
          "entropy": [8, 7, 6, 5, 4, 3, 2.0, 1.0],
          "completions/mean_length": [10.0, 20.0, 60.0],
          "clip_ratio/low_mean": [0.1, 0.02],
          "clip_ratio/high_mean": [0.1, 0.03],
          "grad_norm": [float("nan")],
      },
  )
  assert pairing.signal(run, "kl") == 0.5
  assert pairing.signal(run, "entropy") == 1.5  # last two of eight
  assert pairing.signal(run, "response_length") == 60
  assert pairing.signal(run, "early_length") == 15  # first two of three
  assert pairing.signal(run, "clip_fraction") == pytest.approx(0.05)
  assert pairing.signal(run, "grad_norm") is None
  assert pairing.signal(run, "absent") is None
  whole = _run(0, curve={"clip_ratio/region_mean": [0.07]})
  assert pairing.signal(whole, "clip_fraction") == 0.07


def test_differences_skip_seeds_without_the_signal():
  ours = [_run(0, metrics={"kl": 0.5}), _run(1)]
  theirs = [_run(0, metrics={"kl": 0.2}), _run(1, metrics={"kl": 0.1})]
  pairs = pairing.common_runs(_evidence("a", ours), _evidence("b", theirs))
  assert pairing.differences(pairs, "kl") == pytest.approx([0.3])
  assert pairing.mean_signals(pairs, "kl") == pytest.approx((0.2, 0.5))
  assert pairing.mean_signals(pairs, "entropy") is None
  assert pairing.interval([], prior_variance=0.0, prior_dof=0.0) is None
