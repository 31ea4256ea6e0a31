import pytest

from poise_jax.discovery.parents import tree

#   root - a - c - e        x was made from one that is not listed.
#        \ b - d (of b and c)
PARENTS = {
    "root": (),
    "a": ("root",),
    "b": ("root",),
    "c": ("a",),
    "d": ("b", "c"),
    "e": ("c", "root"),
    "x": ("gone",),
}


def test_children_through_any_parent():
  assert tree.children(PARENTS) == {
      "root": ("a", "b", "e"),
      "a": ("c",),
      "b": ("d",),
      "c": ("d", "e"),
      "d": (),
      "e": (),
      "x": (),
  }
  assert tree.children({"r": (), "a": ("r", "r")})["r"] == ("a",)


def test_descendants_take_the_shortest_way_down():
  below = {"a": ["b", "c"], "b": ["d"], "c": ["d", "e"], "d": ["f"]}
  depths = {"b": 1, "c": 1, "d": 2, "e": 2, "f": 3}
  assert tree.descendants(below, "a") == depths
  assert [*tree.descendants(below, "a")] == [*depths]
  assert tree.descendants(below, "f") == {}


def test_lines_follow_first_parents():
  assert tree.line(PARENTS, "d") == ("root", "b", "d")
  assert tree.line(PARENTS, "root") == ("root",)
  assert tree.line(PARENTS, "x") == ("x",)
  assert [tree.depth(PARENTS, n) for n in PARENTS] == [0, 1, 1, 2, 2, 3, 0]


def test_branches():
  branches = [tree.branch(PARENTS, n) for n in PARENTS]
  assert branches == ["root", "a", "b", "a", "b", "a", "x"]
  # One made from what was left out is a branch with all below it.
  assert tree.branch({**PARENTS, "y": ("x",)}, "y") == "x"


def test_relatives_through_any_parent():
  family = tree.relatives(PARENTS, tree.children(PARENTS))
  assert family["d"] == {"b", "c", "a", "root"}
  assert family["a"] == {"root", "c", "d", "e"}
  assert family["b"] == {"root", "d"}
  assert family["x"] == set()
  assert tree.ancestors(PARENTS, "e") == {"c", "a", "root"}


def test_root():
  assert tree.root(PARENTS) == "root"
  assert tree.root({"x": ("gone",), "y": ("x",)}) == "x"
  with pytest.raises(ValueError, match="at least the root"):
    tree.root({})
