"""Annotations with jaxtyping, and the algorithms without it."""

import importlib.metadata
import re
import subprocess
import sys
import textwrap

import jaxtyping

from poise_jax import shapes

# Refuses every installed module that is neither ours nor jax's own.
PROGRAM = """
import sys

class Refuse:
  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] in REFUSED:
      raise ModuleNotFoundError(f"{name} is refused", name=name)

REFUSED = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Refuse())
import pkgutil
import poise_jax.algorithms
for module in pkgutil.walk_packages(
    poise_jax.algorithms.__path__, "poise_jax.algorithms."
):
  __import__(module.name)
from poise_jax.algorithms import catalog, kl
from poise_jax import shapes, types
import jax
assert shapes.Float[shapes.Array, "P"] is jax.Array
assert shapes.Int[shapes.Array, "P"] is jax.Array
value = kl.k2(jax.numpy.ones((1, 1, 1)), jax.numpy.zeros((1, 1, 1)),
              jax.numpy.ones((1, 1, 1)))
print(len(catalog.names()), float(value.sum()), "jaxtyping" in sys.modules)
"""


def not_jax():
  """Names of installed modules that `pip install jax` does not bring."""
  pending, found = ["jax"], set()
  while pending:
    name = pending.pop()
    if name in found:
      continue
    found.add(name)
    for requirement in importlib.metadata.requires(name) or ():
      if "extra ==" not in requirement:
        pending.append(re.match(r"[\w.-]+", requirement).group().lower())
  modules = importlib.metadata.packages_distributions()
  normal = {re.sub(r"[-_.]+", "_", name) for name in found}
  return {
      module
      for module, owners in modules.items()
      if not {re.sub(r"[-_.]+", "_", o.lower()) for o in owners} & normal
  }


def test_annotations_are_those_of_jaxtyping_where_it_is_installed():
  assert shapes.Float is jaxtyping.Float
  assert shapes.Int is jaxtyping.Int
  assert shapes.Array is jaxtyping.Array


def test_algorithms_need_jax_alone():
  refused = not_jax() - {"poise_jax"}
  assert {"jaxtyping", "flax", "optax", "absl", "chex"} <= refused
  assert not refused & {"jax", "jaxlib", "numpy"}
  done = subprocess.run(
      [
          sys.executable,
          "-c",
          textwrap.dedent(PROGRAM),
          ",".join(refused),
      ],
      capture_output=True,
      text=True,
      check=False,
  )
  assert done.returncode == 0, done.stderr
  count, value, typed = done.stdout.split()
  assert int(count) >= 10 and value == "0.5" and typed == "False"
