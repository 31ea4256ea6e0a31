"""Sweeps over a real archive, with real training where that is the point."""

import dataclasses

import pytest

from poise_jax.archive import records
from poise_jax.discovery.sweeps import cell, design, executors, sweep
from poise_jax.discovery.trials import trial


@pytest.fixture
def configs(tiny):
  return [
      cell.Config(name, name, tiny)
      for name in ("grpo", "dapo", "zero_gradient")
  ]


def _instead(monkeypatch, outcome_of):
  """Lets cells end as told, and counts them."""
  asked = []

  def run(job):
    asked.append((job.config.name, job.seed))
    outcome = outcome_of(job)
    if isinstance(outcome, Exception):
      raise outcome
    return cell.Result(outcome, records.now(), records.now())

  monkeypatch.setattr(cell, "run", run)
  return asked


def _score(job):
  return trial.Outcome("", {"overall": 10.0 * job.seed}, {"loss": [1.0]})


def test_cells_come_seed_by_seed_and_are_named_by_content(configs, tiny):
  cells = sweep.plan(configs, [0, 1])
  assert [(c.config.name, c.seed) for c in cells] == [
      (name, seed)
      for seed in (0, 1)
      for name in ("grpo", "dapo", "zero_gradient")
  ]
  assert len({c.id for c in cells}) == 6
  same = lambda **changes: (
      sweep.plan([dataclasses.replace(configs[0], **changes)], [0])[0].id
      == cells[0].id
  )
  assert same(name="other", hparams={"clip_eps_low": 0.2})
  assert not same(hparams={"clip_eps_low": 0.1})
  faster = dataclasses.replace(tiny.train, learning_rate=1.0)
  assert not same(budget=dataclasses.replace(tiny, train=faster))
  assert same(budget=dataclasses.replace(tiny, name="called otherwise"))
  assert cells[0].key["versions"] == cell.versions()


def test_what_is_wrong_is_said_before_anything_runs(configs, tmp_path):
  plan = lambda *changes, seeds=(0,): sweep.plan(
      [dataclasses.replace(configs[0], **c) for c in changes], seeds
  )
  with pytest.raises(ValueError, match="`configs` must be .* all distinct"):
    plan({}, {})
  with pytest.raises(ValueError, match="`seeds` must be at least one"):
    plan({}, seeds=())
  with pytest.raises(ValueError, match="did you mean 'dapo'"):
    plan({"algorithm": "dapoo"})
  with pytest.raises(FileNotFoundError):
    plan({"base": str(tmp_path)})


def test_trained_once_whatever_asks(configs, opened, monkeypatch):
  asked = _instead(monkeypatch, _score)
  archive = opened("a")
  first = sweep.sweep(configs[:2], [0, 1], archive=archive)
  assert [d.reused for d in first] == [False] * 4
  assert len(asked) == 4
  # More configurations and more seeds: only what is new.
  again = sweep.sweep(configs, [1, 2], archive=archive)
  assert [d.reused for d in again] == [True, True, False] + [False] * 3
  assert asked[4:] == [
      ("zero_gradient", 1), ("grpo", 2), ("dapo", 2), ("zero_gradient", 2)
  ]  # fmt: skip
  assert again[0].evaluation == first[2].evaluation
  # The same algorithm by another name, twice in one sweep.
  twins = [dataclasses.replace(configs[0], name=n) for n in ("x", "y")]
  done = sweep.sweep(twins, [5], archive=archive)
  assert asked[8:] == [("x", 5)]
  assert done[0].evaluation == done[1].evaluation
  (campaign,) = archive.campaigns()
  kept = archive.candidates(campaign.id)
  assert [(c.name, c.role) for c in kept] == [
      ("grpo", "baseline"), ("dapo", "baseline"), ("zero_gradient", "canary")
  ]  # fmt: skip
  assert sweep.stored(sweep.plan(twins, [5, 6]), archive)[2].failure == (
      "not run yet"
  )


def test_failures_end_nothing_and_are_tried_again(configs, opened, monkeypatch):
  def outcome(job):
    if job.config.name == "dapo":
      return OSError("no space left\non device")
    if job.config.name == "zero_gradient":
      return trial.Outcome("non-finite loss at step 1", {}, {})
    return _score(job)

  archive, told = opened("a"), []
  asked = _instead(monkeypatch, outcome)
  done = sweep.sweep(configs, [1], archive=archive, on_done=told.append)
  assert [d.reason for d in done] == [
      "", "OSError: no space left", "non-finite loss at step 1"
  ]  # fmt: skip
  assert [sweep.summary(d) for d in told] == [
      "10.0",
      *(d.reason for d in done[1:]),
  ]
  assert done[1].evaluation is None
  assert done[2].evaluation.outcome == "diverged"
  asked.clear()
  sweep.sweep(configs, [1], archive=archive)
  assert asked == [("dapo", 1)]


def test_constants_have_candidates_of_their_own(configs, opened, monkeypatch):
  _instead(monkeypatch, _score)
  archive = opened("a")
  clips = [
      dataclasses.replace(configs[0], name=f"{c}", hparams={"clip_eps_high": c})
      for c in (0.2, 0.3)
  ]
  sweep.sweep([configs[0], *clips], [0], archive=archive)
  kept = archive.candidates(archive.campaigns()[0].id)
  # 0.2 is its own: the same candidate, and the same cell.
  assert [c.name for c in kept] == ["grpo", "grpo clip_eps_high=0.3"]


def test_seeds_of_its_own_for_each(configs):
  cells = sweep.plan(configs[:2], [0, 1], design.independent)
  assert [(c.config.name, c.seed) for c in cells] == [
      ("grpo", 0), ("dapo", 2), ("grpo", 1), ("dapo", 3)
  ]  # fmt: skip


def test_real_cells_are_the_same_however_they_are_run(
    configs, opened, monkeypatch, laboratory
):
  monkeypatch.setattr(cell, "_compiled", lambda *where: laboratory)
  run = lambda name, executor: [
      (d.evaluation.metrics, d.evaluation.curve)
      for d in sweep.sweep(configs, [0], executor, archive=opened(name))
  ]
  serial = run("serial", executors.serial)
  assert run("threads", executors.threads(2)) == serial
  assert serial[0] != serial[1]
