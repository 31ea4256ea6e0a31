"""A sweep in words."""

import dataclasses

import pytest

from poise_jax.discovery.sweeps import cell as cell_lib
from poise_jax.discovery.sweeps import table as table_lib
from poise_jax.discovery.trials import budgets
from poise_jax.evaluation import statistics
from poise_jax.report import sweep_text
from poise_jax.tasks import embedded


def row(name, mean, verdict, gap=None, **changes):
  """A row made by hand."""
  difference = gap and table_lib.Difference(
      statistics.Interval(gap, gap - 1, gap + 1), 0.0001, 0.5, 8
  )
  values = {
      "config": cell_lib.Config(name, "grpo", budgets.QUICK),
      "planned": 2,
      "scores": {0: mean, 1: mean} if mean is not None else {},
      "reasons": {},
      "overall": None
      if mean is None
      else statistics.Interval(mean, mean - 2, mean + 2),
      "difference": difference,
      "adjusted": 0.0003 if gap else None,
      "detectable": 3.21 if gap else None,
      "verdict": verdict,
      "metrics": {"pass_at_k/products4": 0.5, "response_length": 20.0},
      "seconds": 7.4,
  }
  return table_lib.Row(**(values | changes))


@pytest.fixture
def table():
  rows = (
      row("up", 60.0, "better", 9.0),
      row("near", 52.0, "open", 1.0, adjusted=0.7),
      row("base", 51.0, "baseline"),
      row("twin", 51.0, "identical"),
      row("<b>down|", 40.0, "worse", -11.0),
      row("gone", None, "none", reasons={0: "loss is NaN", 1: "loss is NaN"}),
      row("also", None, "none", reasons={0: "not run yet"}),
      row("late", None, "none", reasons={0: "not run yet"}),
  )
  return table_lib.Table(rows, "base", 3, True)


def test_what_holds_and_what_does_not(table):
  assert sweep_text.sentences(table) == [
      "Better than base, of 3 tested: up by +9.0 [+8.0, +10.0].",
      "Worse than base, of 3 tested: <b>down| by -11.0 [-12.0, -10.0].",
      "No difference from base detected: near (detectable would have been 3.2"
      " to 3.2 points).",
      "The same policies as base, bit for bit: twin.",
      "No mean for gone (seed 0, 1: loss is NaN).",
      "No mean for also, late (seed 0: not run yet).",
  ]


def test_nothing_better_is_said_first(table):
  rows = tuple(r for r in table.rows if r.verdict != "better")
  first, *_ = sweep_text.sentences(dataclasses.replace(table, rows=rows))
  assert first == "Nothing is better than base, of 3 tested."
  apart = dataclasses.replace(table, paired=False)
  assert "unpaired" in sweep_text.sentences(apart)[-1]


def test_markdown(table):
  text = sweep_text.markdown(table, {"command": "a | b", "cells": 5}, "Title")
  lines = text.splitlines()
  assert lines[0] == "# Title"
  (up,) = [line for line in lines if line.startswith("| up ")]
  cells = [cell.strip() for cell in up.split("|")][1:-1]
  assert len(cells) == len(sweep_text.heads(table))
  assert cells[:7] == [
      "up", "60.0 [58.0, 62.0]", "2 of 2", "+9.0 [+8.0, +10.0]", "<0.001",
      "3.2", "better",
  ]  # fmt: skip
  assert "50.0" in cells and cells[-2:] == ["20.0", "7"]
  assert "| command | a \\| b |" in lines
  assert any(line.startswith("| <b>down\\| ") for line in lines)


def test_columns_are_the_sets_of_the_task(table):
  row = table.rows[0]
  other = dataclasses.replace(row.config, task="carryless")
  moved = dataclasses.replace(row, config=other)
  names = [
      n for n, _ in sweep_text.sets(dataclasses.replace(table, rows=(moved,)))
  ]
  assert names == [one.name for one in embedded.CARRYLESS.suite]
  assert [n for n, _ in sweep_text.sets(table)] == [
      one.name for one in embedded.ARITHMETIC.suite
  ]
