"""Directives steer a campaign, or are refused; nothing is dropped."""

import importlib.util
import json
import os
import pathlib
import socket

import pytest

from poise_jax.discovery import directives, search_config, steering
from poise_jax.discovery.agents import choice, scientists
from poise_jax.discovery.llm import options
from poise_jax.discovery.objectives import objective

_PATH = pathlib.Path(__file__).parent / "llm" / "gemini.py"
_SPEC = importlib.util.spec_from_file_location("gemini", _PATH)
gemini = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gemini)

SHORT = "Shorter answers without losing accuracy; keep it simple."


def test_a_directive_sets_the_objective():
  config = search_config.SearchConfig(directive=SHORT, rounds=5)
  steered = steering.steer(config)
  assert {t.metric: t.direction for t in steered.objective.terms} == {
      "response_length": "min",
      "description_length": "min",
  }
  (kept,) = steered.objective.constraints
  assert (kept.metric, kept.op, kept.relative) == ("overall", ">=", True)
  assert (steered.rounds, steered.directive) == (5, SHORT)
  assert steered.checked() is steered
  assert steering.steer(steered) == steered
  reading = steering.read(config)
  assert steering.steer(config, reading) == steered
  stored = json.loads(json.dumps(reading.to_json()))
  assert stored["text"] == SHORT and len(stored["lines"]) == 3
  assert stored["reader"] == steering.GRAMMAR
  assert objective.from_json(stored["objective"]) == steered.objective
  assert steering.from_json(stored) == reading
  first, *lines = reading.as_text()
  assert first == "The directive as the offline grammar read it:"
  assert lines == directives.explain(directives.parse(SHORT))


def test_without_one_nothing_changes():
  config = search_config.SearchConfig()
  assert steering.steer(config) is config
  assert steering.read(config) is None


def test_a_limit_of_candidates_caps_the_rounds():
  text = "Maximise accuracy with at most 10 candidates."
  config = search_config.SearchConfig(directive=text, rounds=9, children=3)
  assert steering.steer(config).rounds == 3


@pytest.mark.parametrize(
    ("text", "changes", "error", "words"),
    [
        ("make it sparkle", {}, directives.DirectiveError, "sparkle"),
        (
            "Maximise accuracy. Use at most 2 candidates.",
            {},
            ValueError,
            "`children` must be at most the 2 candidates",
        ),
        (
            "Maximise accuracy; the search may take at most 2 hours.",
            {},
            ValueError,
            "must not limit time",
        ),
        (
            "Maximise accuracy and spend up to $5.",
            {},
            ValueError,
            "must not limit dollars",
        ),
        (
            "Maximise accuracy and spend up to $5.",
            {"agent": "script:any.toml"},
            ValueError,
            "must not limit dollars",
        ),
        (
            "Maximise accuracy on AIME24.",
            {},
            ValueError,
            "`directive` must name recorded metrics, got accuracy/AIME24",
        ),
        (
            SHORT,
            {
                "objective": objective.Objective(
                    terms=(objective.Term("entropy", "max"),)
                )
            },
            ValueError,
            "not both",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused(text, changes, error, words):
  config = search_config.SearchConfig(directive=text, **changes)
  with pytest.raises(error, match=words):
    steering.steer(config)


@pytest.mark.parametrize("agent", ["gemini", "replay:t.jsonl"])
@pytest.mark.parametrize(
    "budget, said, least", [(10.0, 5, 5.0), (3.0, 5, 3.0), (0.0, 5, 0.0)]
)
def test_a_limit_of_dollars_caps_what_a_model_may_cost(
    agent, budget, said, least
):
  config = search_config.SearchConfig(
      agent=agent,
      llm=options.Options(model="m", budget_dollars=budget),
      directive=f"Maximise accuracy and spend up to ${said}.",
  )
  steered = steering.steer(config)
  assert steered.llm.budget_dollars == least
  assert steered.llm.model == "m" and config.llm.budget_dollars == budget
  assert steering.steer(steered) == steered


KEY = "AIza-secret-key-0123456789"
TEXT = "Brevity is king, and I'd not go past nine goes or four bucks."
FORM = {
    "terms": [
        {
            "clause": "Brevity is king",
            "metric": "response_length",
            "direction": "min",
        }
    ],
    "budget": [
        {
            "clause": "I'd not go past nine goes",
            "unit": "candidates",
            "amount": 9,
        },
        {"clause": "or four bucks", "unit": "dollars", "amount": 4},
    ],
}


def _model(*replies):
  """A server that gives these replies one after the other."""
  return gemini.Server(
      lambda request, count: gemini.ok(json.dumps(replies[count]))
  ).running()


def _config(url, **changes):
  asked = options.Options(
      model="m", base_url=url, prompt_price=2.0, output_price=12.0
  )
  fields = dict(name="test", directive=TEXT, agent="gemini", llm=asked)
  return search_config.SearchConfig(**fields | changes)


def _told(campaign):
  return [
      (d.stage, d.subject, d.data)
      for d in campaign.archive.decisions(campaign.id)
  ]


def _refuse(*_, **__):
  raise AssertionError("opened a socket")


def test_a_model_reads_what_the_grammar_cannot(
    campaigns, tmp_path, monkeypatch
):
  for name in list(os.environ):
    if name.lower().endswith("_proxy") or name.startswith(("GOOGLE", "GEMINI")):
      monkeypatch.delenv(name)
  monkeypatch.setenv("GEMINI_API_KEY", KEY)
  wrong = FORM | {"terms": [FORM["terms"][0] | {"metric": "brevity"}]}
  live, again = campaigns("live"), campaigns("again")
  with _model(wrong, FORM) as server:
    config = _config(server.url, rounds=9, children=3)
    with pytest.raises(directives.DirectiveError, match="'king'"):
      steering.read(config, live.archive)  # without a place for a transcript
    reading = steering.read(config, live.archive, tmp_path)
    assert len(server.requests) == 2 and "`metric` must be" in str(
        server.requests[1]
    )
  assert reading.as_text()[0] == "The directive as the model m read it:"
  assert reading.as_text()[2].endswith("spend at most 9 candidates")
  steered = steering.steer(config, reading)
  assert steered.objective.metrics == ("response_length",)
  assert (steered.rounds, steered.llm.budget_dollars) == (3, 4.0)
  assert steered.checked() is steered
  steering.keep(live, reading)
  (stage, _, stored), *exchanges = _told(live)
  assert (stage, stored["reader"]) == ("directive", "the model m")
  assert [e[0] for e in exchanges] == [scientists.STAGE] * 2
  assert KEY not in json.dumps(_told(live))

  # A campaign that is continued does not ask, nor a replay open a socket.
  monkeypatch.setattr(socket, "socket", _refuse)
  monkeypatch.setattr(socket, "create_connection", _refuse)
  monkeypatch.delenv("GEMINI_API_KEY")
  known = steering.read(config, live.archive, tmp_path / "none")
  assert known == steering.from_json(stored) and not known.exchanges
  assert steering.steer(config, known) == steered
  steering.keep(live, known)
  path = tmp_path / choice.TRANSCRIPT
  config = _config(server.url, agent=f"replay:{path}")
  replayed = steering.read(config, again.archive, tmp_path / "none")
  assert replayed == reading
  steering.keep(again, replayed)
  assert _told(again) == _told(live)
  # What was paid for serves any campaign in its place; other words do not.
  other = _config(server.url, name="other")
  assert steering.read(other, live.archive, tmp_path) == reading
  other = _config(server.url, directive=TEXT + " Really.")
  with pytest.raises(directives.DirectiveError, match="'king'"):
    steering.read(other, live.archive)
