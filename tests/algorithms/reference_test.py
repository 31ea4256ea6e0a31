"""The document says what the catalogue says."""

import pathlib
import re

import pytest

from poise_jax.algorithms import catalog, reference

DOCUMENT = pathlib.Path(reference.__file__).with_name("README.md")


def test_the_document_is_up_to_date():
  written = DOCUMENT.read_text("utf-8")
  assert written == reference.markdown(), (
      "run: python launch/catalog.py"
      " --markdown=poise_jax/algorithms/README.md"
  )


def test_every_entry_has_a_row_and_a_section():
  text = reference.markdown()
  for name in catalog.names():
    assert text.count(f"\n| {name} | ") == 1
    assert text.count(f"\n### {name}\n") == 1


def test_rows_of_every_table_have_four_cells():
  rows = [x for x in reference.markdown().splitlines() if x.startswith("|")]
  assert len(rows) > len(catalog.names())
  for row in rows:
    assert len(re.findall(r"(?<!\\)\|", row)) == 5, row


def test_a_row_has_the_numbers():
  text = reference.markdown()
  row = next(x for x in text.splitlines() if x.startswith("| dapo |"))
  assert "clip_eps_low 0.2, clip_eps_high 0.28, epsilon 1e-06" in row
  assert "https://arxiv.org/abs/2503.14476" in row


def test_text_of_one_entry():
  text = reference.text("vm_av_grpo")
  assert text.startswith("vm_av_grpo (POISE: scaling)\n\nVM-AV-GRPO: ")
  for words in (
      "Published: length_low",
      "Reconstructed: ",
      "Source: POISE",
      "invalid_advantage -3.5",
  ):
    assert words in text
  assert "Published: " not in reference.text("rloo")
  with pytest.raises(ValueError, match="mean 'dr_grpo'"):
    reference.text("drgrpo")
