"""Summaries of results made by hand."""

import json

import numpy as np
import pytest
from scipy import stats

from poise_jax.evaluation import (
    bootstrap,
    proportions,
    results,
    summary,
)
from poise_jax.tasks import benchmarks


@pytest.fixture
def sampled(stored):
  return stored.results([0, 1, 4, 2, 0], samples=4)


@pytest.fixture
def six(stored):
  """A set for each of the six, half solved."""
  return {
      b.name: stored.results(
          [0, b.samples] * 10,
          samples=b.samples,
          name=b.name,
          set__weight=b.weight,
      )
      for b in benchmarks.MATH6
  }


def test_scores_by_hand(sampled):
  found = summary.summarise([{"AMC": sampled}])["sets"]["AMC"]
  wilson = proportions.wilson(3, 5)
  assert found["score"] == pytest.approx(
      {k: 100 * v for k, v in wilson._asdict().items()}
  )
  assert found["method"] == "Wilson"
  assert list(found["pass_at_k"]) == ["1", "2", "4"]
  one = found["pass_at_k"]["1"]
  assert one["mean"] == pytest.approx(100 * 7 / 20)
  # Shares 0, 1/4, 1, 1/2, 0 about their mean 0.35.
  error = np.std([0, 0.25, 1, 0.5, 0], ddof=1) / np.sqrt(5)
  assert one["standard_error"] == pytest.approx(100 * error)
  # p (1 - p) / 3 of three problems: 3/48, 0, 4/48.
  assert one["sampling_error"] == pytest.approx(
      100 * np.sqrt(3 / 48 + 4 / 48) / 5
  )
  assert "sampling_error" not in found["pass_at_k"]["4"]
  # One wrong answer for all that is wrong: 3 to 1, none, all, and a tie.
  assert found["maj_at_4"]["mean"] == pytest.approx(100 * 1.5 / 5)
  assert found["response_tokens"]["mean"] == pytest.approx(5)
  assert found["response_words"] == {"mean": 1, "low": None, "high": None}


def test_overall_of_six_sets(six):
  found = summary.summarise([six])
  assert found["overall"]["mean"] == pytest.approx(50)
  # All sets have one Wilson interval: √(2 · 0.2² + 4 · 0.15²) of its half.
  half = 50 - 100 * proportions.wilson(10, 20).low
  expected = 50 - half * np.sqrt(2 * 0.04 + 4 * 0.0225)
  assert found["overall"]["low"] == pytest.approx(expected)
  assert found["complete"]
  text = summary.markdown(found)
  assert "| AIME24 | pass@32 | 20 | 50.0 [29.9, 70.1] |" in text
  assert "Overall 50.00 [" in text and "cite" not in text


def test_a_part_has_no_overall(six):
  del six["AMC"]
  assert summary.summarise([six])["overall"] is None


def test_a_part_of_a_set_is_marked(stored):
  part = stored.results([1, 0], set__problems=9)
  found = summary.summarise([{"AMC": part}])
  assert not found["complete"]
  text = summary.markdown(found)
  assert "2 of 9" in text and "no score to cite" in text


def test_answers_that_were_not_graded_in_time(stored):
  late = stored.completion(False, timed_out=True)
  records = [stored.record(0, 1), stored.record(1, 0, completions=(late,))]
  part = stored.results([1, 0], records=records)
  found = summary.summarise([{"AMC": part}] * 2)
  assert found["sets"]["AMC"]["not_graded"] == 2
  text = summary.markdown(found)
  assert "Not graded in time, and counted as wrong: 2 answers on AMC." in text
  found = summary.summarise([{"AMC": stored.results([1, 0])}])
  assert found["sets"]["AMC"]["not_graded"] == 0
  assert "Not graded" not in summary.markdown(found)


def test_over_seeds(stored):
  hits = [[0, 1, 4, 2, 0], [1, 1, 3, 0, 0], [0, 4, 4, 1, 2]]
  seeds = [
      {"AMC": stored.results(h, samples=4, sampling__seed=i)}
      for i, h in enumerate(hits)
  ]
  found = summary.summarise(seeds)["sets"]["AMC"]
  expected = bootstrap.crossed([np.array(hits) / 4])
  assert found["pass_at_k"]["1"]["mean"] == pytest.approx(100 * expected.mean)
  assert expected.low < 0 and found["pass_at_k"]["1"]["low"] == 0
  assert found["pass_at_k"]["1"]["high"] == pytest.approx(100 * expected.high)
  assert (found["seeds"], found["method"]) == (3, "crossed bootstrap")
  assert "3 seeds (crossed)" in summary.markdown(summary.summarise(seeds))


def _drawn(rng, seeds, effect):
  """Six sets with true scores of 1/2: a seed moves the odds of all problems."""
  shifts = rng.normal(0, effect, (seeds, 1))
  logits = [rng.normal(0, 1.5, (1, 30)) + shifts for _ in benchmarks.MATH6]
  return {
      b.name: rng.binomial(1, 1 / (1 + np.exp(-x))).astype(np.float64)
      for b, x in zip(benchmarks.MATH6, logits, strict=True)
  }


def _coverage(simulations, resamples, seeds, effect=0.6):
  rng = np.random.default_rng(0)
  weights = {b.name: b.weight for b in benchmarks.MATH6}
  found = [
      summary._overall(_drawn(rng, seeds, effect), weights, resamples=resamples)
      for _ in range(simulations)
  ]
  return np.mean([i.low <= 0.5 <= i.high for i in found])


def test_overall_over_seeds_covers_the_truth():
  assert _coverage(80, 300, seeds=5) > 0.87


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "least"), [(2, 0.83), (3, 0.91), (5, 0.93), (10, 0.93)]
)
def test_overall_over_seeds_covers_the_truth_often(seeds, least):
  # Of two seeds, see `bootstrap.crossed`.
  assert least < _coverage(1000, 1000, seeds) < 0.99


def test_seeds_move_all_sets_at_once():
  # Problems alike, seeds at 0.45, 0.5 and 0.55 in all sets: the mean of three
  # has variance 0.0025 / 3, whatever the number of sets.
  values = np.repeat([[0.45], [0.5], [0.55]], 9, axis=1)
  six = {b.name: values for b in benchmarks.MATH6}
  found = summary._overall(six, {b.name: b.weight for b in benchmarks.MATH6})
  half = stats.t.ppf(0.975, 2) * np.sqrt(0.0025 / 3)
  assert found == pytest.approx((0.5, 0.5 - half, 0.5 + half), rel=0.02)


def test_no_problem_solved_with_any_seed(stored):
  seeds = [
      {
          b.name: stored.results([0] * 9, name=b.name, set__weight=b.weight)
          for b in benchmarks.MATH6
      }
  ] * 3
  found = summary.summarise(seeds)
  wilson = proportions.wilson(0, 9)
  score = found["sets"]["AMC"]["score"]
  assert score["high"] == pytest.approx(100 * wilson.high)
  expected = 100 * wilson.high * np.sqrt(2 * 0.04 + 4 * 0.0225)
  assert found["overall"]["high"] == pytest.approx(expected)


def test_seeds_of_different_measurements(stored):
  a = {"AMC": stored.results([1])}
  with pytest.raises(
      ValueError, match="differ in: sampling.max_tokens is 8, 9"
  ):
    b = {"AMC": stored.results([1], sampling__max_tokens=9)}
    summary.summarise([a, b])
  with pytest.raises(ValueError, match="different problems; continue all"):
    summary.summarise([a, {"AMC": stored.results([1, 0], problems=1)}])
  with pytest.raises(
      ValueError, match=r"the same sets, got \[\['AMC'\], \[\]\]"
  ):
    summary.summarise([a, {}])


def test_from_files(tmp_path, stored, sampled):
  path = results.path_of(tmp_path, "AMC")
  with results.open_writer(path, sampled.header, {}) as writer:
    with pytest.raises(ValueError, match="has no problems yet"):
      summary.read_all(tmp_path)
    # In another order, as with other batches.
    writer.append(list(sampled.records.values())[::-1])
  found = summary.summarise([summary.read_all(tmp_path)])
  assert found == summary.summarise([{"AMC": sampled}])
  assert json.loads(json.dumps(found)) == found
  with pytest.raises(FileNotFoundError, match="AIME24.jsonl"):
    summary.read_all(tmp_path, ["AMC", "AIME24"])
  with pytest.raises(FileNotFoundError, match="no results in"):
    summary.read_all(tmp_path / "other")
