"""Changes of a text: what changes, and that all else stays."""

import ast

import pytest

from poise_jax.discovery.dissection import source_text

SOURCE = '''\
"""A loss."""

HPARAMS = {"a": 0.1, "b": 2.0, "c": 3}
NEUTRAL = {"c": 0.0}


def unused(x):
  y = x
  return y


def helper(x):
  return x


def init(hparams):
  return {}


def loss(hparams, state, batch):
  mask = batch.completion_mask  # the mask
  # Never read, nor is what it is made of.
  first = jnp.sum(mask)
  second, third = first, first
  if hparams["a"] > 0:
    # A comment that goes with it.
    fourth = 1.0
  kept = helper(hparams["b"] * mask)  # stays
  return jnp.sum(kept), state, {}
'''


def test_reads_what_is_written_in_numbers():
  read = source_text.constants
  assert read(SOURCE, "HPARAMS") == {"a": 0.1, "b": 2.0, "c": 3.0}
  assert read('HPARAMS: dict = {"a": -1.5, "b": x}\n', "HPARAMS") == {"a": -1.5}
  assert read(SOURCE, "OTHER") == {}
  assert read("HPARAMS = dict(a=1.0)\n", "HPARAMS") == {}


def test_writes_other_constants():
  changed = source_text.with_constants(SOURCE, {"b": 0.25})
  assert source_text.constants(changed, "HPARAMS") == {
      "a": 0.1, "b": 0.25, "c": 3.0,
  }  # fmt: skip
  tail = SOURCE.split("NEUTRAL")[1]
  assert changed.endswith(tail)
  assert source_text.with_constants(SOURCE, {}) == SOURCE
  with pytest.raises(ValueError, match=r"`changes` must name .*got \['x'\]"):
    source_text.with_constants(SOURCE, {"x": 1.0})


def test_leaves_out_what_nothing_reads():
  found = source_text.swept(SOURCE)
  assert found == '''\
"""A loss."""

HPARAMS = {
    "a": 0.1,
    "b": 2.0,
}


def helper(x):
  return x


def init(hparams):
  return {}


def loss(hparams, state, batch):
  mask = batch.completion_mask  # the mask
  if hparams["a"] > 0:
    pass
  kept = helper(hparams["b"] * mask)  # stays
  return jnp.sum(kept), state, {}
'''.replace("}\n\n\ndef helper", "}\n\n\n\n\ndef helper")
  assert source_text.swept(found) == found


@pytest.mark.parametrize(
    "line",
    ["x = sum(hparams.values())", "x = helper(hparams)", "x = hparams[name]"],
)
def test_constants_stay_where_all_may_be_read(line):
  source = f"""\
HPARAMS = {{"a": 0.1}}


def loss(hparams, state, batch):
  {line}
  return x, state, {{}}
"""
  assert source_text.swept(source) == source


def test_a_block_of_which_nothing_is_left_passes():
  source = (
      "def loss():\n  for i in range(3):\n    a = 1\n    b = 2\n  return 0\n"
  )
  tree = ast.parse(source)
  loop = tree.body[0].body[0]
  changed = source_text.replaced(source, dict.fromkeys(loop.body))
  assert changed == "def loss():\n  for i in range(3):\n    pass\n  return 0\n"
  one = source_text.replaced(source, {loop.body[0]: "a = (\n    3)"})
  assert ast.literal_eval(ast.parse(one).body[0].body[0].body[0].value) == 3


def test_statements_get_lines_of_their_own():
  assert source_text.normalised(SOURCE) == SOURCE
  for text in ("x = 1; y = 2\n", "if x: y = 2\n"):
    found = source_text.normalised(text)
    assert len(found.splitlines()) == 2
    assert ast.dump(ast.parse(found)) == ast.dump(ast.parse(text))


def test_other_alphabets_keep_their_place():
  source = 'def loss():\n  ä = "é"; b = ä\n  return b\n'
  assert "é" in source_text.normalised(source)
  source = 'def loss():\n  ä = "é"\n  ö = 3\n  return ä\n'
  assert source_text.swept(source) == 'def loss():\n  ä = "é"\n  return ä\n'
