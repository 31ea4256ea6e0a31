import csv
import pathlib

import numpy as np
import pytest

from poise_jax.discovery.parents import pareto

SCORES = np.asarray([[2.0, 2], [1, 3], [1, 1], [0, 1]])
TABLE = pathlib.Path(__file__).parents[4] / "shared/reference/poise_table2.csv"


def test_strength_by_hand():
  # (2,2) and (1,3) dominate (1,1) and (0,1); (1,1) dominates (0,1).
  assert pareto.fronts(pareto.dominates(SCORES)).tolist() == [1, 1, 2, 3]
  expected = [1 / 2 + 1 / 3, 1 / 2 + 1 / 3, 1 / 3 + 1 / 18, 1 / 4]
  np.testing.assert_allclose(pareto.strength(SCORES), expected)


def test_equal_nodes_and_one_alone():
  np.testing.assert_allclose(pareto.strength(np.ones((3, 2))), 0.5)
  np.testing.assert_allclose(pareto.strength(np.ones((1, 2))), 0.5)


def test_who_keeps_the_constraints_better_dominates():
  # The best breaks them most, the last but one a little.
  broken = np.asarray([2.0, 0.0, 0.0, 1.0])
  dominated = pareto.dominates(SCORES, broken)
  assert dominated.tolist() == [
      [False, False, False, False],
      [True, False, True, True],
      [True, False, False, True],
      [True, False, False, False],
  ]
  assert pareto.fronts(dominated).tolist() == [4, 1, 2, 3]
  none = pareto.dominates(SCORES, np.zeros(4))
  assert (none == pareto.dominates(SCORES)).all()


@pytest.mark.skipif(not TABLE.is_file(), reason="no table of the paper here")
def test_sixteen_of_the_papers_variants_are_beaten_by_none():
  rows = list(csv.DictReader(TABLE.read_text("utf-8").splitlines()))
  names = [name for name in rows[0] if name not in ("variant", "Overall")]
  scores = np.asarray([[float(row[name]) for name in names] for row in rows])
  assert scores.shape == (64, 6)
  front = pareto.fronts(pareto.dominates(scores))
  assert int((front == 1).sum()) == 16
