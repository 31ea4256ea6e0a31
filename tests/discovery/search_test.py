"""Whole campaigns: repeatable, resumable, and not stopped by bad candidates."""

import dataclasses
import sqlite3

import pytest

from poise_jax.archive import store
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery import (
    canaries,
    clones,
    directives,
    leaderboard,
    search,
    steering,
)
from poise_jax.discovery import progress as progress_lib
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.proposer import grammar
from poise_jax.discovery.trials import budgets, trial

PLANTED = ("grpo", *canaries.NAMES, *clones.NAMES, "dapo")
FIRST = len(PLANTED)  # index of the first that was generated


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
  sizes = archive.campaign(campaign_id).config["budget_sizes"]
  assert sizes["tiny"]["name"] == "tiny"
  candidates = archive.candidates(campaign_id)
  assert [c.index for c in candidates] == list(range(FIRST + 4))
  assert tuple(c.name for c in candidates[:FIRST]) == PLANTED
  roles = [c.role for c in candidates]
  assert roles[:3] == ["root", "canary", "canary"]
  assert roles[3:FIRST] == ["clone", "clone", "baseline"]
  assert set(roles[FIRST:]) == {"generated"}
  assert [c.generation for c in candidates[FIRST:]] == [1, 1, 2, 2]
  assert {c.generation for c in candidates[:FIRST]} == {0}
  noted = {r.candidate_id for r in archive.reflections(campaign_id)}
  assert noted == {c.id for c in candidates}
  assert len(archive.evaluations(campaign_id)) >= config.planted + 4
  stages = {decision.stage for decision in archive.decisions(campaign_id)}
  assert {"race", "selection"} <= stages
  raced = {d.subject for d in archive.decisions(campaign_id, "race")}
  assert raced == {c.id for c in candidates[FIRST:] if c.accepted}


def test_only_the_root_and_its_descendants_are_bred(whole, tiny_config):
  archive, campaign_id = whole
  root, *_ = candidates = archive.candidates(campaign_id)
  first, second = archive.selections(campaign_id)
  assert (first.generation, second.generation) == (1, 2)
  assert first.parents == (root.id,) == tuple(first.terms)
  # Canaries and baselines are not even considered.
  born = {candidate.id for candidate in candidates[FIRST : FIRST + 2]}
  assert set(second.terms) == {root.id, *born}
  assert 1 <= len(second.parents) <= tiny_config().parents
  for child in candidates[FIRST:]:
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
      assert ("tiny", "search", 0) in seen(candidate) <= seen(root)
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
  trials = len(archive.evaluations(campaign_id))
  assert noting.steps >= trials * tiny.train.steps


class PowerCutError(Exception):
  """The process ends here."""


class Mortal(store.Archive):
  """Stores `limit` records, and ends the process before the next one."""

  limit = 0

  def total(self):
    return total(self)


def total(archive):
  """Records in an archive."""
  found = archive.campaigns()
  for campaign in archive.campaigns():
    found += archive.candidates(campaign.id) + archive.evaluations(campaign.id)
    found += archive.reflections(campaign.id) + archive.selections(campaign.id)
    found += archive.decisions(campaign.id)
  return len(found)


def _until_the_limit(name):
  def add(self, record):
    if self.total() >= self.limit:
      raise PowerCutError
    getattr(store.Archive, name)(self, record)

  return add


for _kind in (
    *("campaign", "candidate", "evaluation"),
    *("reflection", "selection", "decision"),
):
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
  assert mortal.total() == cuts == total(archive) > 33


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
    whole, tiny, tiny_config, monkeypatch
):
  archive, _ = whole
  train = dataclasses.replace(tiny.train, learning_rate=3e-3)
  changed = dataclasses.replace(tiny, train=train)
  monkeypatch.setitem(budgets.ALL, "tiny", changed)
  with pytest.raises(
      campaign_lib.ResumeError,
      match=r"budget_sizes.tiny.train.learning_rate \(archive: 0.001, now: 0.003\)",
  ):
    search.run(tiny_config(), archive)


def test_refused_and_twin_candidates_are_kept_and_the_search_goes_on(
    shared, tiny_config, opened, monkeypatch
):
  propose = grammar.propose

  def spoiled(rng, parents, *args, index, **kwargs):
    proposal = propose(rng, parents, *args, index=index, **kwargs)
    root = archive.candidates(archive.campaigns()[0].id)[0]
    twin = root.source + "\n# In other words.\n"
    sources = {
        FIRST: "import os\n",
        FIRST + 1: twin,
        FIRST + 2: "import sys\n",
    }
    source = sources.get(index, proposal.source)
    return dataclasses.replace(proposal, source=source)

  monkeypatch.setattr(grammar, "propose", spoiled)
  archive = opened("spoiled")
  campaign_id = search.run(tiny_config(), archive)
  candidates = archive.candidates(campaign_id)
  notes = {r.candidate_id: r for r in archive.reflections(campaign_id)}
  for index, rule in enumerate(("construct", "twin", "construct")):
    refused = candidates[FIRST + index]
    assert not refused.accepted and refused.artifact is None
    assert rule in [f["rule"] for f in refused.findings]
    assert archive.evaluations(campaign_id, refused.id) == []
    words = "Not trained: it" if rule == "twin" else "Rejected before training."
    assert notes[refused.id].text.startswith(words)
    assert rule in notes[refused.id].data["rules"]
  assert candidates[FIRST + 1].twin_of == candidates[0].id
  # The root gets a seed of its own for its twin.
  runs = archive.evaluations(campaign_id, candidates[0].id)
  assert [run.seed for run in runs if run.split == "search"][-1] == 100
  twin = candidates[FIRST + 1].findings[-1]["message"]
  assert twin == "compiles to the same program as grpo"
  # The next round starts from the root, and is measured.
  assert archive.selections(campaign_id)[1].parents == (candidates[0].id,)
  assert [c.generation for c in candidates[FIRST + 2 :]] == [2, 2]
  assert archive.evaluations(campaign_id, candidates[FIRST + 3].id)
  board = leaderboard.standings(archive, campaign_id)
  assert [s.status for s in board] == ["scored"] * 7 + [
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
      trial, "Laboratory", lambda base, budget, task=None: Numb(laboratory)
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


def test_the_reading_of_a_model_is_stored_and_holds(
    shared, tiny_config, opened, laboratory, monkeypatch
):
  monkeypatch.setattr(
      trial, "Laboratory", lambda base, budget, task=None: Numb(laboratory)
  )
  config = tiny_config(directive="Brevity is king.", baselines=())
  brief = objectives.Objective((objectives.Term("response_length", "min"),))
  reading = steering.Reading(
      config.directive,
      "the model m",
      brief,
      directives.Budget(candidates=2),
      ("Brevity is king  minimise response_length",),
      exchanges=({"exchange": "e1", "request": {}, "reply": {}},),
  )
  archive = opened("read")
  with pytest.raises(directives.DirectiveError, match="'king'"):
    search.run(config, archive)
  assert not archive.campaigns()
  for again in (reading, None):  # from the archive, if nobody gives it
    with pytest.raises(canaries.CanaryError):
      search.run(config, archive, reading=again)
  (campaign,) = archive.campaigns()
  assert campaign.config["objective"] == objectives.to_json(brief)
  assert campaign.config["rounds"] == 1
  told = {(d.stage, d.subject): d for d in archive.decisions(campaign.id)}
  assert told["directive", "reading"].data == reading.to_json()
  assert told["llm", "e1"].data == dict(reading.exchanges[0])
  other = dataclasses.replace(reading, objective=objectives.DEFAULT)
  with pytest.raises(campaign_lib.ResumeError, match="a different objective"):
    search.run(config, archive, reading=other)
