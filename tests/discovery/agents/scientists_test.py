"""Rounds with a model: live, recorded, replayed, failing, cut off."""

import importlib.util
import json
import os
import pathlib
import re
import socket
import tomllib

import pytest

from poise_jax.algorithms import catalog
from poise_jax.discovery import (
    admission,
    planting,
    proposing,
    reflecting,
    yardstick,
)
from poise_jax.discovery.agents import briefing, scientists
from poise_jax.discovery.evidence import shrinkage
from poise_jax.discovery.llm import exchange
from poise_jax.discovery.llm import options as options_lib
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths

_PATH = pathlib.Path(__file__).parents[1] / "llm" / "gemini.py"
_SPEC = importlib.util.spec_from_file_location("gemini", _PATH)
gemini = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gemini)

DEMO = pathlib.Path(__file__).parents[3] / "experiments" / "replay_demo.toml"
KEY = "AIza-secret-key-0123456789"
SOURCES = [catalog.source(name) for name in ("dr_grpo", "gspo")]

BY_RULE = admission.Draft("x", "generated", 1, (), "", {}, "")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
  for name in list(os.environ):
    if name.lower().endswith("_proxy") or name.startswith(("GOOGLE", "GEMINI")):
      monkeypatch.delenv(name)
  monkeypatch.setenv("GEMINI_API_KEY", KEY)


@pytest.fixture
def rooted(campaigns, make):
  """A campaign of this name with a root that was measured, sealed too."""

  def rooted(name, **options):
    campaign = campaigns(name, **options)
    campaign.admit(0, planting._root("grpo"))
    _measure(make, campaign, campaign.candidates[0], 40.0)
    return campaign

  return rooted


def _measure(make, campaign, candidate, overall):
  """A run of the search, and some that nobody may see."""
  for split, seed, score in (
      ("search", 0, overall),
      ("confirm", 1, 77.125),
      ("sealed", 2, 88.375),
  ):
    campaign.archive.add_evaluation(
        make.evaluation(
            candidate.index,
            seed,
            score,
            budget="tiny",
            split=split,
            candidate_id=candidate.id,
            key={"base": campaign.laboratory.base_sha256},
        )
    )


@pytest.fixture
def settled(tiny_config):
  """One round of two right after the root."""

  class Config(type(tiny_config())):
    planted = 1

  return Config(**{f: getattr(tiny_config(), f) for f in vars(tiny_config())})


@pytest.fixture
def round_of(make, settled):
  """Proposes, measures and reflects as the search does."""

  def round_of(campaign, asked):
    root = campaign.candidates[0]
    children = proposing.make_children(
        campaign, settled, 1, (root.id,), briefing.OVERALL, asked
    )
    for child in children:
      if child.accepted and not campaign.at_home(child):
        _measure(make, campaign, child, 42.0)
    reflecting.reflect(
        campaign, [root, *children], asked, noise=shrinkage.Noise(2.5)
    )
    return children

  return round_of


def _model(**replies):
  return gemini.Agents(
      sources=SOURCES,
      oracles=SOURCES,
      research=[
          gemini.ideas("steady_clip", "other_way"),
          gemini.ideas("third_way", "fourth_way"),
      ],
      **replies,
  )


def _options(server, **changes):
  return options_lib.Options(
      model="m",
      base_url=server.url,
      prompt_price=2.0,
      output_price=12.0,
      **changes,
  )


def _refuse(*_, **__):
  raise AssertionError("a replay opened a socket")


def _told(campaign):
  return {
      d.subject: d.data
      for d in campaign.archive.decisions(campaign.id, scientists.STAGE)
  }


def test_a_round_a_resumed_one_and_its_replays(
    rooted, round_of, tmp_path, monkeypatch
):
  path = tmp_path / "t.jsonl"
  with gemini.Server(_model().answer).running() as server:
    options = _options(server)
    with scientists.live(options, path) as asked:
      live = rooted("live")
      one, other = round_of(live, asked)
      bill = asked.bill()
    requests = len(server.requests)
    texts = json.dumps(server.requests)
    # An archive that was lost is filled again, and nothing is paid for twice.
    with scientists.live(options, path) as asked:
      again = rooted("again")
      round_of(again, asked)
      assert asked.bill() == bill
    assert len(server.requests) == requests == 12
  assert (one.name, other.name) == ("steady_clip-001", "third_way-002")
  assert one.accepted and other.accepted
  assert one.mechanisms["operator"] == "agent"
  assert bill.startswith("m: 12 calls, $0.02 spent, at most $0.00 more")
  # What confirms is in no question, and neither is the key.
  assert re.search(r"overall 40\b", texts)
  for hidden in ("77.1", "88.3", "88.4", KEY):
    assert hidden not in texts
  notes = live.archive.reflections(live.id)
  assert sum("A model's reading" in note.text for note in notes) == 2
  told = _told(live)
  assert len(told) == 12 and KEY not in json.dumps(told)
  assert all(e["reply"]["finish"] == "STOP" for e in told.values())

  monkeypatch.setattr(socket, "socket", _refuse)
  monkeypatch.setattr(socket, "create_connection", _refuse)
  monkeypatch.delenv("GEMINI_API_KEY")
  digest = live.archive.digest(live.id)
  assert again.archive.digest(again.id) == digest
  for name in ("first", "second"):
    replayed = rooted(name)
    round_of(replayed, scientists.replay(options, path))
    assert replayed.archive.digest(replayed.id) == digest


class Loud:
  """Remembers what a search says."""

  def __init__(self):
    self.said = []

  def stage(self, candidate, stage):
    self.said.append(f"{candidate}: {stage}")

  def advance(self, units):
    pass

  def best(self, candidate, interval):
    pass


def test_a_failing_model_is_replaced_by_rules(rooted, round_of, tmp_path):
  path = tmp_path / "t.jsonl"
  denied = gemini.error(403, "PERMISSION_DENIED")
  with gemini.Server(lambda *_: denied).running() as server:
    options, progress = _options(server), Loud()
    campaign = rooted("failing", progress=progress)
    with scientists.live(options, path) as asked:
      children = round_of(campaign, asked)
    requests = len(server.requests)
    assert requests == 4  # two proposals, two reflections
  plain = rooted("plain")
  assert [c.source for c in children] == [
      c.source for c in round_of(plain, scientists.offline())
  ]
  notice = _told(campaign)["candidate 1"]["notice"]
  assert notice["kind"] == "CallError" and "403" in notice["message"]
  assert any("no model (CallError" in line for line in progress.said)
  assert not _told(plain)
  # It is found again by rule, even if the model is well by now.
  with gemini.Server(_model().answer).running() as server:
    with scientists.live(_options(server), path) as asked:
      done = asked.propose(
          campaign,
          briefing.Task(1, 1, (campaign.candidates[0].id,)),
          lambda: BY_RULE,
      )
    assert done is BY_RULE and not server.requests


def test_a_mismatch_with_the_oracle_is_refused(rooted, round_of, tmp_path):
  model = _model()
  model.replies["oracle"] = [{"source": catalog.source("rloo"), "notes": ""}]
  with gemini.Server(model.answer).running() as server:
    options = _options(server, repairs=0)
    with scientists.live(options, tmp_path / "t.jsonl") as asked:
      campaign = rooted("differs")
      one, _ = round_of(campaign, asked)
  assert not one.accepted and one.artifact is None and one.twin_of is None
  assert [f["rule"] for f in one.findings if f["level"] == "contract"] == [
      "oracle"
  ]
  notes = {
      n.candidate_id: n.text for n in campaign.archive.reflections(campaign.id)
  }
  assert notes[one.id].startswith("Rejected before training.")
  assert "analysis" not in model.asked


def test_without_a_key_nothing_begins(tmp_path, monkeypatch):
  monkeypatch.delenv("GEMINI_API_KEY")
  with pytest.raises(exchange.CallError, match="no key"):
    with scientists.live(options_lib.Options(), tmp_path / "t.jsonl"):
      pass


@pytest.mark.slow
def test_the_script_of_the_demonstration(
    campaigns, make, tiny_config, tmp_path, monkeypatch
):
  monkeypatch.setattr(socket, "socket", _refuse)
  digests = []
  for name in ("first", "second"):
    campaign = campaigns(name)
    campaign.admit(0, planting._root("grpo"))
    root = campaign.candidates[0]
    _measure(make, campaign, root, 40.0)
    asked = scientists.script(options_lib.Options(), DEMO)
    for index in (5, 6):
      draft = asked.propose(
          campaign, briefing.Task(index, 1, (root.id,)), _refuse
      )
      child = campaign.admit(index, draft)
      assert child.accepted, child.findings
      assert child.mechanisms["engineering"]["standing"] == "agrees"
      _measure(make, campaign, child, 42.0)
      text, _ = asked.reflect(
          campaign, child, shrinkage.Noise(2.5), yardstick.OVERALL, _refuse
      )
      assert "A model's reading" in text
    rounds = child.mechanisms["engineering"]["rounds"]
    assert [r["standing"] for r in rounds] == [None, "agrees"]
    asked_for = {e["request"]["label"] for e in _told(campaign).values()}
    assert asked_for == set(tomllib.loads(DEMO.read_text())["replies"])
    digests.append(campaign.archive.digest(campaign.id))
  assert digests[0] == digests[1]
  with pytest.raises(exchange.MissError, match="fits one campaign only"):
    asked.propose(campaign, briefing.Task(7, 1, (root.id,)), _refuse)
  bad = tmp_path / "bad.toml"
  bad.write_text("answers = 1")
  with pytest.raises(ValueError, match="must have a table `replies`"):
    scientists.script(options_lib.Options(), bad)


def test_by_rule_nothing_is_asked(rooted, round_of):
  campaign = rooted("rules")
  asked = scientists.offline()
  assert asked.propose(campaign, None, lambda: BY_RULE) is BY_RULE
  children = round_of(campaign, scientists.OFFLINE)
  assert all("genome" in child.mechanisms for child in children)
  assert not scientists.offline().bill()


def test_a_break_down_on_a_cheap_rung_is_told(rooted, make):
  """Nothing was measured at the budget of the search, and still it is known."""
  campaign = rooted("broken")
  root = campaign.candidates[0]
  child = campaign.admit(
      1,
      admission.Draft(
          "x", "generated", 1, (root.id,), catalog.source("gspo"), {}, ""
      ),
  )
  assert child.accepted, child.findings
  for budget, split, base in (
      ("smoke", "search", campaign.laboratory.base_sha256),
      ("sealing", "sealed", campaign.laboratory.base_sha256),
      ("elsewhere", "search", "another"),
  ):
    campaign.archive.add_evaluation(
        make.evaluation(
            1,
            0,
            0.0,
            budget=budget,
            split=split,
            candidate_id=child.id,
            key={"base": base},
            outcome="diverged",
            reason="non-finite loss at step 1",
            metrics={},
            curve={},
        )
    )
  prompts, model = [], _model()

  def ask(prompt, schema):
    prompts.append(prompt.text)
    return model.ask(prompt, schema)

  asked = scientists.aided(ask, [])
  text, data = asked.reflect(
      campaign, child, shrinkage.Noise(2.5), yardstick.OVERALL, _refuse
  )
  (told,) = prompts
  assert "smoke budget, seed 0: broke down: non-finite loss at step 1" in told
  assert "sealing" not in told and "elsewhere" not in told
  assert data["suggestion"] == "drop"
  assert data["diverged"] == ["non-finite loss at step 1"]
  assert "1 of 1 run diverged: non-finite loss at step 1 (smoke budget)" in text


def test_what_is_banned_is_refused_although_the_gate_lets_it_through(rooted):
  campaign = rooted("banned")
  objective = objectives.Objective(bans=("scale",))  # in the tags of the idea
  task = briefing.Task(
      1,
      1,
      (campaign.candidates[0].id,),
      worths.Worth(objective, {"overall": 40.0}, {}),
  )
  asked = scientists.aided(_model().ask, [])
  draft = asked.propose(campaign, task, _refuse)
  child = campaign.admit(1, draft)
  assert not child.accepted and child.artifact is None
  (finding,) = [f for f in child.findings if f["level"] == "contract"]
  assert finding["rule"] == "banned"
  assert "scale (it says: scale)" in finding["message"]
