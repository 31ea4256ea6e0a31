"""No algorithm without an oracle: the tables in `members` hold all of them."""

import collections
import importlib.util
import pathlib

from poise_jax.algorithms import catalog

MEMBERS = pathlib.Path(__file__).parent / "members"


def load(path):
  spec = importlib.util.spec_from_file_location(f"covered_{path.stem}", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_every_algorithm_is_judged_in_float64_once():
  covered = collections.Counter()
  for path in MEMBERS.glob("*_test.py"):
    module = load(path)
    covered.update(module.ORACLES.keys())
    # The table is what the test goes through.
    (mark,) = module.test_agrees_with_float64.pytestmark
    assert mark.args == ("name", module.ORACLES)
  assert covered == collections.Counter(catalog.names())
