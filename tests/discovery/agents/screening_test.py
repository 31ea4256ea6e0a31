"""Twins out, nonsense out, the best first."""

import importlib.util
import json
import pathlib

import pytest

from poise_jax.discovery.agents import context, research, screening
from poise_jax.discovery.llm import exchange

_PATH = pathlib.Path(__file__).parents[1] / "llm" / "gemini.py"
_SPEC = importlib.util.spec_from_file_location("gemini", _PATH)
gemini = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gemini)

CONTEXT = context.Context(
    "012", 12, context.Parent("c-001", "grpo", "HPARAMS = {}\n")
)
GRPO = (
    "A = (r - mean_g r) / (std_g r + 1e-6); w = exp(logp - old);"
    " loss = - mean_tokens min(w sg(A), clip(w, 1 - c, 1 + c) sg(A))"
)


def _idea(name, equations=None):
  value = gemini.idea(name)
  if equations is not None:
    value["equations"] = equations
  return research.Idea.model_validate_json(json.dumps(value))


def _screen(*marks, ideas, **options):
  agents = gemini.Agents(screening=[gemini.marks(*marks)])
  return screening.screen(agents.ask, CONTEXT, ideas, **options), agents


def test_texts_are_compared_by_what_they_say():
  assert screening.similarity(GRPO, GRPO.upper().replace(" ", "  ")) == 1.0
  assert screening.similarity("a b c d", "e f g h") == 0.0
  # a b c, b c d against b c d, c d e: one of three.
  assert screening.similarity("a b c d", "b c d e") == pytest.approx(1 / 3)


def test_textual_twins_are_found_and_variations_are_not():
  ideas = [
      _idea("one", GRPO),
      _idea("again", GRPO.replace(";", ";\n").replace("A =", "a =")),
      _idea("batch", GRPO.replace("std_g", "std_batch")),
      _idea("negated", GRPO.replace("- mean_tokens", "+ mean_tokens")),
      _idea("old", "loss = mean over everything of what was tried before"),
  ]
  known = ["Loss = mean over everything of what was tried before."]
  assert screening.twins(ideas, known) == {
      1: "idea 0",
      4: "an idea that was tried",
  }


def test_the_best_sound_idea_is_first():
  ideas = [_idea(n) for n in ("a_one", "b_two", "c_three", "d_four")]
  ranked, _ = _screen(3, 5, 2, 5, ideas=ideas)
  assert ranked.order == (1, 3, 0)  # of equals the earlier; 2 makes no sense
  assert ranked.data["marks"]["1"]["score"] == 5.0
  assert ranked.data["marks"]["2"]["reason"] == "as it stands"
  json.dumps(ranked.data)


def test_weights_by_hand():
  marks = screening.Marks(
      idea=0,
      consistency=5,
      feasibility=4,
      novelty=1,
      expected_gain=3,
      reason="known",
  )
  # 0.3 * 5 + 0.2 * 4 + 0.2 * 1 + 0.3 * 3
  assert marks.score == pytest.approx(3.4) and marks.sound
  assert sum(screening.WEIGHTS.values()) == pytest.approx(1.0)
  for name in ("consistency", "feasibility"):
    assert not marks.model_copy(update={name: 2}).sound


def test_a_twin_is_not_even_shown():
  shown = []

  def ask(prompt, schema):
    shown.append(prompt.text)
    return gemini.Agents(screening=[gemini.marks(1, 4)]).ask(prompt, schema)

  ideas = [_idea("one", GRPO), _idea("two")]
  ranked = screening.screen(ask, CONTEXT, ideas, known=[GRPO])
  assert ranked.order == (1,)  # and marks for what was not asked count nothing
  assert "idea 1: two" in shown[0] and "idea 0" not in shown[0]
  ranked, agents = _screen(5, ideas=ideas[:1], known=[GRPO])
  assert ranked.order == () and agents.asked == []
  assert ranked.data["twins"] == {"0": "an idea that was tried"}


def test_ideas_without_marks_are_not_built():
  ideas = [_idea("one"), _idea("two")]
  ranked, _ = _screen(4, ideas=ideas)
  assert ranked.order == (0,) and ranked.data["unmarked"] == [1]
  with pytest.raises(exchange.AnswerError, match="marks for none"):
    _screen(ideas=ideas)
