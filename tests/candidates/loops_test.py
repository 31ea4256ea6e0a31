"""How long loops run, as far as the text tells."""

import ast

import pytest

from poise_jax.candidates import loops

_BOUNDED = (
    "for i in range(64): pass",
    "for i in range(10, -20, -1): pass",
    "for i in (1, 2, 3): pass",
    "for i in range(0, 99999999999999999999, 9999999999999999999): pass",
    "for i in range(99999999999999999999, 5): pass",
    "for a, b in zip((1, 2), reversed([3, 4])): pass",
    "for i, k in enumerate(sorted(state.keys())): pass",
    "LEVELS = (1, 2)\nfor i in LEVELS: pass",
    "for i in range(32):\n  for j in range(32): pass",
    "[i for i in range(64)]",
)
_UNBOUNDED = (
    "for i in range(65): pass",
    # More than a word holds, where `len` raises.
    "for i in range(99999999999999999999): pass",
    "for i in range(9, -99999999999999999999, -1): pass",
    "for i in zip((1, 2), range(99999999999999999999)): pass",
    "for i in range(n): pass",
    "for i in range(): pass",
    "for i in (*x, 1): pass",
    "for i in f(): pass",
    "for i in zip((1, 2), x): pass",
    "for i in range(33):\n  for j in range(32): pass",
    "for i in range(64):\n  x = [j for j in range(64)]",
    "{i: j for i in range(64) for j in range(64)}",
)


@pytest.mark.parametrize("source", _BOUNDED)
def test_bounded(source):
  assert not list(loops.unbounded(ast.parse(source)))


@pytest.mark.parametrize("source", _UNBOUNDED)
def test_unbounded(source):
  assert len(list(loops.unbounded(ast.parse(source)))) == 1
