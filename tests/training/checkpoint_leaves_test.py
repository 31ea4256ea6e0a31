"""Leaves by name: what is stored of them, and what they become again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from poise_jax.training import checkpoint_leaves as leaves


def test_names_are_paths_without_empty_places():
  tree = {"a": [jnp.ones(2), None, {}], "b/c": {3: 1.5}, "d": ()}
  assert list(leaves.named("tree", tree)) == ["['a'][0]", "['b/c'][3]"]
  assert list(leaves.named("tree", 1)) == ["(itself)"]


@pytest.mark.parametrize(
    "error, leaf, message",
    [
        (TypeError, jax.random.key(0), "`state` must hold no random keys"),
        (TypeError, "text", "got 'text' at .'k'.: put what is no array"),
        (TypeError, np.array([None]), "must hold arrays of numbers"),
        (TypeError, np.datetime64("2026-01-01"), "must hold arrays of numbers"),
        (ValueError, {"l": None}, "`state` must hold arrays, got"),
    ],
)
def test_what_is_no_array_is_refused(error, leaf, message):
  with pytest.raises(error, match=message):
    leaves.named("state", {"k": leaf})


class Twin:
  """A dict key that looks like another."""

  def __init__(self, rank):
    self.rank = rank

  def __lt__(self, other):
    return self.rank < other.rank

  def __repr__(self):
    return "twin"


def test_two_leaves_of_one_name_are_refused():
  with pytest.raises(ValueError, match="two leaves named .twin."):
    leaves.named("state", {Twin(1): 1.0, Twin(2): 2.0})


@pytest.mark.parametrize(
    "leaf, description",
    [
        (jnp.ones((2, 3), jnp.bfloat16), "bfloat16[2,3]"),
        (jax.ShapeDtypeStruct((4,), jnp.int8), "int8[4]"),
        (np.float32(1), "float32[]"),
        (1, "int64[]"),
        (True, "bool[]"),
        (1.0, "float64[]"),
    ],
)
def test_description(leaf, description):
  assert leaves.describe(leaf) == description


def test_weak_arrays_are_those_born_of_python_numbers():
  assert leaves.is_weak(jnp.asarray(0.5))
  assert not leaves.is_weak(jnp.float32(0.5))
  assert not leaves.is_weak(np.ones(2))
  assert not leaves.is_weak(0.5)


@pytest.mark.parametrize("value", [0.1, float("nan"), -0.0, 7])
@pytest.mark.parametrize("shape", [(), (2, 2)])
def test_weak_arrays_are_weak_again(value, shape):
  like = jnp.full(shape, value)
  assert like.weak_type
  found = leaves.finished(like, jnp.full(shape, value, like.dtype), weak=True)
  assert found.weak_type
  assert found.dtype == like.dtype
  assert np.asarray(found).tobytes() == np.asarray(like).tobytes()
  # What it is for: the next step must compute in the same dtype.
  half = jnp.ones((), jnp.bfloat16)
  assert (found * half).dtype == (like * half).dtype


@pytest.mark.parametrize(
    "like", [np.ones(2, np.int8), np.float32(1), 1, True, 0.5, 2**40]
)
def test_hosts_leaves_stay_what_they_are(like):
  found = leaves.finished(like, np.array(like), weak=False)
  assert type(found) is type(like)
  np.testing.assert_array_equal(found, like)


def test_empty_leaves_need_nothing_read():
  like = jnp.zeros((0, 3), jnp.bfloat16)
  assert leaves.is_empty(like)
  found = leaves.finished(like, None, weak=False)
  assert (found.shape, found.dtype) == (like.shape, like.dtype)
  assert leaves.finished(np.zeros((2, 0)), None, weak=False).shape == (2, 0)
  assert not leaves.is_empty(jnp.zeros(()))


def test_misfits_are_all_named():
  saved = {"a": "float32[2]", "b": "float32[2]", "c": "int64[]"}
  like = {"a": jnp.ones(2), "b": jnp.ones(3), "d": 1.0}
  assert leaves.misfits(saved, like) == [
      "d was not saved",
      "c is not asked for",
      "b is float32[2], not float32[3]",
  ]
  assert leaves.misfits({"a": "float32[2]"}, {"a": jnp.ones(2)}) == []
