"""Hostile sources, through the whole gate and through the jail alone.

Every source is in `hostile/*.txt`. With the syntax gate, none is accepted that
should not be; without it, none gets out. Around them there are canaries: a
directory, two listening sockets, a process, the environment; and a secret, in
a file and in the environment, that no verdict may contain.
"""

import contextlib
import dataclasses
import json
import os
from pathlib import Path
import secrets
import socket
import subprocess
import sys
import time

import psutil
import pytest

from poise_jax.candidates import jail as jail_lib
from poise_jax.candidates import limits, verification

_SECRET = secrets.token_hex(16)
_HPARAMS = 'HPARAMS = {"a": 1.0}\n'
_INIT = "def init(hparams):\n  return {}\n"
_LOSS = """
def loss(hparams, state, batch):
  centered = batch.rewards - batch.rewards.mean(axis=1, keepdims=True)
  weights = centered[..., None] * batch.completion_mask
  return -(batch.logprobs * weights).sum(), state, {}
"""
_MACROS = {
    "@HPARAMS@": _HPARAMS,
    "@INIT@": _INIT,
    "@LOSS@": _LOSS,
    "@HEAD@": _HPARAMS + _INIT + _LOSS,
    "@TAIL@": _INIT + _LOSS,
    "@DEEP@": "-" * 30_000 + "1",
    "@BRACKETS@": "[" * 150 + "]" * 150,
    "@DIGITS@": "7" * 60_000,
    "@NUL@": "\0",
    "@SURROGATE@": "\ud800",
    "@LONG@": "x" * (limits.SOURCE_BYTES + 1),
    "@REPEAT@": "\n".join(
        f"x{i} = jnp.lo_{'abcdefghij' * 2}{i}" for i in range(1400)
    ),
}
# What a source could have after an escape; no syntax gate stops it here.
_ESCAPE = """
__builtins__.update(jnp.sum.__globals__["__builtins__"])
import ctypes, os, signal, socket, subprocess, sys, time
jax, jnp = sys.modules["jax"], sys.modules["jax.numpy"]
"""
# Odd but within the rules, or stopped only in what they would do outside.
_HARMLESS = frozenset(
    "nested_tuples_that_share colliding_keys read_the_environment".split()
)
# The ones that come nearest to the edges of the jail, for the fast tier.
_WORST = (
    "fork_bomb kill_everything fill_the_disk forge_a_finding connect"
    " write_over_memory tell_a_file tell_the_environment_of_the_parent"
    " send_a_datagram"
).split()

# Past the syntax gate; one for each of the places where they end.
_SAMPLE = (
    "double_a_text folded_constants exception_with_surrogates" " not_a_number"
).split()


class _ReachedTheJail(Exception):
  pass


class _NoJail(jail_lib.Jail):
  """Stands where no child should be needed."""

  def __init__(self):
    self.bounds = limits.Limits()

  def trace(self, *_, **__):
    raise _ReachedTheJail

  def refill(self):
    pass


def _read(file: Path) -> dict[str, str]:
  _, *parts = f"\n{file.read_text('utf-8')}".split("\n=== ")
  return {name: text for name, _, text in (p.partition("\n") for p in parts)}


_FILES = {
    file.stem: _read(file)
    for file in sorted((Path(__file__).parent / "hostile").glob("*.txt"))
}
_SOURCES = {name: s for file in _FILES.values() for name, s in file.items()}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the full jail needs Linux"
)


@pytest.fixture(scope="module")
def jail():
  # Two wait while one works: most of these sources cost a child each.
  bounds = limits.Limits(
      wall_seconds=8.0,
      cpu_seconds=2,
      memory_bytes=1024**3,
      verify_seconds=60.0,
  )
  with jail_lib.Jail(bounds, spares=2) as ready:
    yield ready


@contextlib.contextmanager
def _victim():
  """A process that does nothing, and must go on doing so."""
  process = subprocess.Popen(["sleep", "1000"], stdout=subprocess.DEVNULL)
  try:
    yield process
  finally:
    process.kill()
    process.wait()


@pytest.fixture
def outside(tmp_path, monkeypatch):
  """Canaries, and a function that fills them into a source."""
  monkeypatch.setenv("POISE_CANARY", _SECRET)
  (tmp_path / "kept").write_text(_SECRET)
  (tmp_path / "kept").chmod(0o600)
  with (
      _victim() as victim,
      socket.create_server(("127.0.0.1", 0)) as server,
      socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mailbox,
  ):
    mailbox.bind(("127.0.0.1", 0))
    for listener in (server, mailbox):
      listener.setblocking(False)
    before = _snapshot(tmp_path, victim, server, mailbox)

    def fill(source):
      places = {
          "@DIR@": str(tmp_path),
          "@PORT@": str(server.getsockname()[1]),
          "@MAILBOX@": str(mailbox.getsockname()[1]),
          "@PARENT@": str(os.getpid()),
          "@PID@": str(victim.pid),
      }
      for name, text in (_MACROS | places).items():
        source = source.replace(name, text)
      return source

    yield fill
    assert _snapshot(tmp_path, victim, server, mailbox) == before


def _snapshot(folder, victim, server, mailbox):
  """Everything that no source may change."""
  try:
    server.accept()
    called = True
  except BlockingIOError:
    called = False
  try:
    mailbox.recvfrom(1)
    written = True
  except BlockingIOError:
    written = False
  me = psutil.Process()
  return {
      "files": [
          (p.name, p.stat().st_mode, p.read_text()) for p in folder.iterdir()
      ],
      "shared": os.path.exists("/dev/shm/poise_canary"),
      "called": called,
      "written": written,
      "victim": victim.poll(),
      # pytest notes there which part of a test is running.
      "environment": {k: v for k, v in os.environ.items() if "PYTEST" not in k},
      "directory": os.getcwd(),
      "priority": me.nice(),
      "children": [c.name() for c in me.children() if c.name() == "sleep"],
  }


def _assert_is_verdict(verdict, seconds):
  assert seconds < 60.0 + 5.0
  assert verdict.conclusive, verdict
  # The archive can store it, on every database.
  text = json.dumps([f.to_json() for f in verdict.findings], ensure_ascii=False)
  assert "\0" not in text and text.encode("utf-8")
  assert all(f.message and f.hint for f in verdict.findings)
  told = dataclasses.asdict(dataclasses.replace(verdict, artifact=None))
  assert _SECRET not in repr(told)
  assert _SECRET.encode() not in (verdict.artifact or b"")


def test_the_corpus_is_large():
  assert len(_SOURCES) == sum(map(len, _FILES.values())) >= 150
  assert _HARMLESS | set(_WORST) <= set(_SOURCES)


def _with_gate(names, jail, outside):
  for name in names:
    start = time.monotonic()
    verdict = verification.verify(outside(_SOURCES[name]), jail)
    seconds = time.monotonic() - start
    print(f"{name}: {seconds:.1f} s, {verdict.ok}, {verdict.findings[:1]}")
    _assert_is_verdict(verdict, seconds)
    assert verdict.ok == (name in _HARMLESS), (name, verdict.findings)
    # "jail" would mean that a source got as far as harming its process.
    assert all(f.rule != "jail" for f in verdict.findings), (name, verdict)
  assert verification.verify(outside("@HEAD@"), jail).ok


def test_gate_refuses_what_needs_no_jail(outside):
  refused, start = 0, time.monotonic()
  for source in _SOURCES.values():
    with contextlib.suppress(_ReachedTheJail):
      verdict = verification.verify(outside(source), _NoJail())
      assert not verdict.ok and all(f.hint for f in verdict.findings)
      refused += 1
  assert refused >= 110
  assert time.monotonic() - start < 30.0


def test_a_sample_passes_neither_gate_nor_jail(jail, outside):
  _with_gate(_SAMPLE, jail, outside)


@pytest.mark.slow
@pytest.mark.parametrize("file", _FILES)
def test_no_source_passes_both_gate_and_jail(jail, outside, file):
  _with_gate(_FILES[file], jail, outside)


def _without_gate(names, jail, outside):
  for name in names:
    start = time.monotonic()
    verdict = verification.verify(
        _ESCAPE + outside(_SOURCES[name]), jail, gate=lambda source: ()
    )
    seconds = time.monotonic() - start
    print(f"{name}: {seconds:.1f} s, {verdict.ok}, {verdict.findings[:1]}")
    _assert_is_verdict(verdict, seconds)
  assert verification.verify(outside("@HEAD@"), jail).ok


def test_jail_alone_contains_the_worst_without_the_gate(jail, outside):
  _without_gate(_WORST, jail, outside)


@pytest.mark.slow
@pytest.mark.parametrize("file", _FILES)
def test_jail_alone_contains_every_source(jail, outside, file):
  # A lone surrogate, or a text that is too long, never reaches the jail.
  _without_gate(_FILES[file], jail, outside)
