"""What results depend on, and how differences are told."""

import platform
import re

import jax
import scipy
import sympy

from poise_jax.evaluation import provenance


def test_one_form_for_equal_values():
  a, b = {"x": 1, "y": [1.5, None]}, {"y": [1.5, None], "x": 1}
  assert provenance.canonical(a) == provenance.canonical(b)
  assert provenance.canonical(a) == '{"x":1,"y":[1.5,null]}'
  assert provenance.digest(a) == provenance.digest(b)
  # printf '{"x":1}' | sha256sum
  assert provenance.digest({"x": 1}).startswith("5041bf1f713df204")


def test_differences_name_the_field():
  a = {"sampling": {"seed": 0, "samples": 4}, "only": True}
  b = {"sampling": {"seed": 1, "samples": 4}}
  assert provenance.differences(a, b) == [
      "only is true, missing",
      "sampling.seed is 0, 1",
  ]
  assert provenance.differences(a, a) == []


def test_code_is_that_which_runs():
  found = provenance.code()
  assert found["jax"] == jax.__version__
  assert re.fullmatch("[0-9a-f]{64}", found["poise_jax"])
  assert found == provenance.code()
  assert found["python"] == platform.python_version()
  assert found["sympy"] == sympy.__version__
  assert "absent" not in found.values()


def test_what_intervals_are_made_by():
  found = provenance.analysis()
  assert found["scipy"] == scipy.__version__
  assert found["poise_jax.evaluation"] != provenance.code()["poise_jax"]


def test_the_machine():
  found = provenance.machine()
  assert found["backend"] == "cpu"
  assert all(isinstance(value, str) for value in found.values())
