"""Findings and refusals, in words that do not vary."""

import dataclasses

import pytest

from poise_jax.candidates import findings


def test_a_finding_is_stored_with_all_its_words():
  finding = findings.Finding("declared", "neutral", "it moves", "stop it")
  assert finding.to_json() == {
      "level": "declared",
      "rule": "neutral",
      "message": "it moves",
      "hint": "stop it",
  }
  with pytest.raises(dataclasses.FrozenInstanceError):
    finding.rule = "other"


def test_a_finding_is_rebuilt_from_what_was_stored():
  finding = findings.Finding("advisory", "rule", "message", "hint")
  assert findings.from_json(finding.to_json()) == finding


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"level": "contract", "rule": "a", "message": "b"},
        {"level": "praise", "rule": "a", "message": "b", "hint": "c"},
        {"level": "contract", "rule": 1, "message": "b", "hint": "c"},
    ],
)
def test_what_is_no_finding_is_told_so(value):
  assert findings.from_json(value) is None


def test_what_no_database_can_store_is_replaced():
  raw = {"level": "contract", "rule": "\0r", "message": "\ud800", "hint": "\n"}
  finding = findings.from_json(raw)
  assert (finding.rule, finding.message, finding.hint) == (
      "\ufffdr",
      "\ufffd",
      "\ufffd",
  )
  assert findings.contract("rule", "a\udfffb", "hint").message == "a\ufffdb"


def test_a_refusal_carries_its_finding_and_reads_well():
  error = findings.RefusedError("state", "it is a list", "return a dict")
  assert str(error) == "state: it is a list"
  assert isinstance(error, ValueError)
  expected = findings.Finding(
      "contract", "state", "it is a list", "return a dict"
  )
  assert error.finding == expected


def test_a_message_of_any_length_is_cut():
  finding = findings.contract("rule", "x" * 10_000, "hint")
  assert finding.message == "x" * 600


def test_any_exception_becomes_a_refusal_that_names_its_type():
  with pytest.raises(findings.RefusedError) as caught:
    with findings.refusing("artifact", "it is cut off", "verify it again"):
      raise OverflowError("at 0x7f00, in /tmp/file")
  assert caught.value.finding == findings.contract(
      "artifact", "it is cut off (OverflowError)", "verify it again"
  )
  assert isinstance(caught.value.__cause__, OverflowError)


def test_a_refusal_passes_unchanged_and_success_is_silent():
  inner = findings.RefusedError("inner", "first", "hint")
  with pytest.raises(findings.RefusedError) as caught:
    with findings.refusing("outer", "second", "hint"):
      raise inner
  assert caught.value is inner
  with findings.refusing("outer", "second", "hint"):
    pass


def test_storable_text_keeps_its_lines():
  assert findings.storable("a\0b\n\ud800c\td\n") == "a\ufffdb\n\ufffdc\ufffdd\n"


def test_an_interrupt_is_not_a_refusal():
  with pytest.raises(KeyboardInterrupt):
    with findings.refusing("rule", "message", "hint"):
      raise KeyboardInterrupt
