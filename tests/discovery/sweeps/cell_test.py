"""Cells as they are run."""

import dataclasses
import pickle

import jax
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.candidates import artifact
from poise_jax.discovery.sweeps import cell
from poise_jax.discovery.trials import trial
from poise_jax.tasks import arithmetic


@pytest.fixture
def config(tiny):
  return cell.Config("grpo", "grpo", tiny)


@pytest.fixture(autouse=True)
def compiled(monkeypatch, laboratory):
  monkeypatch.setattr(cell, "_compiled", lambda *where: laboratory)


def test_a_cell_is_a_trial(config, laboratory):
  job = cell.Job("x", dataclasses.replace(config, name="a"), 1)
  result = cell.run(pickle.loads(pickle.dumps(job)))
  expected = laboratory.run(catalog.make("grpo"), arithmetic.Split.SEARCH, 1)
  assert result.outcome == expected
  assert result.started_at <= result.finished_at


def test_constants_reach_the_algorithm(config):
  changed = dataclasses.replace(config, hparams={"clip_eps_high": 0.3})
  assert cell.algorithm_of(changed).hparams["clip_eps_high"] == 0.3
  with pytest.raises(ValueError, match="clip_eps"):
    cell.algorithm_of(dataclasses.replace(config, hparams={"clip_ep": 1.0}))


def test_a_program_takes_the_place_of_the_catalogue(config, verify, jail):
  verdict = verify(catalog.source("dr_grpo"), jail, known=None)
  mine = dataclasses.replace(
      config, algorithm="mine", artifact=verdict.artifact
  )
  algorithm = cell.algorithm_of(mine)
  assert algorithm.name == "mine"
  assert algorithm.hparams == catalog.make("dr_grpo").hparams
  assert cell.algorithm_of(mine).loss is algorithm.loss
  with pytest.raises(ValueError, match="constants of mine, got 'odd'"):
    cell.algorithm_of(dataclasses.replace(mine, hparams={"odd": 1.0}))
  assert artifact.header(verdict.artifact).hparams == algorithm.hparams


def _raising(monkeypatch, error):
  def loss(hparams, state, batch):
    raise error

  broken = types.Algorithm("broken", {}, lambda hparams: {}, loss)
  monkeypatch.setattr(cell, "algorithm_of", lambda config: broken)


def test_a_loss_that_cannot_be_run_has_diverged(config, monkeypatch):
  _raising(monkeypatch, TypeError("at 0x1234"))
  outcome = cell.run(cell.Job("x", config, 0)).outcome
  assert outcome == trial.Outcome(
      "cannot be run at the size of training: TypeError", {}, {}
  )


@pytest.mark.parametrize(
    "error",
    [
        OSError("no space left"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory"),
    ],
)
def test_what_may_not_happen_again_is_raised(config, monkeypatch, error):
  _raising(monkeypatch, error)
  with pytest.raises(type(error), match=str(error)):
    cell.run(cell.Job("x", config, 0))


def test_versions_are_those_of_a_trial_with_fewer_sources():
  found, theirs = cell.versions(), trial.versions()
  assert found.keys() == theirs.keys()
  assert {k for k in found if found[k] != theirs[k]} == {"poise_jax"}
  assert found["poise_jax"] == cell.sources()
