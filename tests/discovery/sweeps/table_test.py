"""Tables by hand, and how often they are wrong."""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from poise_jax.discovery.sweeps import cell as cell_lib
from poise_jax.discovery.sweeps import sweep
from poise_jax.discovery.sweeps import table as table_lib
from poise_jax.evaluation import multiplicity


@pytest.fixture
def done_of(tiny, make):
  """Makes cells: name -> Overall by seed; None failed, NaN diverged."""

  def done_of(scores, first_seed=0):
    found = []
    for name, values in scores.items():
      config = cell_lib.Config(name, "grpo", tiny)
      for seed, value in enumerate(values, first_seed):
        cell = sweep.Cell(config, seed, {"versions": {}}, f"{name}-{seed}")
        run = None
        if value is not None:
          diverged = math.isnan(value)
          metrics = {} if diverged else {"overall": value, "valid_rate": 0.5}
          run = dataclasses.replace(
              make.evaluation(0, seed, 0.0),
              metrics=metrics,
              outcome="diverged" if diverged else "scored",
              reason="loss is NaN" if diverged else "",
          )
        failure = "OSError: full" if value is None else ""
        found.append(sweep.Done(cell, run, failure, False))
    return found

  return done_of


SCORES = {
    "base": [50.0, 52.0, 51.0],
    "up": [60.0, 63.0, 60.0],
    "same": [50.0, 52.0, 51.0],
    "wild": [40.0, 62.0, 55.0],
    "nan": [50.0, math.nan, 51.0],
    "lost": [55.0, None, 54.0],
}


@pytest.fixture
def table(done_of):
  return table_lib.make(done_of(SCORES), "base")


def _row(table, name):
  (row,) = [r for r in table.rows if r.config.name == name]
  return row


def test_rows_are_ordered_by_their_means(table):
  assert [r.config.name for r in table.rows] == [
      "up", "lost", "wild", "base", "same", "nan"
  ]  # fmt: skip
  assert table.tests == 3 and table.paired
  assert _row(table, "nan").overall is None
  assert _row(table, "nan").reasons == {1: "loss is NaN"}
  assert _row(table, "lost").reasons == {1: "OSError: full"}
  assert _row(table, "lost").overall.mean == 54.5
  assert [_row(table, n).verdict for n in ("base", "same", "nan")] == [
      "baseline", "identical", "none"
  ]  # fmt: skip
  assert _row(table, "up").metrics["valid_rate"] == 0.5


def test_a_difference_by_hand(table):
  # Differences: up 10, 11, 9; wild -10, 10, 4; lost 5, 3.
  squares = {"up": 2.0, "wild": 632 / 3, "lost": 2.0}
  prior = (squares["wild"] + squares["lost"]) / 3
  variance = (3 * prior + squares["up"]) / 5  # 3 degrees of prior, 2 own
  error = math.sqrt(variance / 3)
  found = _row(table, "up").difference
  assert (found.interval.mean, found.dof) == (10, 5)
  assert found.error == pytest.approx(error)
  half = stats.t.ppf(0.975, 5) * error
  assert found.interval.high == pytest.approx(10 + half)
  p = 2 * stats.t.sf(10 / error, 5)
  assert found.p_value == pytest.approx(p)
  gaps = {r.config.name: r.difference for r in table.rows if r.difference}
  holm = multiplicity.holm({n: d.p_value for n, d in gaps.items()})
  assert {n: _row(table, n).adjusted for n in gaps} == holm
  reach = stats.t.ppf(1 - 0.025 / 3, 5) + stats.t.ppf(0.8, 5)
  assert _row(table, "up").detectable == pytest.approx(reach * error)


def test_what_is_certain_is_said(done_of):
  rng = np.random.default_rng(0)
  base = rng.normal(50, 1, 5)
  table = table_lib.make(
      done_of(
          {
              "base": list(map(float, base)),
              "up": [
                  float(b + 10 + e)
                  for b, e in zip(base, rng.normal(0, 1, 5), strict=True)
              ],
              "down": [
                  float(b - 10 + e)
                  for b, e in zip(base, rng.normal(0, 1, 5), strict=True)
              ],
              "near": [
                  float(b + e)
                  for b, e in zip(base, rng.normal(0, 1, 5), strict=True)
              ],
          }
      ),
      "base",
  )
  assert [_row(table, n).verdict for n in ("up", "down", "near")] == [
      "better", "worse", "open"
  ]  # fmt: skip


def test_seeds_that_are_not_shared(done_of):
  a = done_of({"base": [50.0, 52.0, 51.0]})
  b = done_of({"b": [60.0, 61.0, 63.0]}, first_seed=10)
  table = table_lib.make(a + b, "base")
  assert not table.paired
  found = _row(table, "b").difference
  test = stats.ttest_ind([60, 61, 63], [50, 52, 51], equal_var=False)
  assert found.p_value == pytest.approx(test.pvalue)
  ends = test.confidence_interval()
  assert found.interval[1:] == pytest.approx((ends.low, ends.high))


def test_a_baseline_that_failed_judges_nobody(done_of):
  table = table_lib.make(done_of({"a": [1.0, 2.0], "b": [math.nan] * 2}), "b")
  assert _row(table, "a").difference is None and table.tests == 0
  with pytest.raises(ValueError, match="`baseline` must be .* got 'c'"):
    table_lib.make(done_of({"a": [1.0]}), "c")


def test_one_seed_says_nothing(done_of):
  table = table_lib.make(done_of({"a": [1.0], "b": [9.0]}), "a")
  assert _row(table, "b").verdict == "none"
  assert _row(table, "b").overall == (9.0, None, None)


def _family(rng, algorithms, seeds, sds, effects):
  """Differences of a whole table, judged; which tests were rejected."""
  noise = rng.normal(0, 1, (algorithms, seeds)) * sds[:, None]
  shared = rng.normal(0, 1, seeds)  # of the baseline, in every difference
  gaps = effects[:, None] + noise + shared
  found = {}
  for i, values in enumerate(gaps):
    others = np.delete(gaps, i, axis=0)
    prior = float(np.mean(np.var(others, axis=1, ddof=1)))
    found[str(i)] = table_lib.moderated(list(values), prior, 4.0)
  adjusted = multiplicity.holm({n: d.p_value for n, d in found.items()})
  covered = [
      d.interval.low <= effect <= d.interval.high
      for d, effect in zip(found.values(), effects, strict=True)
  ]
  return np.array([p < 0.05 for p in adjusted.values()]), np.mean(covered)


@pytest.mark.slow
@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_false_findings_in_a_table_are_at_most_as_rare_as_said(spread):
  """However much the algorithms' noise differs, up to fourfold."""
  rng = np.random.default_rng(1)
  tables, algorithms = 1000, 20
  wrong, coverage = [], []
  for _ in range(tables):
    sds = (
        rng.uniform(1, spread, algorithms)
        if spread > 1
        else np.ones(algorithms)
    )
    rejected, covered = _family(rng, algorithms, 5, sds, np.zeros(algorithms))
    wrong.append(rejected.any())
    coverage.append(covered)
  assert np.mean(wrong) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / tables)
  assert np.mean(coverage) > 0.94
