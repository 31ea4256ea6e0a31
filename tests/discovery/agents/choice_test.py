"""Choices of an agent: what is opened, what counts, what it will cost."""

import importlib.util
import json
import os
import pathlib
import socket

import pytest

from poise_jax.discovery import directives
from poise_jax.discovery.agents import choice, scientists
from poise_jax.discovery.llm import options, transcripts

OPTIONS = options.Options()
_PATH = pathlib.Path(__file__).parents[1] / "llm" / "gemini.py"
_SPEC = importlib.util.spec_from_file_location("gemini", _PATH)
gemini = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gemini)

DEMO = pathlib.Path(__file__).parents[3] / "experiments" / "replay_demo.toml"


@pytest.mark.parametrize(
    "agent", ["", "gpt", "gemini:x", "offline:", "replay", "replay:", "script"]
)
def test_others_are_refused(agent):
  if agent == "offline:":
    assert choice.read(agent)[0] is choice.KINDS["offline"]
    return
  known = "one of offline, gemini, replay:PATH, script:PATH, got"
  with pytest.raises(ValueError, match=known):
    choice.read(agent)


def test_a_path_may_hold_colons():
  assert choice.read("replay:C:/t")[1] == "C:/t"


def test_offline_is_opened_without_a_trace(tmp_path):
  with choice.opened("offline", OPTIONS, tmp_path) as asked:
    assert isinstance(asked, scientists.Scientists) and asked.bill() == ""
  assert not list(tmp_path.iterdir())
  assert choice.identity("offline", OPTIONS) == {}
  assert choice.forecast("offline", OPTIONS, 9) == []


def test_a_model_keeps_its_transcript_where_the_campaign_is(
    tmp_path, monkeypatch
):
  monkeypatch.setenv("GEMINI_API_KEY", "k")
  with choice.opened("gemini", OPTIONS, tmp_path) as asked:
    assert asked.bill().startswith("gemini-3-pro-preview: 0 calls, $0.00")
  path = tmp_path / choice.TRANSCRIPT
  assert transcripts.read(path) == []
  with choice.opened(f"replay:{path}", OPTIONS, tmp_path) as asked:
    assert asked.bill() == ""


def test_a_replay_is_the_campaign_that_was_recorded(tmp_path):
  identity = choice.identity("gemini", OPTIONS)
  assert identity == choice.identity("replay:/any/where", OPTIONS)
  richer = options.Options(budget_dollars=99.0, base_url="https://a.org")
  assert identity == choice.identity("gemini", richer)
  other = options.Options(model="other")
  assert identity != choice.identity("gemini", other)
  assert identity != choice.identity(f"script:{DEMO}", OPTIONS)
  with pytest.raises(FileNotFoundError):
    choice.identity(f"script:{tmp_path}/none", OPTIONS)


def test_the_plan_says_what_it_will_cost():
  # 6 calls for each of 9, 9,000 tokens in at $2 and 7,000 out at $12.
  (line,) = choice.forecast("gemini", OPTIONS, 9)
  assert "about 54 calls, $5.51, of at most $10.00" in line
  assert choice.forecast(f"script:{DEMO}", OPTIONS, 9) == []
  unknown = options.Options(model="unknown")
  with pytest.raises(ValueError, match="must have a known price"):
    choice.forecast("gemini", unknown, 9)
  own = options.Options(model="unknown", prompt_price=0.0, output_price=0.0)
  (line,) = choice.forecast("gemini", own, 9)
  assert "about 54 calls, $0.00" in line


def test_half_a_price_ends_it_before_anything_is_asked(tmp_path, monkeypatch):
  monkeypatch.setenv("GEMINI_API_KEY", "k")
  half = options.Options(model="m", prompt_price=2.0)
  with pytest.raises(ValueError, match="must be given together"):
    with choice.opened("gemini", half, tmp_path):
      pass
  assert not list(tmp_path.iterdir())


KEY = "AIza-secret-key-0123456789"
COMPLAINT = directives.DirectiveError("'king' is not understood")
TEXT = "Brevity is king."
READ = {
    "terms": [
        {
            "clause": "Brevity is king",
            "metric": "response_length",
            "direction": "min",
        }
    ]
}


@pytest.fixture
def keyed(monkeypatch):
  for name in list(os.environ):
    if name.lower().endswith("_proxy") or name.startswith(("GOOGLE", "GEMINI")):
      monkeypatch.delenv(name)
  monkeypatch.setenv("GEMINI_API_KEY", KEY)


def _options(server, **changes):
  return options.Options(
      model="m",
      base_url=server.url,
      prompt_price=2.0,
      output_price=12.0,
      **changes,
  )


def _interpret(agent, asked, directory):
  return choice.interpret(
      agent, asked, directory, TEXT, COMPLAINT, ("overall", "response_length")
  )


def _refuse(*_, **__):
  raise AssertionError("opened a socket")


def test_a_directive_read_by_a_model_is_paid_for_once(
    keyed, tmp_path, monkeypatch
):
  answer = gemini.ok(json.dumps(READ))
  with gemini.Server(lambda *_: answer).running() as server:
    asked = _options(server)
    live = _interpret("gemini", asked, tmp_path)
    assert _interpret("gemini", asked, tmp_path) == live
    assert len(server.requests) == 1
    # What it cost is in the bill of the campaign that follows.
    with choice.opened("gemini", asked, tmp_path) as scientist:
      assert scientist.bill().startswith("m: 1 calls")
  assert live.reader == "the model m"
  assert [t.metric for t in live.reading.objective.terms] == ["response_length"]
  (exchange,) = live.exchanges
  assert exchange["request"]["label"] == "directive"
  assert exchange["reply"]["text"] == json.dumps(READ)
  path = tmp_path / choice.TRANSCRIPT
  assert KEY not in path.read_text() + json.dumps(live.exchanges)

  monkeypatch.setattr(socket, "socket", _refuse)
  monkeypatch.setattr(socket, "create_connection", _refuse)
  monkeypatch.delenv("GEMINI_API_KEY")
  elsewhere = tmp_path / "elsewhere"
  assert _interpret(f"replay:{path}", asked, elsewhere) == live
  other = options.Options(model="other")
  with pytest.raises(directives.DirectiveError, match="king.*another model"):
    _interpret(f"replay:{path}", other, elsewhere)


def test_a_model_that_fails_leaves_the_complaint(keyed, tmp_path, monkeypatch):
  denied = gemini.error(403, "PERMISSION_DENIED", message=f"bad {KEY}")
  with gemini.Server(lambda *_: denied).running() as server:
    with pytest.raises(directives.DirectiveError) as caught:
      _interpret("gemini", _options(server), tmp_path)
    poor = _options(server, budget_dollars=0.001)
    with pytest.raises(directives.DirectiveError, match=r"of \$0.00 are left"):
      _interpret("gemini", poor, tmp_path)
    assert len(server.requests) == 1
  said = str(caught.value)
  assert said.startswith("'king' is not understood. Nor did the model m read")
  assert "403" in said and KEY not in said
  monkeypatch.delenv("GEMINI_API_KEY")
  with pytest.raises(directives.DirectiveError, match="king.*no key: set GEMI"):
    _interpret("gemini", OPTIONS, tmp_path)


@pytest.mark.parametrize("agent", ["offline", f"script:{DEMO}"])
def test_where_there_is_no_model_the_complaint_stands(agent, tmp_path):
  assert not choice.has_model(agent)
  with pytest.raises(directives.DirectiveError) as caught:
    _interpret(agent, OPTIONS, tmp_path)
  assert caught.value is COMPLAINT and not list(tmp_path.iterdir())
  assert choice.has_model("gemini") and choice.has_model("replay:t")
