"""Whole campaigns: repeatable, resumable, and not stopped by bad candidates."""

import dataclasses
import sqlite3

import pytest

from poise_jax.archive import store
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery import canaries, grammar, leaderboard, search, trial
from poise_jax.discovery import progress as progress_lib

PLANTED = ("grpo", *canaries.NAMES, "dapo")


def _tables(path):
  """All rows of an archive, but for its clock readings."""
  with sqlite3.connect(path) as connection:
    connection.row_factory = sqlite3.Row
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
    )
    found = {}
    for (name,) in names.fetchall():
      rows = connection.execute(f"SELECT * FROM {name}").fetchall()
      found[name] = sorted(
          [(k, row[k]) for k in row.keys() if not k.endswith("_at")]
          for row in rows
      )
  connection.close()
  return found


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
  """Where the campaign that others are compared with is kept."""
  return tmp_path_factory.mktemp("reference") / "archive.db"


@pytest.fixture
def whole(reference, shared, tiny_config):
  """That campaign, run to its end by one worker, and its id."""
  with store.Archive.open(reference, create=True) as archive:
    yield archive, search.run(tiny_config(workers=1), archive)


def test_a_campaign_has_all_its_parts(whole, tiny_config):
  archive, campaign_id = whole
  config = tiny_config()
  assert archive.campaign(campaign_id).config["budget_sizes"]["name"] == "tiny"
  candidates = archive.candidates(campaign_id)
  assert [c.index for c in candidates] == list(range(8))
  assert tuple(c.name for c in candidates[:4]) == PLANTED
  roles = [c.role for c in candidates]
  assert roles[:4] == ["root", "canary", "canary", "baseline"]
  assert set(roles[4:]) == {"generated"}
  assert [c.generation for c in candidates] == [0, 0, 0, 0, 1, 1, 2, 2]
  noted = {r.candidate_id for r in archive.reflections(campaign_id)}
  assert noted == {c.id for c in candidates}
  assert len(archive.evaluations(campaign_id)) == config.trials == 8


def test_only_the_root_and_its_descendants_are_bred(whole, tiny_config):
  archive, campaign_id = whole
  root, *_ = candidates = archive.candidates(campaign_id)
  first, second = archive.selections(campaign_id)
  assert (first.generation, second.generation) == (1, 2)
  assert first.parents == (root.id,) == tuple(first.terms)
  # Canaries and baselines are not even considered.
  assert set(second.terms) == {root.id, candidates[4].id, candidates[5].id}
  assert 1 <= len(second.parents) <= tiny_config().parents
  for child in candidates[4:]:
    chosen = first if child.generation == 1 else second
    assert child.parents[0] in chosen.parents
    assert set(child.parents) <= set(chosen.parents)


def test_every_child_is_paired_with_the_root(whole):
  archive, campaign_id = whole
  root, *_, last = archive.candidates(campaign_id)

  def seen(candidate):
    runs = archive.evaluations(campaign_id, candidate.id)
    return {(run.budget, run.split, run.seed) for run in runs}

  for candidate in archive.candidates(campaign_id):
    if candidate.accepted:
      assert seen(candidate) == seen(root) == {("tiny", "search", 0)}
  note = {r.candidate_id: r for r in archive.reflections(campaign_id)}[last.id]
  assert root.id in note.data["versus"]


def test_the_same_campaign_again_is_the_same_to_the_last_bit(
    whole, reference, tiny_config, opened, tmp_path
):
  archive, campaign_id = whole
  again = opened("again")
  assert search.run(tiny_config(workers=2), again) == campaign_id
  assert again.digest(campaign_id) == archive.digest(campaign_id)
  assert _tables(tmp_path / "again.db") == _tables(reference)
  assert any(_tables(reference)["evaluation"])


class Noting(progress_lib.Silent):

  def __init__(self):
    self.steps, self.stages = 0, set()

  def advance(self, units):
    self.steps += units

  def stage(self, candidate, stage):
    self.stages.add(stage.partition(",")[0])


def test_a_finished_campaign_is_left_as_it_is(whole, tiny, tiny_config):
  archive, campaign_id = whole
  digest = archive.digest(campaign_id)
  noting = Noting()
  assert search.run(tiny_config(), archive, noting) == campaign_id
  assert archive.digest(campaign_id) == digest
  assert noting.stages == set()
  assert noting.steps == tiny_config().trials * tiny.train.steps


class PowerCutError(Exception):
  """The process ends here."""


class Mortal(store.Archive):
  """Stores `limit` records, and ends the process before the next one."""

  limit = 0

  def total(self):
    found = self.campaigns()
    for campaign in self.campaigns():
      found += self.candidates(campaign.id) + self.evaluations(campaign.id)
      found += self.reflections(campaign.id) + self.selections(campaign.id)
    return len(found)


def _until_the_limit(name):
  def add(self, record):
    if self.total() >= self.limit:
      raise PowerCutError
    getattr(store.Archive, name)(self, record)

  return add


for _kind in ("campaign", "candidate", "evaluation", "reflection", "selection"):
  setattr(Mortal, f"add_{_kind}", _until_the_limit(f"add_{_kind}"))


def test_cut_off_before_every_single_write_it_ends_the_same(
    whole, tiny_config, opened
):
  archive, campaign_id = whole
  mortal, cuts = opened("mortal", Mortal), 0
  while True:
    mortal.limit = cuts
    try:
      search.run(tiny_config(), mortal)
      break
    except PowerCutError:
      assert mortal.total() == cuts
      cuts += 1
  assert mortal.digest(campaign_id) == archive.digest(campaign_id)
  # Campaign, 2 selections, and of 8 candidates the record, the evaluation and
  # the reflection.
  assert mortal.total() == cuts == 27


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": 1}, r"seed \(archive: 0, now: 1\)"),
        ({"rounds": 3}, r"rounds \(archive: 2, now: 3\)"),
        ({"baselines": ()}, r"baselines \(archive: \['dapo'\], now: \[\]\)"),
    ],
    ids=["seed", "rounds", "baselines"],
)
def test_another_configuration_of_that_name_is_refused(
    whole, tiny_config, changes, key
):
  archive, campaign_id = whole
  digest = archive.digest(campaign_id)
  with pytest.raises(campaign_lib.ResumeError, match=key):
    search.run(tiny_config(**changes), archive)
  assert archive.digest(campaign_id) == digest
  assert len(archive.campaigns()) == 1


def test_a_budget_of_other_size_is_another_configuration(
    whole, tiny, tiny_config, laboratory, monkeypatch
):
  archive, _ = whole
  train = dataclasses.replace(tiny.train, learning_rate=3e-3)
  monkeypatch.setattr(
      laboratory, "budget", dataclasses.replace(tiny, train=train)
  )
  with pytest.raises(
      campaign_lib.ResumeError,
      match=r"budget_sizes.train.learning_rate \(archive: 0.001, now: 0.003\)",
  ):
    search.run(tiny_config(), archive)


def test_workers_are_no_part_of_the_identity(laboratory, tiny_config):
  one, two = (
      search.identity(tiny_config(workers=n), laboratory) for n in (1, 2)
  )
  assert one == two
  assert one["base_sha256"] == laboratory.base_sha256
  assert one["versions"] == laboratory.versions


def test_refused_and_twin_candidates_are_kept_and_the_search_goes_on(
    shared, tiny_config, opened, monkeypatch
):
  propose = grammar.propose

  def spoiled(rng, parents, *args, index, **kwargs):
    proposal = propose(rng, parents, *args, index=index, **kwargs)
    root = archive.candidates(archive.campaigns()[0].id)[0]
    twin = root.source + "\n# In other words.\n"
    sources = {4: "import os\n", 5: twin, 6: "import sys\n"}
    source = sources.get(index, proposal.source)
    return dataclasses.replace(proposal, source=source)

  monkeypatch.setattr(grammar, "propose", spoiled)
  archive = opened("spoiled")
  campaign_id = search.run(tiny_config(), archive)
  candidates = archive.candidates(campaign_id)
  notes = {r.candidate_id: r for r in archive.reflections(campaign_id)}
  for index, rule in ((4, "construct"), (5, "twin"), (6, "construct")):
    refused = candidates[index]
    assert not refused.accepted and refused.artifact is None
    assert rule in [f["rule"] for f in refused.findings]
    assert archive.evaluations(campaign_id, refused.id) == []
    assert notes[refused.id].text.startswith("Rejected before training.")
    assert rule in notes[refused.id].data["rules"]
  assert candidates[5].twin_of == candidates[0].id
  # The root was planned with one seed, and gets another one for its twin.
  runs = archive.evaluations(campaign_id, candidates[0].id)
  assert [run.seed for run in runs] == [0, 1]
  twin = candidates[5].findings[-1]["message"]
  assert twin == "compiles to the same program as grpo"
  # The next round starts from the root, and is measured.
  assert archive.selections(campaign_id)[1].parents == (candidates[0].id,)
  assert [c.generation for c in candidates[6:]] == [2, 2]
  assert archive.evaluations(campaign_id, candidates[7].id)
  board = leaderboard.standings(archive, campaign_id)
  assert [s.status for s in board] == ["scored"] * 5 + [
      "rejected",
      "twin",
      "rejected",
  ]


class Numb(trial.Laboratory):
  """Scores the base policy whatever was trained."""

  def __init__(self, laboratory):
    self.__dict__.update(vars(laboratory))

  def run(self, algorithm, split, seed, on_step=lambda step: None):
    return trial.Outcome("", self.score_base(split, seed), {"loss": [0.0]})


def test_a_canary_ends_the_search_before_any_candidate_is_made(
    shared, tiny_config, opened, laboratory, monkeypatch
):
  monkeypatch.setattr(
      trial, "Laboratory", lambda base, budget: Numb(laboratory)
  )
  archive = opened("numb")
  with pytest.raises(canaries.CanaryError, match="no score can be trusted"):
    search.run(tiny_config(), archive)
  (campaign,) = archive.campaigns()
  assert tuple(c.name for c in archive.candidates(campaign.id)) == PLANTED
  assert archive.selections(campaign.id) == []
  # And again, when the same command is given again.
  with pytest.raises(canaries.CanaryError):
    search.run(tiny_config(), archive)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root": "ppo"}, "`root` must be one of .*, got 'ppo'"),
        ({"budget": "huge"}, "`budget` must be one of .*, got 'huge'"),
        ({"baselines": ("ppo",)}, "`baselines` must be .*, got 'ppo'"),
        ({"baselines": ("dapo", "dapo")}, "`baselines` must not repeat"),
        ({"baselines": ("grpo",)}, "`baselines` must not repeat the root"),
        ({"baselines": ("sign_flipped",)}, "`baselines` must not .* a canary"),
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
        ({"root_seeds": 0}, "`root_seeds` must be at least 1, got 0"),
        ({"rounds": -1}, "`rounds` must be at least 0, got -1"),
        ({"parents": 0}, "`parents` must be at least 1, got 0"),
        ({"children": 0}, "`children` must be at least 1, got 0"),
        ({"child_seeds": 0}, "`child_seeds` must be at least 1, got 0"),
        ({"workers": 0}, "`workers` must be at least 1, got 0"),
        ({"child_seeds": 4}, "`child_seeds` must not exceed .* 4 and 3"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_field_is_named(opened, changes, words):
  config = search.SearchConfig(**changes)
  with pytest.raises(ValueError, match=words):
    config.checked()
  archive = opened("untouched")
  with pytest.raises(ValueError, match=words):
    search.run(config, archive)
  assert archive.campaigns() == []


def test_a_sound_configuration_is_returned():
  config = search.SearchConfig(baselines=("dapo", "rloo"))
  assert config.checked() is config
  # (1 + 2 canaries + 2 baselines) * 3 seeds + 3 rounds * 3 children * 2 seeds
  assert config.trials == 33
