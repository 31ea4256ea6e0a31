"""Programs without some of their mechanisms and constants."""

import pytest

from poise_jax.discovery.dissection import parts
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import rendering

SOURCE = """\
HPARAMS = {"a": 0.5, "b": 2, "c": -1.0, "d": 1.0}
NEUTRAL = {"a": 0.0, "b": 2.0, "c": -(1.0), "other": 1.0, "d": 1.0 + 1.0}
"""


def test_constants_that_are_not_neutral_are_parts():
  whole = parts.constants(SOURCE)
  assert whole.kind == "constant"
  # What is computed, at its value already, or no constant is none.
  assert whole.names == ("a",)
  assert whole.parts[0].words == "a = 0.5 instead of 0"
  assert whole.without([]) == SOURCE
  changed = whole.without(["a"])
  scope = {}
  exec(changed, scope)
  assert scope["HPARAMS"] == {"a": 0.0, "b": 2, "c": -1.0, "d": 1.0}
  assert parts.constants(changed).names == ()
  assert whole.only([]) == changed


def test_without_neutral_there_are_none():
  assert parts.constants('HPARAMS = {"a": 1.0}\n').names == ()


def test_mechanisms_of_a_genome_go_one_by_one():
  root = genomes.named("grpo")
  child = genomes.edited(root, {"kl": "k3", "scale": "none"}, {"clip_eps": 0.3})
  made = {}

  def without(slots):
    left = genomes.without(child, slots, root)
    source = rendering.render(
        left, name="x", parents=("grpo",), rationale="r", prediction="p",
        falsifier="f",
    )  # fmt: skip
    made[source] = left
    return source

  whole = parts.mechanisms(
      genomes.changed_slots(child, root), without, {"kl": "stays close"}
  )
  assert set(whole.names) == {"kl", "scale", "clip"}
  assert dict(whole.parts) == {
      "kl": "stays close", "scale": "scale", "clip": "clip",
  }  # fmt: skip
  same = lambda source, genome: genomes.identity(
      made[source]
  ) == genomes.identity(genome)
  assert same(whole.without([]), child)
  assert same(whole.without(whole.names), root)
  assert same(whole.only(["kl"]), genomes.edited(root, {"kl": "k3"}))
  assert made[whole.without(["clip"])].constants["clip_eps"] == 0.2


def test_what_cannot_be_put_together_says_so():
  def without(names):
    raise ValueError("no such genome")

  with pytest.raises(ValueError, match="no such genome"):
    parts.mechanisms(["a"], without, {}).only([])
