"""Statements and terms that a program may be without."""

import ast

import pytest

from poise_jax.algorithms import catalog
from poise_jax.candidates import syntax
from poise_jax.discovery.dissection import source_parts

FRAME = """\
HPARAMS = {{"a": 0.1}}


def init(hparams):
  return {{"x": 1.0 + 2.0}}


def loss(hparams, state, batch):
  r = batch.rewards
  {line}
  metrics = {{"m": r * 3.0}}
  return r, state, metrics
"""


def _lines(line):
  """What becomes of a line without each of its parts."""
  whole = source_parts.decompose(FRAME.format(line=line))
  found = {}
  for part in whole.parts:
    changed = whole.without([part.name])
    (rest,) = [
        after
        for before, after in zip(
            FRAME.format(line=line).splitlines(),
            changed.splitlines() + [""],
            strict=False,
        )
        if before != after
    ][:1] or [None]
    found[part.name.split(" ", 1)[1]] = rest and rest.strip()
  return found


@pytest.mark.parametrize(
    "line, expected",
    [
        (
            "y = r + hparams['a']",
            {"0 for `r`": "y = hparams['a']",
             "0 for `hparams['a']`": "y = r"},
        ),
        (
            "y = 1.0 - r",
            {"0 for `1.0`": "y = -r", "0 for `r`": "y = 1.0"},
        ),
        (
            "y = (r + 2.0) / 3.0",
            {"1 for `r + 2.0`": "y = 1.0 / 3.0", "1 for `3.0`": "y = r + 2.0",
             "0 for `r`": "y = 2.0 / 3.0", "0 for `2.0`": "y = r / 3.0"},
        ),
        (
            "y = jnp.clip(r, -1.0, 1.0)",
            {"unguarded `jnp.clip(r, -1.0, 1.0)`": "y = r"},
        ),
        (
            "y = jnp.maximum(1.0, r)",
            {"unguarded `jnp.maximum(1.0, r)`": "y = r"},
        ),
        (
            "y = jnp.where(r > 0, r, -r)",
            {"first side of `jnp.where(r > 0, r, -r)`": "y = r",
             "second side of `jnp.where(r > 0, r, -r)`": "y = -r"},
        ),
        (
            "r = r + jnp.mean(r)",
            {"without `r = r + jnp.mean(r)`": 'metrics = {"m": r * 3.0}',
             "0 for `r`": "r = jnp.mean(r)", "0 for `jnp.mean(r)`": "r = r"},
        ),
        # Nothing to take out of indices, shapes and first values.
        ("y = r[..., 1 + 0]", {}),
        ("y = 0.0 + r", {"0 for `r`": "y = 0.0"}),
        ("y = -r", {}),
    ],
)  # fmt: skip
def test_parts_of_a_line(line, expected):
  assert _lines(line) == expected


def test_statements_with_others_inside():
  source = FRAME.format(line="if True:\n    r = r * 2.0\n  r += 1.0")
  whole = source_parts.decompose(source)
  verbs = [name.split(" ", 1)[1] for name in whole.names]
  assert verbs == [
      "without `if True: r = r * 2.0`",
      "without `r = r * 2.0`",
      "1 for `r`",
      "1 for `2.0`",
      "without `r += 1.0`",
  ]
  inner = whole.without([whole.names[1]])
  assert "if True:\n    pass\n" in inner
  outer = whole.without(whole.names[:2])
  assert "if True" not in outer and "pass" not in outer


def test_all_parts_at_once_and_none():
  source = FRAME.format(line="y = (r + 1.0) * (r - 2.0)")
  whole = source_parts.decompose(source)
  assert whole.without([]) == source
  assert "  y = 1.0\n" in whole.without(whole.names)
  assert whole.only(whole.names) == source


def test_init_and_metrics_are_left_alone():
  whole = source_parts.decompose(FRAME.format(line="y = r"))
  assert whole.names == ()


@pytest.mark.parametrize("name", ["grpo", "dapo", "vm_av_grpo"])
def test_what_is_left_of_a_real_loss_passes_the_syntax_gate(name):
  source = catalog.source(name)
  whole = source_parts.decompose(source)
  assert len(set(whole.names)) == len(whole.names)
  for part in whole.parts:
    changed = whole.without([part.name])
    assert changed != source
    faults = [f for f in syntax.check(changed) if f.rule != "scope"]
    assert faults == []
    ast.parse(changed)
