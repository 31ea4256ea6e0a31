"""The syntax gate: what it lets through and what it refuses, with a reason."""

import time

import hypothesis
from hypothesis import strategies as st
import pytest

from poise_jax.algorithms import catalog
from poise_jax.candidates import limits, syntax

_BENIGN = '''
"""A docstring with (brackets [and {braces."""
HPARAMS = {"clip": 0.2, "beta": -1e-3}
NEUTRAL = {"beta": 0.0}
LEVELS = (0.1, 0.2)

def init(hparams):
  return {"mean": jnp.zeros(3)}

def helper(x, *, scale: float = 2.0):
  """Scales."""
  return x * scale ** 2

def loss(hparams, state, batch):
  mask = batch.completion_mask
  total = jnp.zeros(())
  for i, level in enumerate(LEVELS):
    for j in range(2, 8, 2):
      total += helper(batch.logprobs, scale=level).sum() * i * j
  metrics = {f"level_{i}": jnp.float32(v) for i, v in enumerate((1, 2))}
  metrics["ratio"] = (jnp.exp(batch.entropy) * mask)[:, 0, ::2].mean()
  adv = batch.rewards - batch.rewards.mean(axis=1, keepdims=True)
  first = adv.at[:, 0].set(0.0).shape[0]
  if len(metrics) > 1 and first is not None:
    total = jax.lax.stop_gradient(total) + jax.nn.relu(adv).sum() / jnp.pi
  state = {k: v * 0.9 for k, v in state.items()}
  return total, state, metrics
'''

_REFUSED = {
    # Names and attributes.
    "import os": "construct",
    "from jax import random": "construct",
    "x = __import__('os')": "dunder",
    "x = open('/etc/passwd')": "scope",
    "x = eval('1')": "scope",
    "x = exec('1')": "scope",
    "x = getattr(jnp, 'load')": "scope",
    "x = globals()": "scope",
    "x = type(1)": "scope",
    "x = print('hello')": "scope",
    "x = os.environ": "scope",
    "x = numpy.load('f')": "scope",
    "x = jnp.load('f')": "scope",
    "x = jnp.save('f', 1)": "scope",
    "x = jnp.savez('f', 1)": "scope",
    "x = jnp.fromfile('f')": "scope",
    "x = jnp.frombuffer(b'1')": "scope",
    "x = jnp.genfromtxt('f')": "scope",
    "x = jnp.vectorize(abs)": "scope",
    "x = jnp.linalg.inv(1)": "scope",
    "x = jax.random.key(0)": "scope",
    "x = jax.debug.print('x')": "scope",
    "x = jax.pure_callback": "scope",
    "x = jax.lax.while_loop": "scope",
    "x = jax.numpy.load": "scope",
    "x = advantages.jnp.load": "scope",
    "x = advantages.jax": "scope",
    "f = jnp.load\nx = 1": "scope",
    "x = ().__class__": "dunder",
    "x = jnp.sum.__globals__": "dunder",
    "x = [].__class__.__base__.__subclasses__()": "dunder",
    "x = '{0.__class__}'.format(1)": "scope",
    "x = f'{().__class__}'": "dunder",
    "x = f'{1:>9999999}'": "construct",
    "x = '%9999999d' % 1": "arithmetic",
    "jnp = 1": "scope",
    "def loss(jax): pass": "scope",
    "def __getattr__(name): pass": "dunder",
    "jnp.sum = 1": "construct",
    "kl.k3 = 1": "construct",
    "def f(x):\n  x.y = 1": "construct",
    # Statements.
    "class A: pass": "construct",
    "while True: pass": "construct",
    "for i in range(3): pass": "top-level",
    "if 1: x = 1": "top-level",
    "with 1: pass": "construct",
    "try:\n  x = 1\nexcept: pass": "construct",
    "def f():\n  raise 1": "construct",
    "def f():\n  global x": "construct",
    "def f():\n  yield 1": "construct",
    "async def f(): pass": "construct",
    "@abs\ndef f(): pass": "construct",
    "def f():\n  import os": "construct",
    # Values that blow up.
    "x = 10 ** 10 ** 10": "arithmetic",
    "x = 2 ** 99999": "arithmetic",
    "x = 1 << 999999": "arithmetic",
    "x = [0] * 999999999": "arithmetic",
    "x = 'a' * 999999999": "arithmetic",
    "x = 99999999999999": "literal",
    "x = 1e999": "literal",
    "x = b'abc'": "literal",
    "x = 3j": "literal",
    "x = {1, 2}": "construct",
    "x = {f for f in (1, 2)}": "construct",
    "x = set((1, 2))": "scope",
    "x = __text__": "dunder",
    "def f():\n  for i in range(1000): pass": "loop",
    "def f(n):\n  for i in range(n): pass": "loop",
    "def f(x):\n  for i in x: pass": "loop",
    "def f():\n  for i in range(1, 9, 0): pass": "loop",
    "x = [[[0 for i in range(60)] for j in range(60)] for k in (1, 2)]": "loop",
    "def f(x):\n  return [i for i in x]": "loop",
    # Texts that are no program, or too much of one.
    "def f(:": "parse",
    "x = '\0'": "parse",
    "\ud800": "encoding",
    "(" * 500 + ")" * 500: "parse",
    "x = " + "-" * 50000 + "1": "nesting",
    "x = " + "1+" * 20000 + "1": "nesting",
    "x = " + "[" * 150 + "]" * 150: "nesting",
    "x = (" + "1," * 25000 + ")": "source-size",
    "#" * (limits.SOURCE_BYTES + 1): "source-size",
}


def test_ordinary_loss_passes():
  assert syntax.check(_BENIGN) == ()


@pytest.mark.parametrize("name", catalog.names())
def test_every_source_of_the_catalogue_passes(name):
  assert syntax.check(catalog.source(name)) == ()


@pytest.mark.parametrize("source", _REFUSED, ids=lambda s: repr(s[:40]))
def test_refuses(source):
  found = syntax.check(source)
  assert found[0].rule in (_REFUSED[source], "nesting"), found
  assert all(f.level == "contract" and f.hint for f in found)


def test_names_line_and_suggests_what_was_meant():
  (finding,) = syntax.check("\nx = 1\ny = jnp.meen(x)\n")
  assert finding.message == "line 3: `jnp.meen` is not available"
  assert "jnp.mean" in finding.hint


def test_reports_faults_in_the_order_of_lines_up_to_a_limit():
  found = syntax.check("\n".join(f"x{i} = unknown{i}" for i in range(50)))
  assert len(found) == syntax.MAX_FINDINGS
  assert [f.message.split(":")[0] for f in found[:2]] == ["line 1", "line 2"]


def test_thousands_of_faults_cost_no_more_than_the_first_few():
  names = [f"jnp.lo_{'abcdefghij' * 2}{i}" for i in range(1400)]
  source = "\n".join(f"x{i} = {name}" for i, name in enumerate(names))
  start = time.process_time()
  assert len(syntax.check(source)) == syntax.MAX_FINDINGS
  # Suggestions for all of them would take a minute.
  assert time.process_time() - start < 3.0


_PIECES = st.sampled_from(
    "x jnp . ( ) [ ] { } : = + ** , 1 9 'a' \n\t if for in def lambda import"
    " __class__ \\ \0 # ; @ * f'{ }' not".split(" ")
)


@hypothesis.given(st.text() | st.lists(_PIECES, max_size=40).map(" ".join))
@hypothesis.settings(max_examples=200, deadline=None)
def test_never_raises(source):
  for finding in syntax.check(source):
    assert finding.level == "contract"
