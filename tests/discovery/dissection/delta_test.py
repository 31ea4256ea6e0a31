"""Minimal sets, checked against all sets."""

import itertools
import math

import pytest

from poise_jax.discovery.dissection import delta

PARTS = tuple("abcdefgh")


def _holding(*groups):
  """Passes where all of one of the groups is there."""
  return lambda kept: any(set(group) <= set(kept) for group in groups)


@pytest.mark.parametrize("needed", ["", "a", "h", "ce", "adh", "abcdefgh"])
def test_finds_the_parts_that_are_needed(needed):
  assert delta.minimise(PARTS, _holding(needed)) == tuple(needed)


def test_without_parts_nothing_is_asked():
  assert delta.minimise((), lambda kept: 1 / 0) == ()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_no_further_part_can_go(size):
  for groups in itertools.combinations(
      itertools.combinations(PARTS[:6], size), 2
  ):
    passes = _holding(*groups)
    kept = delta.minimise(PARTS[:6], passes)
    assert passes(kept)
    for part in kept:
      assert not passes([p for p in kept if p != part])


def test_tests_few_sets_each_once():
  parts = tuple(map(str, range(64)))
  asked = []

  def passes(kept):
    asked.append(kept)
    return "17" in kept

  assert delta.minimise(parts, passes) == ("17",)
  assert len(asked) == len(set(asked)) <= 1 + 2 * math.log2(64)


def test_a_test_that_is_not_monotone_ends_too():
  # b and c harm unless both are there.
  passes = lambda kept: "a" in kept and ("b" in kept) == ("c" in kept)
  assert delta.minimise(tuple("abc"), passes) == ("a",)
