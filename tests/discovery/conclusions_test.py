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
  passed = ("race", "c0ffee-004", {"status": "finished: others promise more"})
  (line,) = _told(tmp_path, make, passed)
  assert line == "Nothing was expected to beat the root: nothing to confirm."


def test_finalists_that_wait(tmp_path, make):
  """A campaign that runs, or was killed, while it confirms."""
  assert _told(tmp_path, make, RACE) == ["Finalists are not confirmed yet."]


def test_a_second_finalist_waits_unless_one_is_confirmed(tmp_path, make):
  other = ("race", "c0ffee-006", {"status": "finalist"})
  lost = _finding("new", "not confirmed", "not confirmed on base b")
  told = _told(
      tmp_path, make, RACE, other, ("confirmation", "c0ffee-005", lost)
  )
  assert told == [
      "Finalists are not confirmed yet.",
      "new: not confirmed on base b.",
  ]
  (tmp_path / "a.db").unlink()
  held = _finding("new", "confirmed", "confirmed on base b: +2")
  told = _told(
      tmp_path, make, RACE, other, ("confirmation", "c0ffee-005", held)
  )
  assert told == ["new: confirmed on base b: +2."]


def test_one_that_did_not_hold(tmp_path, make):
  finding = _finding("new", "not confirmed", "not confirmed on base b")
  told = _told(tmp_path, make, RACE, ("confirmation", "c0ffee-005", finding))
  assert told == [
      "Nothing was shown to beat the root on fresh seeds and problems.",
      "new: not confirmed on base b.",
  ]


def test_one_that_held_with_all_that_was_asked_of_it(tmp_path, make):
  first = _finding("new", "confirmed", "confirmed on base b: +2")
  second = _finding("new", "not confirmed", "not confirmed on base c: +1")
  sealed = {
      "differences": [1.0, 1.5],
      "mean": 1.25,
      "low": -1.93,
      "high": 4.43,
      "breakdown": "",
      "budget": "confirm",
      "base": "b",
  }
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
  assert (
      "new: +1.25 points [-1.93, +4.43] over the root on the sealed split, base"
      " b, budget confirm, 2 seeds, for the record."
  ) in told


def test_terms_are_told_in_units_of_their_own(tmp_path, make):
  finding = _finding("new", "confirmed", "confirmed on base b: +3")
  length = {"mean": -0.1758, "low": -0.28, "high": -0.071, "root": 25.017}
  unknown = {"mean": None, "low": None, "high": None, "root": None}
  finding["terms"] = {"response_length": length, "kl": unknown}
  told = _told(tmp_path, make, RACE, ("confirmation", "c0ffee-005", finding))
  assert told == [
      "new: confirmed on base b: +3.",
      "new: in their own units, means and 95 % intervals of the same seeds:"
      " response_length -0.176 [-0.28, -0.071] on 25.02 of the root.",
  ]
