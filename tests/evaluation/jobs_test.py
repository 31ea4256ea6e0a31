"""Whole jobs: real files, real grading, the shipped policy."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.evaluation import jobs, problem_sets, running, suite, summary
from poise_jax.models import checkpoints
from poise_jax.rollout import tokenizer
from poise_jax.tasks import arithmetic, grading_pool

SETTINGS = running.Settings(batch=64, max_tokens=4, template="none")
NAMES = ("AIME24", "sums2")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data")
  rows = [{"problem": f"{i}+1?", "answer": str(i + 1)} for i in range(30)]
  (folder / "aime24.jsonl").write_text("\n".join(map(json.dumps, rows)))
  with grading_pool.GradingPool(1) as pool:
    yield problem_sets.Sources(folder, arithmetic.Split.SEARCH, pool)


def test_two_sets_and_nothing_twice(checkpoint, sources, tmp_path):
  job = jobs.plan(checkpoint, NAMES, sources, SETTINGS, limit=2)
  assert job.completions == 2 * 32 + 2
  told = []
  assert jobs.run(job, tmp_path, lambda *x: told.append(x)) == 4
  assert told == [("AIME24", 64, True), ("sums2", 2, True)]
  found = summary.read_all(tmp_path, NAMES)
  assert len(found["AIME24"].records["aime24/1"].completions) == 32
  before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
  # Not even the weights are read.
  gone = job.policy._replace(directory=tmp_path / "gone")
  told.clear()
  job = job._replace(policy=gone)
  assert jobs.run(job, tmp_path, lambda *x: told.append(x)) == 0
  assert told == [("AIME24", 64, False), ("sums2", 2, False)]
  assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
  other = jobs.plan(
      checkpoint, NAMES, sources, SETTINGS._replace(seed=3), limit=2
  )
  with pytest.raises(ValueError, match="sampling.seed is 0, 3"):
    jobs.run(other, tmp_path)


@pytest.mark.parametrize("field", ["limit", "batch", "max_tokens"])
def test_numbers_out_of_range(checkpoint, sources, field):
  settings = SETTINGS if field == "limit" else SETTINGS._replace(**{field: 0})
  limit = 0 if field == "limit" else None
  with pytest.raises(ValueError, match=f"`{field}` must be at least 1, got 0"):
    jobs.plan(checkpoint, NAMES, sources, settings, limit)


def test_what_is_missing(checkpoint, sources, tmp_path):
  with pytest.raises(FileNotFoundError, match="no config.json"):
    jobs.plan(tmp_path, NAMES, sources, SETTINGS)
  with pytest.raises(FileNotFoundError, match="must hold amc83"):
    jobs.plan(checkpoint, ("AMC",), sources, SETTINGS)


@pytest.mark.slow
def test_greedy_scores_are_those_of_the_suite(sources, tmp_path):
  """Through other tokenizers, other programs and other files."""
  directory = running.directory_of("embedded")
  settings = running.Settings(batch=32)
  job = jobs.plan(directory, ("sums2",), sources, settings, limit=32)
  jobs.run(job, tmp_path)
  found = summary.summarise([summary.read_all(tmp_path)])["sets"]["sums2"]
  policy = checkpoints.load(directory)
  evaluate = suite.make_evaluate(
      policy.graphdef, tokenizer.load(directory), suite.SuiteConfig(1, 32)
  )
  expected = evaluate(policy.params, 0, arithmetic.Split.SEARCH)
  assert found["score"]["mean"] == pytest.approx(
      100 * expected["accuracy/sums2"], rel=1e-6
  )


@pytest.mark.slow
def test_sampled_scores_are_those_of_the_suite(sources, tmp_path):
  directory = running.directory_of("embedded")
  policy = checkpoints.load(directory)
  evaluate = suite.make_evaluate(
      policy.graphdef, tokenizer.load(directory), suite.SuiteConfig(48, 1)
  )
  ours, theirs = [], []
  for seed in range(8):
    settings = running.Settings(seed=seed, batch=1536)
    job = jobs.plan(directory, ("mixed4",), sources, settings, limit=48)
    jobs.run(job, tmp_path / str(seed))
    found = summary.summarise([summary.read_all(tmp_path / str(seed))])
    ours.append(found["sets"]["mixed4"]["pass_at_k"]["1"]["mean"] / 100)
    metrics = evaluate(policy.params, seed, arithmetic.Split.SEARCH)
    theirs.append(metrics["pass_at_1/mixed4"])
  error = np.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / 8)
  assert abs(np.mean(ours) - np.mean(theirs)) < 4 * error


@pytest.mark.slow
def test_a_perturbed_copy_differs(checkpoint, sources, tmp_path):
  found = checkpoints.load(checkpoint)
  noise = lambda p: p + 0.5 * jax.random.normal(jax.random.key(1), p.shape)
  params = jax.tree.map(lambda p: jnp.asarray(noise(p), p.dtype), found.params)
  copy = tmp_path / "copy"
  checkpoints.save(
      copy, found.config, params, source=checkpoint, eos_token_id=256
  )
  jobs_of = {
      name: jobs.plan(path, ("AIME24",), sources, SETTINGS, limit=1)
      for name, path in (("a", checkpoint), ("b", copy))
  }
  for name, job in jobs_of.items():
    jobs.run(job, tmp_path / name)
  a, b = (summary.read_all(tmp_path / name)["AIME24"] for name in "ab")
  assert a.header["set"] == b.header["set"]
  assert a.header["policy"] != b.header["policy"]
  assert a.records != b.records
