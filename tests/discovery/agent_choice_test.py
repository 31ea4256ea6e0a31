"""Choices of an agent: what is opened, what counts, what it will cost."""

import pathlib

import pytest

from poise_jax.discovery import (
    agent_choice,
    llm_options,
    llm_transcripts,
    scientists,
)

OPTIONS = llm_options.Options()
DEMO = pathlib.Path(__file__).parents[2] / "experiments" / "replay_demo.toml"


@pytest.mark.parametrize(
    "agent", ["", "gpt", "gemini:x", "offline:", "replay", "replay:", "script"]
)
def test_others_are_refused(agent):
  if agent == "offline:":
    assert agent_choice.read(agent)[0] is agent_choice.KINDS["offline"]
    return
  known = "one of offline, gemini, replay:PATH, script:PATH, got"
  with pytest.raises(ValueError, match=known):
    agent_choice.read(agent)


def test_a_path_may_hold_colons():
  assert agent_choice.read("replay:C:/t")[1] == "C:/t"


def test_offline_is_opened_without_a_trace(tmp_path):
  with agent_choice.opened("offline", OPTIONS, tmp_path) as asked:
    assert isinstance(asked, scientists.Scientists) and asked.bill() == ""
  assert not list(tmp_path.iterdir())
  assert agent_choice.identity("offline", OPTIONS) == {}
  assert agent_choice.forecast("offline", OPTIONS, 9) == []


def test_a_model_keeps_its_transcript_where_the_campaign_is(
    tmp_path, monkeypatch
):
  monkeypatch.setenv("GEMINI_API_KEY", "k")
  with agent_choice.opened("gemini", OPTIONS, tmp_path) as asked:
    assert asked.bill().startswith("gemini-3-pro-preview: 0 calls, $0.00")
  path = tmp_path / agent_choice.TRANSCRIPT
  assert llm_transcripts.read(path) == []
  with agent_choice.opened(f"replay:{path}", OPTIONS, tmp_path) as asked:
    assert asked.bill() == ""


def test_a_replay_is_the_campaign_that_was_recorded(tmp_path):
  identity = agent_choice.identity("gemini", OPTIONS)
  assert identity == agent_choice.identity("replay:/any/where", OPTIONS)
  richer = llm_options.Options(budget_dollars=99.0, base_url="https://a.org")
  assert identity == agent_choice.identity("gemini", richer)
  other = llm_options.Options(model="other")
  assert identity != agent_choice.identity("gemini", other)
  assert identity != agent_choice.identity(f"script:{DEMO}", OPTIONS)
  with pytest.raises(FileNotFoundError):
    agent_choice.identity(f"script:{tmp_path}/none", OPTIONS)


def test_the_plan_says_what_it_will_cost():
  # 6 calls for each of 9, 9,000 tokens in at $2 and 7,000 out at $12.
  (line,) = agent_choice.forecast("gemini", OPTIONS, 9)
  assert "about 54 calls, $5.51, of at most $10.00" in line
  assert agent_choice.forecast(f"script:{DEMO}", OPTIONS, 9) == []
  unknown = llm_options.Options(model="unknown")
  with pytest.raises(ValueError, match="must have a known price"):
    agent_choice.forecast("gemini", unknown, 9)
