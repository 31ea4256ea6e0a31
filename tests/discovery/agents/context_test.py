"""What agents see, and what they do not."""

import dataclasses

import pytest

from poise_jax.discovery.agents import context

PARENT = context.Parent(
    id="c-001",
    name="better-001",
    source="HPARAMS = {}\n",
    rationale="it bounds\nthe advantage",
    metrics={"overall": 52.123456, "kl": 0.01},
    versus_parent={"overall": context.Gap(1.5, -0.5, 3.5, 4)},
    versus_root={"overall": context.Gap(2.0, None, None, 1)},
    curve={
        "reward": [0.0, 0.2, 0.4, 0.6],
        "secret": [1.0],
        "kl": [float("nan"), 0.5],
    },
    reflection="It rose.",
)


def _context(**changes):
  return context.Context(
      **{"label": "012", "index": 12, "parent": PARENT, "notes": ()} | changes
  )


def test_what_is_there_is_shown():
  text = context.render(
      _context(
          directive="shorter answers",
          limits="at most 48 tokens",
          lineage=[context.Ancestor("root", "none", "the base")],
          references=[
              context.Reference(
                  "other-002", "pareto", "clips", "+1.0", "HPARAMS = {1}"
              )
          ],
          effects=[context.Effect("scale=std", 0.5, 1.25, 3)],
          forbidden=[context.Forbidden("f" * 64, "bad-003", "no clip", "NaN")],
      )
  )
  for expected in (
      "shorter answers",
      "at most 48 tokens",
      "it bounds the advantage",
      "kl 0.01, overall 52.12",
      "overall against its own parent: +1.50 [-0.50, +3.50] (4 seeds)",
      "overall against the root: +2.00 (1 seeds, no interval)",
      "reward over training: 0.0 0.2 0.4 0.6",
      "kl over training: 0.5",
      "It rose.",
      "- root: none -> the base",
      "- other-002 (pareto): clips -> +1.0\nHPARAMS = {1}",
      "- scale=std: +0.50 ± 1.25 points (3 children)",
      "- [ffffffffffff] bad-003: no clip (NaN)",
  ):
    assert expected in text
  assert "secret" not in text and "nan" not in text


def test_what_is_not_there_is_not_mentioned():
  text = context.render(_context())
  for title in (
      "do not repeat",
      "effects of",
      "other candidates",
      "literature",
  ):
    assert title not in text
  assert "a higher Overall score" in text
  assert context.render(_context()) == text


@pytest.mark.parametrize("split", ["confirm", "sealed", "train"])
def test_results_of_other_splits_are_refused(split):
  seen = frozenset({context.SEARCH_SPLIT, split})
  parent = context.Parent("c", "n", "s", splits=seen)
  with pytest.raises(ValueError, match=f"got {split}: agents may not see"):
    _context(parent=parent)
  _context(parent=dataclasses.replace(parent, splits=seen - {split}))


def test_curves_become_a_few_means():
  found = context.digest(
      {"reward": [float(x) for x in range(12)], "kl": []}, points=3
  )
  assert found == {"reward": [1.5, 5.5, 9.5]}
  assert context.digest({"reward": [1 / 3]}) == {"reward": [0.333]}
  assert context.digest({"reward": [float("inf")]}) == {}


def test_long_texts_are_cut():
  assert context.cut("a  b\nc") == "a b c"
  assert context.cut("x" * 50, 10) == "xxxxxx ..."
