"""Conclusions: what was confirmed, what was not, and what never got there."""

from poise_jax.archive import records, store
from poise_jax.discovery import conclusions


def _told(tmp_path, make, *decisions):
  with store.Archive.open(tmp_path / "a.db", create=True) as archive:
    archive.add_campaign(make.campaign())
    for stage, subject, data in decisions:
      archive.add_decision(
          records.Decision("c0ffee", stage, subject, data, records.now())
      )
    return conclusions.as_text(archive, "c0ffee")


def _finding(name, verdict, claim):
  return {"name": name, "verdict": verdict, "claim": claim}


RACE = ("race", "c0ffee-005", {"status": "finalist"})


def test_a_campaign_that_is_not_over_says_nothing(tmp_path, make):
  assert _told(tmp_path, make) == []


def test_nothing_to_confirm(tmp_path, make):
  (line,) = _told(tmp_path, make, RACE)
  assert line == "Nothing was expected to beat the root: nothing to confirm."


def test_one_that_did_not_hold(tmp_path, make):
  finding = _finding("new", "not confirmed", "not confirmed on base b")
  told = _told(tmp_path, make, RACE, ("confirmation", "c0ffee-005", finding))
  assert told == [
      "Nothing beat the root on fresh seeds and problems.",
      "new: not confirmed on base b.",
  ]


def test_one_that_held_with_all_that_was_asked_of_it(tmp_path, make):
  first = _finding("new", "confirmed", "confirmed on base b: +2")
  second = _finding("new", "not confirmed", "not confirmed on base c: +1")
  sealed = {"mean": 1.25, "differences": [1.0, 1.5], "breakdown": ""}
  told = _told(
      tmp_path,
      make,
      RACE,
      ("confirmation", "c0ffee-005", first),
      ("second base", "c0ffee-005", second),
      ("sealed", "c0ffee-005", sealed),
      ("ablation", "c0ffee-005", {"sentences": ["The clip is idle."]}),
  )
  assert told[0] == "new: confirmed on base b: +2."
  assert "new: not confirmed on base c: +1." in told
  assert "new: The clip is idle." in told
  sealed_words = "new: +1.25 points over the root on the sealed split, 2 seeds"
  assert any(line.startswith(sealed_words) for line in told)
