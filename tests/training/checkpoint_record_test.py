"""Records: JSON there and back, and what tells two runs apart."""

import jax
import jax.numpy as jnp
import pytest

from poise_jax.training import checkpoint_record as record


def test_fields_are_as_they_will_be_read():
  assert record.as_json("meta", {"a": (1, 2), "b": {"c": None}}) == {
      "a": [1, 2],
      "b": {"c": None},
  }
  with pytest.raises(TypeError, match="`meta` must be JSON-able .*Array"):
    record.as_json("meta", {"a": jnp.ones(2)})
  circle = {}
  circle["self"] = circle
  with pytest.raises(TypeError, match="`meta` must be JSON-able .*Circular"):
    record.as_json("meta", circle)


def test_versions():
  found = record.versions()
  assert found["jax"] == jax.__version__
  assert {"poise_jax", "orbax-checkpoint"} <= found.keys()


NAN = float("nan")


@pytest.mark.parametrize(
    "saved, here, expected",
    [
        ({}, {}, []),
        ({"a": NAN, "b": {"c": [1]}}, {"b": {"c": [1]}, "a": NAN}, []),
        ({"a": 1}, {"a": 1.0}, ["a is 1 there, 1.0 here"]),
        ({"a": "x"}, {"a": None}, ['a is "x" there, null here']),
        (
            {"a": {"b": {"c": 1}}},
            {"a": {"b": {"c": 2}}},
            ["a.b.c is 1 there, 2 here"],
        ),
        ({"a": {}}, {}, ["a is {} there, absent here"]),
        (
            {"b": 1},
            {"a": 1},
            ["a is absent there, 1 here", "b is 1 there, absent here"],
        ),
    ],
)
def test_differences(saved, here, expected):
  assert record.differences(saved, here) == expected


def test_long_lists_are_counted():
  assert record.listed(["a", "b"]) == "a; b"
  assert record.listed(["a"] * 10) == "; ".join("a" * 10)
  assert record.listed(["a"] * 12) == "; ".join("a" * 10) + "; and 2 more"
