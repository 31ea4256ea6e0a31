"""What a sweep will take, before and after some of it is done."""

import dataclasses
import datetime
import math

import pytest
from scipy import stats

from poise_jax.archive import records
from poise_jax.discovery.sweeps import cell, forecast, sweep
from poise_jax.discovery.trials import budgets, trial


@pytest.fixture
def cells():
  configs = [
      cell.Config(name, name, budgets.QUICK)
      for name in ("grpo", "dapo", "rloo")
  ]
  return sweep.plan(configs, [0, 1, 2])


def test_by_a_rule_of_thumb(cells):
  found = forecast.forecast(cells, None)
  assert (found.cells, found.missing, found.measured) == (9, 9, False)
  # Measured: 7 s on `quick`, 15 s on `standard`, within a third.
  assert forecast.rule(budgets.QUICK) == pytest.approx(7, rel=0.35)
  assert forecast.rule(budgets.STANDARD) == pytest.approx(15, rel=0.35)
  expected = 9 * forecast.rule(budgets.QUICK)
  assert 0 < found.seconds - expected < 60
  # 4 degrees of freedom of others, 2 of its own; two tests.
  reach = stats.t.ppf(1 - 0.0125, 4) + stats.t.ppf(0.8, 4)
  assert found.detectable == pytest.approx(
      reach * found.sd / math.sqrt(3), rel=0.2
  )


def test_by_what_the_archive_holds(cells, opened, monkeypatch):
  archive = opened("a")
  start = records.now()

  def run(job):
    score = {"grpo": 0.0, "dapo": 1.0, "rloo": 3.0}[job.config.name]
    outcome = trial.Outcome("", {"overall": score * job.seed}, {})
    return cell.Result(outcome, start, start + datetime.timedelta(seconds=30))

  monkeypatch.setattr(cell, "run", run)
  configs = [c.config for c in cells[:3]]
  sweep.sweep(configs, [0, 1, 2], archive=archive)
  more = sweep.plan(configs, [0, 1, 2, 3])
  found = forecast.forecast(more, archive)
  assert (found.cells, found.missing) == (12, 3)
  assert found.measured and found.seen
  assert 0 <= found.seconds - 3 * 30 < 60
  # Differences 0 1 2 and 0 3 6: variances 1 and 9.
  assert found.sd == pytest.approx(math.sqrt(5))
  done = forecast.forecast(cells, archive)
  assert (done.missing, done.seconds) == (0, 0)


def test_in_words(cells):
  found = forecast.forecast(cells, None)
  first, second = forecast.sentences(
      found, workers=2, axes={"configurations": 3, "seeds": 3}
  )
  assert first.startswith("9 cells (3 configurations x 3 seeds), 9 of them")
  assert f"{found.detectable:.1f} points" in second and "assumed" in second
  lone = dataclasses.replace(cells[0].config, name="x")
  found = forecast.forecast(sweep.plan([lone], [0]), None)
  assert found.detectable is None
  *_, last = forecast.sentences(found, workers=1, axes={})
  assert "Too little to test" in last
