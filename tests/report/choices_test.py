"""The section on a real page, of a campaign with choices as a search logs."""

import importlib.util
import pathlib

import pytest

from poise_jax.archive import records, store
from poise_jax.report import choices, page

TESTS = pathlib.Path(__file__).parents[1]
HOSTILE = "</td><script>alert(1)</script>"


def _load(path):
  spec = importlib.util.spec_from_file_location(f"of_{path.stem}", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


_campaigns = _load(TESTS / "discovery" / "parents" / "review_test.py")
_pages = _load(TESTS / "report" / "page_test.py")
grown = _campaigns.grown  # makes a campaign of so many rounds, as a fixture


def test_a_campaign_with_choices_has_the_section(grown, tmp_path):
  path = page.write(grown(3), "c0ffee", tmp_path / "out")
  reader = _pages.read(path.read_text())
  assert "Choice of parents" in reader.find("h2")
  said = reader.find("p", **{"class": "claim"})
  assert any("3 rounds chosen by epistemic, 2 of them" in s for s in said)
  assert any("too few to say whether another rule" in s for s in said)
  (rounds,) = reader.find("table", id="choices-rounds")
  for rule in ("epistemic, drawn", "greedy", "uniform", "best_of_n"):
    assert rounds.count(rule) == 3
  assert "loss 0" in rounds
  (rules,) = reader.find("table", id="choices-rules")
  assert "too little to tell" in rules
  assert reader.find("table", id="choices-gains")
  assert set(_pages.figures(reader)) == {"bars", "tree", "frontier", "curves"}


def test_a_campaign_without_choices_has_none(archive):
  assert choices.of(archive, "c0ffee") == []


def test_names_are_only_text(grown):
  archive = grown(2)
  found = choices.look_back(archive, "c0ffee")
  body = choices.section(found, {"c0ffee-000": HOSTILE})
  reader = _pages.read("\n".join(body))
  assert "script" not in reader.tags
  assert HOSTILE in reader.text


def test_choices_without_odds_are_no_error(archive, tmp_path):
  old = records.Selection(
      "c0ffee",
      1,
      ("c0ffee-000",),
      {"c0ffee-000": {"score": 1.0}},
      archive.campaign("c0ffee").created_at,
  )
  archive.add_selection(old)
  head, reason = choices.of(archive, "c0ffee")
  assert "Choice of parents" in head
  assert "campaigns of earlier versions cannot be replayed" in reason
  assert page.write(archive, "c0ffee", tmp_path / "out").is_file()


def test_rules_are_those_asked_for(grown):
  archive = grown(2)
  found = choices.look_back(archive, "c0ffee", ["without_diversity"])
  assert list(found.worths) == ["without_diversity"]
  with pytest.raises(ValueError, match="`rule` must be one of"):
    choices.look_back(archive, "c0ffee", ["best"])
  with pytest.raises(store.ArchiveError, match="nothing is not in"):
    choices.look_back(archive, "nothing")


def test_a_browser_shows_the_section(grown, tmp_path, browser):
  path = page.write(grown(3), "c0ffee", tmp_path / "out")
  shown = browser(path)
  assert "Choice of parents" in shown and 'id="choices-rules"' in shown
  assert shown.count("main-svg") >= 4
