"""Random programs: the gate never raises, the parent never notices."""

import gc
import os
import re
import sys
import tempfile
import time

import hypothesis
from hypothesis import strategies as st
import psutil
import pytest

from poise_jax.algorithms import catalog
from poise_jax.candidates import (
    examination,
    findings,
    inmate,
    limits,
    syntax,
    verification,
)
from poise_jax.candidates import jail as jail_lib

_REQUEST = {"group_size": 8, "fallback_shape": None}
_FIELDS = ("logprobs", "old_logprobs", "entropy", "rewards", "completion_mask")
_NAMES = st.sampled_from(
    [f"batch.{name}" for name in _FIELDS]
    + ["x", "hparams['a']", "state['s']", "batch.step", "jnp.nan", "init"]
)
_NUMBERS = st.sampled_from(
    ["0", "1", "-1", "0.5", "2147483647", "1e30", "True", "None", "'t'", "()"]
    + ["99999999999999999999", "-99999999999999999999", "range(10**9)"]
)
_CALLS = st.sampled_from(
    "jnp.exp jnp.log jnp.sqrt jnp.mean jnp.sum jnp.sort jnp.cumsum jnp.std"
    " jnp.reshape jnp.where jnp.take jnp.linspace jnp.zeros jnp.einsum float"
    " int str len range jax.nn.softmax jax.nn.relu jax.lax.scan jax.lax.top_k"
    " jax.lax.stop_gradient kl.k3 list dict sorted max loss init".split()
)


def _larger(parts):
  pair = st.tuples(parts, st.sampled_from("+ - * / ** // % @ < ==".split()))
  return st.one_of(
      st.tuples(pair, parts).map(lambda t: f"({t[0][0]} {t[0][1]} {t[1]})"),
      st.tuples(_CALLS, st.lists(parts, max_size=3)).map(
          lambda t: f"{t[0]}({', '.join(t[1])})"
      ),
      st.tuples(parts, parts).map(lambda t: f"{t[0]}[{t[1]}]"),
      parts.map(lambda p: f"{p}[..., None]"),
      parts.map(lambda p: f"(lambda x: {p})"),
      st.lists(parts, max_size=3).map(lambda p: f"[{', '.join(p)}]"),
      parts.map(lambda p: f"f'{{{p}}}'" if "'" not in p else p),
      st.tuples(parts, parts, parts).map(
          lambda t: f"({t[0]} if {t[1]} else {t[2]})"
      ),
  )


_EXPRESSIONS = st.recursive(_NAMES | _NUMBERS, _larger, max_leaves=12)


@st.composite
def _programs(draw):
  """Module texts that often pass the gate, and now and then the jail."""
  constants = draw(st.sampled_from(['{"a": 0.5}', "{}", "[1]", '{"a": "b"}']))
  start = draw(st.sampled_from(["0.0", "jnp.zeros(2)", "hparams['a']"]))
  lines = [
      f"HPARAMS = {constants}",
      "def init(hparams):",
      f"  return {{'s': {start}}}",
      "def loss(hparams, state, batch):",
      "  x = batch.logprobs * batch.completion_mask",
  ]
  for _ in range(draw(st.integers(0, 3))):
    statement = draw(
        st.sampled_from(
            ["x = {}", "x += {}", "if {}: x = x * 2", "assert {}", "{}"]
            + ["for i in range({}): x = x + i", "y = [i for i in {}]"]
        )
    )
    lines.append("  " + statement.format(draw(_EXPRESSIONS)))
  value = draw(_EXPRESSIONS | st.just("x") | st.just("x.sum()"))
  total = draw(st.sampled_from(["jnp.sum({})", "{}"]))
  result = f"{total.format(value)}, state, {{}}"
  lines.append(f"  return {draw(st.sampled_from([result, value]))}")
  return "\n".join(lines)


# A part of a real program, and what may stand there instead.
_PIECES = re.compile(r"batch\.\w+|hparams\[[^]]*\]|\b\d[\d.e-]*\b|\w+\.\w+\(")
# Read here: what is imported for it must not be while examples are drawn.
_PROGRAMS = {name: catalog.source(name) for name in catalog.names()}
_MUTANTS = _NAMES | _NUMBERS | _CALLS.map("{}(".format)


@st.composite
def _variations(draw):
  """Real programs in which a few names, numbers or calls are exchanged."""
  text = _PROGRAMS[draw(st.sampled_from(sorted(_PROGRAMS)))]
  for _ in range(draw(st.integers(1, 3))):
    found = list(_PIECES.finditer(text))
    piece = draw(st.sampled_from(found))
    other = draw(st.sampled_from(found).map(lambda m: m[0]) | _MUTANTS)
    text = text[: piece.start()] + other + text[piece.end() :]
  return text


def _assert_findings(found):
  for finding in found:
    assert isinstance(finding, findings.Finding)
    assert finding.rule and finding.message and finding.hint
    (finding.message + finding.hint).encode("utf-8")


def _try(source):
  """What the two children would do, here: nothing may be raised."""
  found = syntax.check(source)
  _assert_findings(found)
  if found:
    return "gate"
  header, body = inmate.serve(_REQUEST, source.encode(), limits.Limits())
  if not header["ok"]:
    assert findings.from_json(header["finding"])
    return "trace"
  artifact = body[: header["sizes"][0]]
  _assert_findings(examination.examine(artifact).findings)
  return "examined"


@hypothesis.given(_programs() | _variations())
@hypothesis.settings(max_examples=40, deadline=None, database=None)
def test_random_programs_get_an_answer(source):
  _try(source)


@pytest.mark.slow
def test_five_thousand_random_programs_get_an_answer():
  reached = {"gate": 0, "trace": 0, "examined": 0}

  @hypothesis.given(_programs() | _variations())
  @hypothesis.settings(
      max_examples=5000,
      deadline=None,
      database=None,
      suppress_health_check=list(hypothesis.HealthCheck),
  )
  def run(source):
    reached[_try(source)] += 1

  run()
  print(reached)
  assert sum(reached.values()) >= 5000
  # They are no use if they all end at the first gate.
  assert reached["trace"] > 500 and reached["examined"] > 20


def _resources():
  gc.collect()
  me = psutil.Process()
  return {
      "children": len(me.children(recursive=True)),
      "descriptors": me.num_fds(),
      "threads": me.num_threads(),
      "memory": me.memory_info().rss,
      "files": len(os.listdir(tempfile.gettempdir())),
  }


def _of_children():
  """Memory of all children that are warm and wait."""
  children = psutil.Process().children(recursive=True)
  return sum(child.memory_info().rss for child in children)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors")
def test_two_hundred_candidates_leave_nothing_behind():
  names = catalog.names()
  escape = '__builtins__.update(jnp.sum.__globals__["__builtins__"])\n'
  # Refused by the text, by the contract; hostile, too long, a crash.
  bad = [
      "import os",
      "HPARAMS = {}",
      escape + "import os\nos.kill(os.getppid(), 9)",
      escape + "while True: pass",
      escape + "import ctypes\nctypes.string_at(0)",
  ]
  bounds = limits.Limits(cpu_seconds=3)
  times = []
  with jail_lib.Jail(bounds) as jail:
    for i in range(200):
      source = (
          bad[i // 10 % 5]
          if i % 10 == 9
          else catalog.source(names[i % len(names)])
      )
      jail.wait_until_warm()
      if i == 20:
        before, waiting = _resources(), _of_children()
      start = time.monotonic()
      verdict = verification.verify(
          source,
          jail,
          must_learn=False,
          gate=syntax.check if i % 10 != 9 else lambda source: (),
      )
      assert verdict.ok == (i % 10 != 9), verdict
      if verdict.ok:
        times.append(time.monotonic() - start)
    jail.wait_until_warm()
    after, waiting_still = _resources(), _of_children()
  times.sort()
  print(before, after, "median", times[len(times) // 2], "worst", times[-1])
  print("children", waiting, waiting_still)
  # Others write there as well.
  assert after.pop("files") - before.pop("files") < 20
  # An examiner has served up to 40 artifacts, or none.
  assert waiting_still - waiting < 1024**3
  grown = after.pop("memory") - before.pop("memory")
  assert after == before
  assert grown < 32 * 1024**2, grown
