"""The namespace of a source holds what is listed, and copies of it."""

import jax.numpy as jnp
import pytest

from poise_jax.algorithms import kl
from poise_jax.candidates import scope


def test_namespace_holds_every_listed_name_and_no_more():
  namespace = scope.namespace()
  listed = scope.ROOTS | {"__builtins__", "__name__", scope.TEXT}
  assert set(namespace) == listed
  assert set(namespace["__builtins__"]) == scope.BUILTINS
  for dotted in scope.dotted_names():
    root, *rest = dotted.split(".")
    value = namespace[root]
    for name in rest:
      value = getattr(value, name)


@pytest.mark.parametrize("name", ["load", "save", "fromfile", "vectorize"])
def test_dangerous_functions_of_jnp_are_not_listed(name):
  assert hasattr(jnp, name)
  assert f"jnp.{name}" not in scope.dotted_names()
  assert not hasattr(scope.namespace()["jnp"], name)


def test_text_is_that_of_plain_values():
  make = scope.namespace()["__builtins__"]["str"]
  values = ("a", 1, -0.5, True, None)
  assert [make(v) for v in values] == ["a", "1", "-0.5", "True", "None"]
  assert make() == ""
  for value in (make, jnp.sum, [1], (), {}, jnp.float32(1), object()):
    with pytest.raises(TypeError, match="names and numbers"):
      make(value)


def test_atoms_are_public_functions_alone():
  found = scope.atoms()
  assert tuple(found) == scope.ATOM_MODULES
  assert "k3" in found["kl"]
  assert not {"jnp", "jax", "ratios"} & set(found["kl"])


def test_assigning_to_the_namespace_changes_nothing_outside():
  scope.namespace()["kl"].k3 = None
  assert kl.k3 is not None
  assert scope.namespace()["kl"].k3 is kl.k3
