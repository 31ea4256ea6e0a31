"""Limits that bind: the smallest change of each is felt in the jail."""

import dataclasses

import pytest

from poise_jax.algorithms import catalog
from poise_jax.candidates import findings, inmate, limits

_REQUEST = {"group_size": 8, "fallback_shape": None}


def _rule(bounds):
  """The rule by which GRPO is refused within `bounds`, None if it is not."""
  source = catalog.source("grpo").encode()
  header, _ = inmate.serve(_REQUEST, source, bounds)
  return None if header["ok"] else header["finding"]["rule"]


def test_the_defaults_let_the_catalogue_through():
  assert _rule(limits.Limits()) is None


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"operations": 20}, "operations"),
        ({"artifact_bytes": 999}, "artifact-size"),
    ],
    ids=["operations", "artifact"],
)
def test_tighter_limits_refuse_it(change, rule):
  assert _rule(limits.Limits(**change)) == rule


def test_limits_cross_to_the_child_as_numbers():
  bounds = limits.Limits(wall_seconds=2.5, cpu_seconds=3)
  assert limits.Limits(**dataclasses.asdict(bounds)) == bounds
  with pytest.raises(dataclasses.FrozenInstanceError):
    bounds.wall_seconds = 1e9


def test_a_source_at_the_bound_is_larger_than_any_in_the_catalogue(jail):
  longest = max(len(catalog.source(name)) for name in catalog.names())
  assert 4 * longest < limits.SOURCE_BYTES
  refusal = jail.trace(b"#" * (limits.SOURCE_BYTES + 1))
  assert refusal.findings[0] == findings.contract(
      "source-size",
      "the source has 65537 bytes, the limit is 65536",
      "keep the constants, init and loss; drop the rest",
  )
