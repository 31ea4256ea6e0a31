"""Choices of an agent: what is opened, what counts, what it will cost."""

import pathlib

import pytest

from poise_jax.discovery.agents import choice, scientists
from poise_jax.discovery.llm import options, transcripts

OPTIONS = options.Options()
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
