import pytest

from poise_jax.archive import lineage

# The family of these tests, first parents drawn:
#   0 - 1 - 3 - 4      4 also descends from 2, second parent
#     \ 2 - 5
#   6                  a canary, with no relations


@pytest.fixture
def family(make):
  parents = {0: (), 1: (0,), 2: (0,), 3: (1,), 4: (3, 2), 5: (2,), 6: ()}
  return [
      make.candidate(
          index, parents=tuple(f"c0ffee-{parent:03d}" for parent in above)
      )
      for index, above in parents.items()
  ]


def ids(*indices):
  return tuple(f"c0ffee-{index:03d}" for index in indices)


def test_parents_and_children_mirror_each_other(family):
  parents = lineage.parents(family)
  children = lineage.children(family)
  assert parents["c0ffee-004"] == ids(3, 2)
  assert children["c0ffee-000"] == ids(1, 2)
  assert children["c0ffee-002"] == ids(4, 5)
  assert children["c0ffee-006"] == ()


def test_ancestors_follow_the_first_parent(family):
  assert lineage.ancestors(family, "c0ffee-004") == ids(0, 1, 3, 4)
  assert lineage.ancestors(family, "c0ffee-000") == ids(0)


def test_descendants_count_through_any_parent(family):
  assert lineage.descendants(family, "c0ffee-000") == dict(
      zip(ids(1, 2, 3, 4, 5), (1, 1, 2, 2, 2), strict=True)
  )
  assert lineage.descendants(family, "c0ffee-002") == {
      "c0ffee-004": 1,
      "c0ffee-005": 1,
  }
  assert lineage.descendants(family, "c0ffee-006") == {}


def test_depth_follows_the_first_parent(family):
  assert lineage.depth(family) == dict(
      zip(ids(0, 1, 2, 3, 4, 5, 6), (0, 1, 1, 2, 3, 2, 0), strict=True)
  )


def test_branch_is_the_child_of_the_root(family):
  found = [lineage.branch(family, candidate.id) for candidate in family]
  assert tuple(found) == ids(0, 1, 2, 1, 1, 2, 6)


def test_best_by_depth_skips_unscored_and_keeps_the_earlier_of_ties(family):
  scores = dict(zip(ids(0, 1, 2, 4), (5.0, 7.0, 7.0, 1.0), strict=True))
  assert lineage.best_by_depth(family, scores) == dict(
      zip((0, 1, 3), ids(0, 1, 4), strict=True)
  )


def test_a_child_before_its_parent_is_refused(family):
  with pytest.raises(ValueError, match="c0ffee-004 before c0ffee-003"):
    lineage.depth([*family[:3], family[4], family[3]])
