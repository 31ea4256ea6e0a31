"""Admission: what a verdict makes of a draft."""

import dataclasses

import pytest

from poise_jax.algorithms import catalog
from poise_jax.candidates import findings, known
from poise_jax.discovery import admission

GRPO = catalog.source("grpo")


def _draft(source, role="generated"):
  return admission.Draft(
      name="one",
      role=role,
      generation=2,
      parents=("c0ffee-000",),
      source=source,
      mechanisms={"operator": "none"},
      rationale="to see",
  )


@pytest.fixture
def judge(verify):
  """Judges a draft as the second candidate of a campaign."""

  def judge(draft, candidates=()):
    verdict = verify(draft.text, None, known=known.catalogue(), group_size=4)
    return admission.judged(draft, verdict, "c0ffee", 1, candidates)

  return judge


def test_what_passed_is_admitted_with_all_that_is_known_of_it(judge):
  candidate = judge(_draft(GRPO))
  assert (candidate.id, candidate.index) == ("c0ffee-001", 1)
  assert candidate.accepted and candidate.artifact and candidate.twin_of is None
  assert candidate.hparams == catalog.describe("grpo").defaults
  assert (candidate.generation, candidate.parents) == (2, ("c0ffee-000",))
  assert (candidate.role, candidate.rationale) == ("generated", "to see")
  assert candidate.fingerprint and candidate.canonical and candidate.nearest
  assert candidate.intrinsic["flops"] > 0


def test_what_failed_is_kept_without_a_program(judge):
  candidate = judge(_draft("import os"))
  assert not candidate.accepted and candidate.artifact is None
  assert candidate.findings[0]["rule"] == "construct"


@pytest.mark.parametrize(
    ("role", "twin"),
    [("generated", True), ("clone", False), ("variant", False)],
)
def test_only_what_was_proposed_can_be_a_twin(judge, role, twin):
  original = judge(_draft(GRPO, role="root"))
  candidate = judge(_draft(GRPO + "\n# Again.\n", role), [original])
  assert (candidate.twin_of == original.id) == twin
  assert candidate.accepted != twin


def test_half_a_surrogate_pair_becomes_a_question_mark():
  assert _draft("x = '\ud800'").text == "x = '?'"


def test_what_is_objected_to_is_refused_though_it_passes(judge):
  why = findings.contract("oracle", "two implementations differ", "say which")
  draft = dataclasses.replace(_draft(GRPO), objections=(why,))
  candidate = judge(draft, [judge(_draft(GRPO))])
  assert not candidate.accepted and candidate.artifact is None
  assert candidate.twin_of is None and candidate.fingerprint
  assert candidate.findings[-1] == why.to_json()
