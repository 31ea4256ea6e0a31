"""Second opinions: through the same gate, compared by their gradients."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

from poise_jax.candidates import findings, fingerprint, verification
from poise_jax.candidates import jail as jail_lib
from poise_jax.discovery.agents import oracle, research
from poise_jax.discovery.llm import exchange

_PATH = pathlib.Path(__file__).parents[1] / "llm" / "gemini.py"
_SPEC = importlib.util.spec_from_file_location("gemini", _PATH)
gemini = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gemini)

IDEA = research.Idea.model_validate_json(json.dumps(gemini.idea()))
SLOPES = np.zeros((3, 2, 1, 2, 2), np.float32)
SLOPES[:, 0] = [[[[1.0, -2.0], [0.5, 0.0]]]]


def _packed(slopes, suite="s"):
  names = ("mixed", "all_fail", "padded")
  return fingerprint.to_bytes(fingerprint.Fingerprint(suite, names, slopes))


def _changed(index, value):
  slopes = SLOPES.copy()
  slopes[index] = value
  return slopes


def test_the_same_gradients_agree():
  # A guard of another size: off by 0.4 % of the largest slope.
  other = _packed(_changed((0, 0, 0, 0, 0), 1.008))
  found = oracle.compare(_packed(SLOPES), other)
  assert found.agrees and found.worst["mixed"] == pytest.approx(0.004)
  json.dumps(found.to_json())


def test_another_formula_is_named_by_its_probe():
  other = _packed(_changed((1, 0, 0, 0, 1), -1.0))
  found = oracle.compare(_packed(SLOPES), other)
  assert not found.agrees
  assert next(iter(found.worst.items())) == ("all_fail", 0.5)
  assert "all_fail (0.5)" in found.words


def test_a_common_factor_is_named():
  found = oracle.compare(_packed(8 * SLOPES), _packed(SLOPES))
  assert not found.agrees and found.factor == 8.0
  assert found.words == "they differ by the factor 8 alone"


def test_other_probes_cannot_be_compared():
  found = oracle.compare(_packed(SLOPES), _packed(SLOPES, "t"))
  assert not found.agrees and "different sizes" in found.words


def _gate(seen, refused=()):
  def check(source):
    seen.append(source)
    if source in refused:
      finding = findings.contract("scope", "no `os`", "leave it out")
      return verification.Verdict(False, (finding,))
    return verification.Verdict(True, (), fingerprint=_packed(SLOPES))

  return check


def test_an_oracle_goes_through_the_gate_and_sees_no_code():
  prompts, seen = [], []

  def ask(prompt, schema):
    prompts.append(prompt)
    return gemini.Agents().ask(prompt, schema)

  found = oracle.write(ask, IDEA, _gate(seen), label="012 0")
  assert found == oracle.Oracle("good", _packed(SLOPES)) and seen == ["good"]
  (prompt,) = prompts
  assert prompt.label == "oracle 012 0 0"
  assert IDEA.equations in prompt.text and "plan" not in prompt.text


def test_a_hostile_oracle_is_refused_and_may_be_mended():
  hostile = "import os\nos.system('x')"
  agents, seen = gemini.Agents(oracles=[hostile, "good"]), []
  found = oracle.write(agents.ask, IDEA, _gate(seen, {hostile}), label="0")
  assert found.fingerprint and seen == [hostile, "good"]
  agents, seen = gemini.Agents(oracles=[hostile]), []
  found = oracle.write(agents.ask, IDEA, _gate(seen, {hostile}), label="0")
  assert found.fingerprint is None and found.source == hostile
  assert found.faults == ("[scope] no `os` (leave it out)",)
  assert seen == [hostile, hostile]


@pytest.mark.parametrize(
    "error",
    [
        exchange.AnswerError("none", ("f",)),
        exchange.CallError("busy"),
        exchange.BudgetError("no money"),
    ],
)
def test_without_a_model_there_is_no_oracle(error):
  def ask(prompt, schema):
    raise error

  found = oracle.write(ask, IDEA, _gate([]), label="0")
  assert found.fingerprint is None and str(error) in found.faults


def test_a_replay_that_lacks_it_is_an_error():
  def ask(prompt, schema):
    raise exchange.MissError("not there", "d", ())

  with pytest.raises(exchange.MissError):
    oracle.write(ask, IDEA, _gate([]), label="0")


def test_a_busy_machine_says_nothing_of_a_source():
  verdict = verification.Verdict(
      False, (findings.contract("busy", "no time", "later"),), conclusive=False
  )
  with pytest.raises(jail_lib.JailError, match="no time"):
    oracle.checked(lambda source: verdict, "x")


def test_sources_can_be_stored():
  code = oracle.Code(source="a\r\n\x00b", notes="")
  assert code.source == "a\n\ufffdb"
