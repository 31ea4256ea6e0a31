"""Ideas with all they need, or none."""

import importlib.util
import json
import pathlib

import pydantic
import pytest

from poise_jax.discovery.agents import context, research
from poise_jax.discovery.llm import asking

_PATH = pathlib.Path(__file__).parents[1] / "llm" / "gemini.py"
_SPEC = importlib.util.spec_from_file_location("gemini", _PATH)
gemini = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gemini)

CONTEXT = context.Context(
    "012", 12, context.Parent("c-001", "grpo", "HPARAMS = {}\n")
)


def _read(**changes):
  text = json.dumps(gemini.idea(**changes))
  return research.Idea.model_validate_json(text)


def test_ideas_are_asked_for_with_the_context():
  prompts = []

  def ask(prompt, schema):
    prompts.append(prompt)
    return gemini.Agents().ask(prompt, schema)

  found = research.ideate(ask, CONTEXT, count=4)
  assert [idea.name for idea in found] == ["steady_clip", "other_way"]
  (prompt,) = prompts
  assert prompt.label == "research 012"
  assert context.render(CONTEXT) in prompt.text
  assert "give\n4 ideas that each change grpo" in prompt.text
  assert len(research.ideate(ask, CONTEXT, count=1)) == 1
  with pytest.raises(ValueError, match="`count` must be at least 1"):
    research.ideate(ask, CONTEXT, count=0)


def test_predictions_are_signs_that_can_be_checked():
  assert _read().signs == {"overall": 1, "kl": -1}


def test_an_idea_survives_json():
  idea = _read()
  stored = json.loads(json.dumps(idea.to_json()))
  assert research.Idea.model_validate(stored) == idea


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Big Idea"},
        {"name": "../x"},
        {"equations": "A = r"},
        {"predictions": []},
        {
            "predictions": [
                {"metric": "sealed", "direction": "higher", "because": "x"}
            ]
        },
        {
            "predictions": [
                {"metric": "overall", "direction": "sideways", "because": "x"}
            ]
        },
        {"edge_cases": {"all_fail": "0"}},
        {"tags": []},
        {"falsifier": " "},
        {
            "constants": [
                {"name": "__x__", "value": 1, "neutral": None, "meaning": "m"}
            ]
        },
        {
            "constants": [
                {"name": "x", "value": "1e999", "neutral": None, "meaning": "m"}
            ]
        },
    ],
)
def test_what_an_idea_lacks_is_a_fault(changes):
  with pytest.raises(pydantic.ValidationError):
    _read(**changes)


def test_the_schema_is_one_that_servers_know():
  schema = asking.wire_schema(research.Ideas)
  assert schema["$defs"]["Idea"]["properties"]["edge_cases"] == {
      "$ref": "#/$defs/EdgeCases"
  }
  text = json.dumps(schema)
  for word in ("pattern", "maxLength", "additionalProperties", "title"):
    assert f'"{word}":' not in text
