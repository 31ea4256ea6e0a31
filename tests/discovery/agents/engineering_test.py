"""Plan, generate, verify, mend: bounded, and judged by second opinions.

Sources stand for gradients here; the real gate is in the slow test.
"""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.candidates import findings, fingerprint, verification
from poise_jax.candidates import jail as jail_lib
from poise_jax.discovery.agents import engineering, research
from poise_jax.discovery.llm import exchange

_PATH = pathlib.Path(__file__).parents[1] / "llm" / "gemini.py"
_SPEC = importlib.util.spec_from_file_location("gemini", _PATH)
gemini = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gemini)

IDEA = research.Idea.model_validate_json(json.dumps(gemini.idea()))


def _slopes(slope):
  slopes = np.ones((2, 2, 1, 2, 2), np.float32)
  slopes[1] = slope
  return fingerprint.to_bytes(
      fingerprint.Fingerprint("s", ("mixed", "all_fail"), slopes)
  )


# Source -> how its gradients differ on one probe; those missing are refused.
GRADIENTS = {"good": 1.0, "same": 1.001, "bad": 3.0, "odd": -2.0}


def _check(source):
  if source == "claims":
    finding = findings.Finding("declared", "neutral", "not neutral", "mend")
    return verification.Verdict(True, (finding,), fingerprint=_slopes(1.0))
  if source == "blind":
    finding = findings.Finding("declared", "neutral", "not neutral", "mend")
    return verification.Verdict(True, (finding,))
  if source not in GRADIENTS:
    finding = findings.contract("scope", f"{source} is refused", "mend it")
    return verification.Verdict(False, (finding,))
  slope = GRADIENTS[source]
  return verification.Verdict(True, (), fingerprint=_slopes(slope))


def _build(sources, oracles=("good",), failures=None, **options):
  """Builds; `failures` names prompts by their labels, and what they raise."""
  agents = gemini.Agents(sources, oracles)
  prompts = []

  def ask(prompt, schema):
    if failure := (failures or {}).get(prompt.label):
      raise failure
    prompts.append(prompt)
    return agents.ask(prompt, schema)

  found = engineering.build(
      ask, IDEA, "PARENT SOURCE", _check, label="012", **options
  )
  json.dumps(found.data)
  assert len({p.label for p in prompts}) == len(prompts)
  return found, agents.asked, prompts


def test_what_agrees_with_the_oracle_holds():
  found, asked, prompts = _build(["same"])
  assert found.ok and found.source == "same" and found.findings == ()
  assert asked == ["plan", "code", "oracle"]
  assert found.data["standing"] == "agrees"
  assert found.data["oracles"] == [{"source": "good", "faults": []}]
  plan, code, second = prompts
  assert "PARENT SOURCE" in plan.text and "PARENT SOURCE" in code.text
  assert "group_normalized" in code.text  # its own plan
  assert "PARENT SOURCE" not in second.text


def test_findings_are_fed_back():
  found, asked, prompts = _build(["import os", "claims", "good"])
  assert found.ok and len(found.rounds) == 3
  assert asked == ["plan", "code", "code", "oracle", "code"]
  assert "[scope] import os is refused (mend it)" in prompts[2].text
  assert "your last module =====\nimport os" in prompts[2].text
  assert "[neutral] not neutral (mend)" in prompts[4].text
  assert [r.standing for r in found.rounds] == [None, "agrees", "agrees"]


def test_a_difference_brings_a_second_oracle():
  # The first oracle is wrong, the second is not: the source holds at once.
  found, asked, _ = _build(["good"], ["bad", "good"])
  assert found.ok and asked == ["plan", "code", "oracle", "oracle"]
  # Two agree against the source: it is mended, with no third opinion.
  found, asked, prompts = _build(["bad", "good"], ["good", "same"])
  assert found.ok and asked == ["plan", "code", "oracle", "oracle", "code"]
  assert "agree with each other" in prompts[-1].text
  assert "all_fail (0.66" in prompts[-1].text
  # Nobody agrees with anybody.
  _, _, prompts = _build(["bad", "good"], ["good", "odd"])
  assert "the equations may be unclear" in prompts[-1].text


def test_no_prompt_of_the_engineer_shows_an_oracle():
  oracle_text = "good"
  _, _, prompts = _build(["bad", "odd", "bad", "odd"], [oracle_text])
  for prompt in prompts:
    if prompt.label.startswith("code"):
      assert f"\n{oracle_text}\n" not in prompt.text


def test_failures_end_and_are_evidence():
  found, asked, _ = _build(["bad"])
  assert not found.ok and asked.count("code") == 4
  assert len(found.rounds) == 4 and found.data["standing"] == "differs"
  (finding,) = found.findings
  assert (finding.level, finding.rule) == ("contract", "oracle")
  assert "all_fail" in finding.message
  found, asked, _ = _build(["no", "non", "nein"], repairs=1)
  assert not found.ok and asked == ["plan", "code", "code"]
  # The gate has said it already.
  assert found.findings == () and not found.verdict.ok
  assert found.data["rounds"][1]["faults"] == [
      "[scope] non is refused (mend it)"
  ]


def test_a_false_claim_alone_does_not_refuse():
  found, asked, _ = _build(["claims"])
  assert found.ok and asked.count("code") == 4 and found.findings == ()


def test_without_an_oracle_it_stands_unchecked():
  found, _, _ = _build(["good"], ["import os"])
  assert found.ok and found.data["standing"] == "unchecked"
  assert "refused" in found.data["oracles"][0]["faults"][0]


def test_a_model_that_fails_ends_it():
  def ask(prompt, schema):
    raise exchange.CallError("gone")

  with pytest.raises(exchange.CallError):
    engineering.build(ask, IDEA, "", _check, label="0")
  with pytest.raises(ValueError, match="`repairs` must be at least 0"):
    _build(["good"], repairs=-1)


# Name -> sources, oracles, which one stays, whether it holds, its standing.
BEST = {
    "broken later": (["claims", "no", "bad"], ["good"], 0, True, "agrees"),
    "the last of equals": (["claims", "claims"], ["good"], 1, True, "agrees"),
    "agreeing before unchecked": (
        ["claims", "blind", "blind"], ["good"], 0, True, "agrees",
    ),
    "unchecked before refused": (["blind", "no"], ["no"], 0, True, "unchecked"),
    "none holds": (["bad", "no"], ["good"], 1, False, None),
}  # fmt: skip


@pytest.mark.parametrize("name", BEST)
def test_the_best_source_stays(name):
  sources, oracles, chosen, ok, standing = BEST[name]
  found, _, _ = _build(sources, oracles, repairs=len(sources) - 1)
  assert len(found.rounds) == len(sources)
  assert (found.ok, found.source) == (ok, sources[chosen])
  assert found.verdict.ok == ok
  told = found.data
  assert (told["ok"], told["chosen"], told["standing"]) == (
      ok, chosen, standing,
  )  # fmt: skip
  assert told["stopped"] == ""


@pytest.mark.parametrize(
    "failure",
    [
        exchange.CallError("gone"),
        exchange.BudgetError("spent"),
        exchange.AnswerError("no JSON", ("cut",)),
    ],
)
def test_a_model_that_fails_leaves_what_was_made(failure):
  found, asked, _ = _build(["claims"], failures={"code 012 1": failure})
  assert found.ok and found.source == "claims"
  assert asked == ["plan", "code", "oracle"]
  assert found.data["stopped"] == str(failure) and found.data["chosen"] == 0
  # What did not hold is evidence, not a candidate.
  found, _, _ = _build(["bad"], failures={"code 012 1": failure})
  assert not found.ok and found.findings[0].rule == "oracle"


def test_a_replay_that_lacks_an_exchange_ends_it():
  missing = exchange.MissError("not recorded", "0" * 64, ())
  with pytest.raises(exchange.MissError):
    _build(["claims"], failures={"code 012 1": missing})


def test_the_faults_are_those_of_the_source_that_is_kept():
  rounds = tuple(
      engineering.Round("0" * 64, (fault,), "differs", None)
      for fault in ("kept apart", "another fault")
  )
  verdict = verification.Verdict(True, ())
  own = engineering.Build(False, "s", verdict, rounds, {"chosen": 0})
  (finding,) = own.findings
  assert "kept apart" in finding.message
  assert "another fault" not in finding.message


@pytest.mark.slow
def test_through_the_real_jail(tmp_path):
  """Hostile code, then the right one; a hostile oracle, then a right one."""
  grpo, bn_grpo = catalog.source("grpo"), catalog.source("bn_grpo")
  trap = tmp_path / "escaped"
  hostile = f"open({str(trap)!r}, 'w').write('x')\n{grpo}"
  agents = gemini.Agents([hostile, bn_grpo, grpo], [hostile, grpo])
  with jail_lib.Jail() as jail:
    found = engineering.build(
        agents.ask,
        IDEA,
        grpo,
        lambda source: verification.verify(source, jail),
        label="012",
    )
  assert not trap.exists()
  assert found.ok and found.source == grpo
  assert [r.standing for r in found.rounds] == [None, "differs", "agrees"]
  assert found.verdict.artifact is not None
