"""Clones of the root: equal where they must be, and a measure of noise."""

import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.discovery import admission, canaries, clones
from poise_jax.discovery.trials import trial

ROOT = catalog.source("grpo")


def _root():
  return admission.Draft(
      name="grpo",
      role="root",
      generation=0,
      parents=(),
      source=ROOT,
      mechanisms={},
      rationale="where it starts",
  )


@pytest.fixture
def planted(campaigns, wanted):
  """A campaign with root and clones measured by this laboratory."""

  def plant(seeds=1, **options):
    campaign = campaigns(**options)
    drafts = [_root(), *(clones.draft(name, ROOT) for name in clones.NAMES)]
    candidates = [campaign.admit(i, draft) for i, draft in enumerate(drafts)]
    assert all(candidate.accepted for candidate in candidates)
    campaign.measure(wanted(candidates, seeds))
    return campaign, candidates

  return plant


def _notes(campaign):
  notes = campaign.archive.reflections(campaign.id)
  return {note.candidate_id: note for note in notes}


def test_clones_compute_the_root_and_nothing_else():
  exact, near = (clones.draft(name, ROOT) for name in clones.NAMES)
  for draft in (exact, near):
    assert (draft.role, draft.generation, draft.parents) == ("clone", 0, ())
    assert draft.source.count("def loss(") == 1
    assert draft.source != ROOT
  assert "value * 1.000001" in near.source
  assert "value *" not in exact.source


def test_the_exact_clone_is_equal_and_the_near_one_measures_noise(planted):
  campaign, (root, exact, near) = planted(seeds=2)
  clones.check(campaign, [root, exact, near])
  notes = _notes(campaign)
  assert set(notes) == {exact.id, near.id}
  assert "bit for bit" in notes[exact.id].text
  scores = [
      [run.metrics["overall"] for run in campaign.evaluations(candidate)]
      for candidate in (root, exact, near)
  ]
  assert scores[0] == scores[1]
  gaps = [
      ours - theirs for ours, theirs in zip(scores[2], scores[0], strict=True)
  ]
  assert notes[near.id].data["differences"] == gaps
  assert notes[near.id].data["sd"] == pytest.approx(np.std(gaps, ddof=1))
  digest = campaign.archive.digest(campaign.id)
  clones.check(campaign, [root, exact, near])
  assert campaign.archive.digest(campaign.id) == digest


class Drifting(trial.Laboratory):
  """Scores by how often it was asked."""

  def __init__(self, laboratory):
    self.__dict__.update(vars(laboratory))
    self.runs = 0

  def run(self, algorithm, split, seed, on_step=lambda step: None):
    self.runs += 1
    metrics = {"overall": 50.0, "entropy": 0.1 * self.runs}
    return trial.Outcome("", metrics, {"loss": [0.0]})


class Steady(Drifting):
  """Scores everything alike."""

  def run(self, algorithm, split, seed, on_step=lambda step: None):
    return trial.Outcome("", {"overall": 50.0}, {"loss": [0.0]})


def test_a_trial_that_depends_on_more_than_its_key_is_noticed(
    planted, laboratory
):
  campaign, candidates = planted(laboratory=Drifting(laboratory), workers=1)
  with pytest.raises(canaries.CanaryError, match="differs in entropy with"):
    clones.check(campaign, candidates)
  assert campaign.noted() == set()


def test_one_seed_gives_no_spread(planted, laboratory):
  campaign, candidates = planted(laboratory=Steady(laboratory))
  clones.check(campaign, candidates)
  note = _notes(campaign)[candidates[2].id]
  assert note.data == {"differences": [0.0], "sd": None}
  assert "standard deviation" not in note.text
