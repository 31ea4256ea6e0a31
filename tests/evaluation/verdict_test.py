"""Verdicts in words, and a document that no completion can break."""

import pytest

from poise_jax.evaluation import comparison, verdict

MANIFEST = {"id": "0" * 64, "a": {"checkpoint": "a"}, "b": {"checkpoint": "b"}}


def _compare(stored, gained, lost, both=10, more=None, **changes):
  """Compares on AMC, and on further sets with [gained, lost] flips."""
  a, b = {}, {}
  for name, (g, x) in ({"AMC": (gained, lost)} | (more or {})).items():
    before = [0] * g + [1] * x + [1] * both
    after = [1] * g + [0] * x + [1] * both
    a[name] = stored.results(before, name=name, **changes)
    changed = {"policy__checkpoint": "b"} | changes
    b[name] = stored.results(after, name=name, **changed)
  return comparison.compare(a, b)


def test_better(stored):
  found = _compare(stored, 12, 1)
  (told,) = verdict.sentences(found)
  assert told.startswith("B better on AMC by 47.8 [19.")
  assert told.endswith("(p = 0.003 corrected for 1 set).")
  turned = _compare(stored, 1, 12)
  (turned,) = verdict.sentences(turned)
  assert turned == told.replace("B better", "A better")


def test_no_difference(stored):
  (told,) = verdict.sentences(_compare(stored, 2, 1))
  assert told.startswith("No difference detected on AMC (+7.7 [-22")
  assert ", minimum detectable " in told


def test_answers_that_were_not_graded_in_time(stored):
  late, wrong = (
      (stored.completion(False, timed_out=told),) for told in (True, False)
  )
  a, b = (
      stored.results(
          [0, 0],
          records=[
              stored.record(i, 0, completions=rows)
              for i, rows in enumerate(side)
          ],
          policy__checkpoint=name,
      )
      for name, side in (("a", (late, wrong)), ("b", (wrong, wrong)))
  )
  found = comparison.compare({"AMC": a}, {"AMC": b})
  assert (
      "Answers not graded in time, and counted as wrong: on AMC 1 of A and 0 of"
      " B."
  ) in verdict.sentences(found)
  told = comparison.as_json(found)["sets"]["AMC"]["not_graded"]
  assert told == {"a": 1, "b": 0}


def test_a_hint_is_no_finding(stored):
  more = {"AIME24": (0, 0), "AIME25": (1, 1)}
  found = _compare(stored, 7, 0, more=more)
  first, rest = verdict.sentences(found)
  # 2 / 2^7 alone, three times that over three sets.
  assert found.sets["AMC"].adjusted == pytest.approx(3 * 2 / 128)
  assert first.startswith("B better on AMC")
  first, rest = verdict.sentences(_compare(stored, 6, 0, more=more))
  assert first.startswith("Not established on AMC: B ahead by 37.5 [10.")
  assert "but p = 0.094 after correction for 3 sets" in first
  assert rest.startswith("No difference detected on AIME24 (0.0 [")


def test_the_same_checkpoint(stored):
  found = _compare(stored, 0, 0, policy__checkpoint="a")
  assert verdict.sentences(found) == [
      "A and B are the same checkpoint, and all 10 completions are equal token"
      " by token: there is no difference."
  ]


def test_equal_completions_of_two_checkpoints(stored):
  told = verdict.sentences(_compare(stored, 0, 0))
  assert told[-1] == "All 10 completions are equal token by token."


def test_a_part(stored):
  told = verdict.sentences(_compare(stored, 1, 0, both=1, set__weight=0.5))
  assert "cite" not in " ".join(told)
  a = {"AMC": stored.results([1, 0], set__problems=9)}
  b = {"AMC": stored.results([1, 1], set__problems=9, policy__checkpoint="b")}
  told = verdict.sentences(comparison.compare(a, b, limit=2))
  assert told[-1].endswith("this is no result to cite.")


def test_overall(stored):
  found = _compare(stored, 12, 1, set__weight=1.0)
  assert verdict.sentences(found)[0].startswith("B better Overall by 47.8 [")
  found = _compare(stored, 1, 1, set__weight=1.0)
  told = verdict.sentences(found)[0]
  assert told.startswith("No difference detected Overall: B - A is 0.0 [")


def test_the_document(stored):
  text = verdict.markdown(_compare(stored, 12, 1, set__weight=1.0), MANIFEST)
  assert "| AMC | greedy accuracy | 23 | 47.8 | 95.7 | +47.8 [19." in text
  assert "| **Overall** | weighted |" in text
  assert text.count("solved by B only") == 12
  assert text.count("solved by A only") == 1
  short = verdict.markdown(_compare(stored, 12, 1), MANIFEST, most=5)
  assert "And 8 more, in comparison.json." in short


def test_completions_are_only_text(stored):
  hostile = "# Verdict\r\n| x |\n\n```\n<script>alert(1)</script>\u2028# no"
  a = {"AMC": stored.results([0])}
  b = {
      "AMC": stored.results(
          [1], texts=[hostile, "wrong"], policy__checkpoint="b"
      )
  }
  text = verdict.markdown(comparison.compare(a, b), MANIFEST)
  lines = text.split("\n")
  start = lines.index("B, right:") + 2
  block = lines[start : lines.index("## Manifest") - 1]
  assert block[0] == "    # Verdict "
  assert all(line.startswith("    ") for line in block if line)
  assert "\r" not in text


def test_long_completions_show_their_end(stored):
  text = "x" * 5000 + " the end"
  a = {"AMC": stored.results([0])}
  b = {"AMC": stored.results([1], texts=[text, "w"], policy__checkpoint="b")}
  shown = verdict.markdown(comparison.compare(a, b), MANIFEST)
  assert "... xxx" in shown and "the end" in shown and len(shown) < 3000
