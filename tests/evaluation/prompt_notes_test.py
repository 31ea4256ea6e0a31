"""Policies that know the turns of a template, and others."""

import shutil

import pytest
import tokenizers

from poise_jax.evaluation import problem_sets, prompt_notes, running
from poise_jax.tasks import problem_set


@pytest.fixture(scope="module")
def policy(checkpoint):
  return running.describe(checkpoint)


def _asked(template=None):
  scored = problem_sets.ScoredSet(
      "AMC", "accuracy", 1, 0.0, 0.0, 8,
      (problem_set.Problem("p/0", "1+1?", "2"),), lambda *_: [], template,
  )  # fmt: skip
  return [running.Asked(scored, [[1]], {}, 8)]


def test_a_template_that_the_tokenizer_does_not_know(policy):
  (note,) = prompt_notes.notes(policy, running.Settings(), _asked())
  assert "has no token <|im_start|> or <|im_end|>" in note
  assert "--template=r1 or --template=none, for it brings no" in note
  assert note.endswith("measured on AMC.")


def test_one_that_brings_its_own(checkpoint, tmp_path):
  directory = shutil.copytree(checkpoint, tmp_path / "policy")
  (directory / "chat_template.jinja").write_text("{{ messages[0].content }}")
  found = running.describe(directory)
  (note,) = prompt_notes.notes(found, running.Settings(), _asked())
  assert "Give --template=tokenizer for the chat template" in note


def test_nothing_to_say(policy, checkpoint, tmp_path):
  for template in ("r1", "none", "tokenizer"):
    settings = running.Settings(template=template)
    assert prompt_notes.notes(policy, settings, _asked()) == []
  # Embedded sets are asked in their own way.
  assert prompt_notes.notes(policy, running.Settings(), _asked("none")) == []
  directory = shutil.copytree(checkpoint, tmp_path / "turns")
  path = directory / "tokenizer.json"
  tokenizer = tokenizers.Tokenizer.from_file(str(path))
  tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
  tokenizer.save(str(path))
  found = running.describe(directory)
  assert prompt_notes.notes(found, running.Settings(), _asked()) == []
