"""Readings of our numbers: no numbers of its own, no sealed results."""

import importlib.util
import json
import pathlib

import pytest

from poise_jax.discovery import reflection, yardstick
from poise_jax.discovery.agents import analysis
from poise_jax.discovery.evidence import pairing
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths

_PATH = pathlib.Path(__file__).parents[1] / "llm" / "gemini.py"
_SPEC = importlib.util.spec_from_file_location("gemini", _PATH)
gemini = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gemini)


@pytest.fixture
def evidence(make):
  """Root and child on four seeds, and the child on sealed problems."""

  def of(index, name, scores, **more):
    runs = [make.evaluation(index, s, score) for s, score in enumerate(scores)]
    return pairing.Evidence(f"c-{index}", name, {}, [*runs, *more.values()])

  sealed = make.evaluation(1, 0, 77.77, split="sealed")
  root = of(0, "grpo", [40.0, 42.0, 41.0, 43.0])
  child = of(1, "clip-001", [45.0, 47.5, 46.0, 47.0], sealed=sealed)
  child.mechanisms.update(prediction={"overall": 1, "kl": -1})
  return root, child


def _reflect(evidence, yardstick=yardstick.OVERALL, prefer="", **reply):
  root, child = evidence
  prompts = []
  said = gemini.ANALYSIS | reply

  def ask(prompt, schema):
    prompts.append(prompt)
    return gemini.Agents(analysis=[said]).ask(prompt, schema)

  text, data = analysis.reflect(
      ask,
      child,
      root,
      root,
      label="001",
      rationale="it clips",
      findings=[{"level": "advisory", "rule": "r", "message": "look here"}],
      prefer=prefer,
      yardstick=yardstick,
  )
  json.dumps(data)
  return text, data, prompts


def test_the_numbers_are_those_of_the_rules(evidence):
  root, child = evidence
  text, data, _ = _reflect(evidence)
  plain, numbers = reflection.reflect(analysis.visible(child), root, root)
  assert {k: v for k, v in data.items() if k != "analysis"} == numbers
  assert numbers["seeds"] == [0, 1, 2, 3]
  assert text.startswith(plain) and len(text) > len(plain)
  assert "A model's reading, confidence low:" in text
  assert "It would keep where the pass rate is low." in text
  assert data["suggestion"] == "keep"
  assert not data["analysis"]["supported"]
  assert _reflect(evidence, verdict="keep")[1]["analysis"]["supported"]


def test_the_agent_sees_numbers_gates_and_nothing_sealed(evidence):
  _, _, (prompt,) = _reflect(evidence)
  for expected in ("+4.88", "it clips", "[advisory r] look here", "confirmed"):
    assert expected in prompt.text
  assert "77.77" not in prompt.text and "sealed" not in prompt.text
  assert prompt.label == "analysis 001"


def test_what_it_says_cannot_change_the_suggestion(evidence):
  _, data, _ = _reflect(
      evidence, verdict="drop", next_directions=["suggestion: drop, 99.9"]
  )
  assert data["suggestion"] == "keep"
  assert data["analysis"]["unfounded"] == ["99.9"]


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        ("it rose by 4.88 over 4 seeds", []),
        ("it rose by 4.9", []),  # rounded
        ("it fell from -4.88", []),
        ("it rose by 5", []),
        ("it rose by 12.3 and 12.3", ["12.3"]),
        ("about 50 %", ["50"]),
        ("in arXiv:2402.03300 as pass_at_32", []),
    ],
)
def test_numbers_that_we_did_not_give(said, missing):
  given = "Overall +4.875 [1.2, 8.6] over 4 seeds, see 2402.03300"
  assert analysis.unfounded(said, given) == missing


def test_a_root_is_its_own_reference(evidence):
  root, _ = evidence
  agents = gemini.Agents()
  text, data = analysis.reflect(agents.ask, root, None, root, label="0")
  assert data["suggestion"] == "keep" and "is the root" in text


def test_every_run_is_told_with_its_budget(evidence, make):
  root, child = evidence
  smoke = make.evaluation(1, 0, 0.0, budget="smoke", metrics={})
  far = make.evaluation(1, 1, 20.5, budget="quarter")
  far.curve["kl"] = [0.1, 5.0, 5.0, 5.0]
  child.evaluations[:0] = [smoke, far]
  _, _, (prompt,) = _reflect((root, child), prefer="quick")
  for said in (
      "smoke budget, seed 0: trained; this budget scores nothing",
      "quarter budget, seed 1: broke down: KL of 5 nats a token, above 3",
      "quick budget, seed 3: Overall 47.00",
      # The course is that of the budget that is meant.
      "reward over training (quick budget, seed 0): 0.1 0.2",
  ):
    assert said in prompt.text
  assert "what is wanted" not in prompt.text


def test_what_is_wanted_is_told_and_decides(evidence, make):
  """Evaluations differ in length by seed alone: nothing was gained."""
  objective = objectives.Objective((objectives.Term("response_length", "min"),))
  worth = worths.Worth(
      objective, {"overall": 41.5, "response_length": 11.5}, {}
  )
  candidates = [make.candidate(index, "x") for index in (0, 1)]
  wanted = yardstick.Yardstick(worth, {c.id: c for c in candidates})
  _, data, (prompt,) = _reflect(evidence, yardstick=wanted)
  assert data["suggestion"] == "undecided"
  assert "lower response_length (weight 1)" in prompt.text
  assert "Objective against grpo: +0.00" in prompt.text
