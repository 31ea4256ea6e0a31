"""Canaries: they pass where the measurement works, and cry where it does not."""

import pytest

from poise_jax.archive import records
from poise_jax.discovery import canaries
from poise_jax.discovery.trials import trial
from poise_jax.tasks import arithmetic

SEARCH = arithmetic.Split.SEARCH
NAMES = ("grpo", *canaries.NAMES)


class Borrowed(trial.Laboratory):
  """The programs of another laboratory, for subclasses that break them."""

  def __init__(self, laboratory):
    self.__dict__.update(vars(laboratory))


class Skewed(Borrowed):
  """Scores the base policy by other rules than trained ones."""

  def score_base(self, split, seed):
    metrics = super().score_base(split, seed)
    return metrics | {"valid_rate": metrics["valid_rate"] + 1e-9}


class Leaking(Borrowed):
  """Trains where nothing should be learned, with one of the seeds."""

  def run(self, algorithm, split, seed, on_step=lambda step: None):
    outcome = super().run(algorithm, split, seed, on_step)
    if algorithm.name == "zero_gradient" and seed == 1:
      outcome.metrics["overall"] += 0.1
    return outcome


class Numb(Borrowed):
  """Scores the base policy whatever was trained."""

  def run(self, algorithm, split, seed, on_step=lambda step: None):
    return trial.Outcome("", self.score_base(split, seed), {"loss": [0.0]})


class Fragile(Borrowed):
  """Diverges with one of the algorithms."""

  def __init__(self, laboratory, name):
    super().__init__(laboratory)
    self._name = name

  def run(self, algorithm, split, seed, on_step=lambda step: None):
    if algorithm.name == self._name:
      return trial.Outcome("non-finite loss at step 0", {}, {})
    return super().run(algorithm, split, seed, on_step)


@pytest.fixture
def planted(campaigns, wanted):
  """A campaign in this laboratory with root and canaries measured."""

  def plant(laboratory, seeds=1):
    campaign = campaigns(laboratory=laboratory)
    drafts = [canaries.draft(name) for name in NAMES]
    candidates = [campaign.admit(i, draft) for i, draft in enumerate(drafts)]
    campaign.measure(wanted(candidates, seeds))
    return campaign, candidates

  return plant


def test_drafts_are_canaries_without_parents():
  for name in canaries.NAMES:
    draft = canaries.draft(name)
    assert (draft.name, draft.role, draft.parents) == (name, "canary", ())
    assert draft.rationale


def test_a_sound_measurement_passes_and_is_noted(planted, laboratory):
  campaign, candidates = planted(laboratory)
  canaries.check(campaign, candidates)
  notes = {
      note.candidate_id: note
      for note in campaign.archive.reflections(campaign.id)
  }
  root, zero, flipped = candidates
  assert set(notes) == {zero.id, flipped.id}
  base = laboratory.score_base(SEARCH, 0)["overall"]
  assert notes[zero.id].data == {"base_overall": base, "overall": base}
  assert "bit for bit" in notes[zero.id].text
  below = notes[flipped.id].data
  assert below["overall"] < min(below["base_overall"], below["root_overall"])
  (run,) = campaign.evaluations(root)
  assert below["root_overall"] == run.metrics["overall"]


def test_a_check_that_passed_is_not_repeated(planted, laboratory):
  campaign, candidates = planted(laboratory)
  canaries.check(campaign, candidates)
  digest = campaign.archive.digest(campaign.id)
  campaign.laboratories = trial.Laboratories(lambda *_: Skewed(laboratory))
  canaries.check(campaign, candidates)
  assert campaign.archive.digest(campaign.id) == digest


@pytest.mark.parametrize(
    ("broken", "seeds", "words"),
    [
        (
            Skewed,
            1,
            "differs in valid_rate with seed 0; the evaluator is broken",
        ),
        (Leaking, 2, "differs in overall with seed 1; the evaluator is broken"),
        (Numb, 1, "sign_flipped scored .* not below the base policy"),
    ],
    ids=["skewed", "leaking", "numb"],
)
def test_a_broken_measurement_is_noticed(
    planted, laboratory, broken, seeds, words
):
  campaign, candidates = planted(broken(laboratory), seeds)
  with pytest.raises(canaries.CanaryError, match=words):
    canaries.check(campaign, candidates)
  assert campaign.noted() == set()


def test_a_canary_that_diverged_counts_as_lowest(planted, laboratory):
  campaign, candidates = planted(Fragile(laboratory, "sign_flipped"))
  canaries.check(campaign, candidates)
  note = campaign.archive.reflections(campaign.id)[-1]
  assert note.data["overall"] == 0.0
  assert records.canonical_json(note.data)


def test_a_root_that_diverged_ends_the_search(planted, laboratory):
  campaign, candidates = planted(Fragile(laboratory, "grpo"))
  with pytest.raises(ValueError, match="the root grpo diverged .*non-finite"):
    canaries.check(campaign, candidates)
