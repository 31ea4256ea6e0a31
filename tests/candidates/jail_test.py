"""The process jail holds by itself: sources that never saw the syntax gate."""

import errno
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import psutil
import pytest

from poise_jax.candidates import artifact, limits
from poise_jax.candidates import child as child_lib
from poise_jax.candidates import jail as jail_lib

_ROOT = Path(__file__).resolve().parents[2]
# Out of the restricted namespace, as no syntax gate stops it here.
_ESCAPE = """
__builtins__.update(jnp.sum.__globals__["__builtins__"])
import ctypes, os, signal, socket, subprocess, sys, time
"""
_BENIGN = """
HPARAMS = {"a": 1.0}
def init(hparams):
  return {}
def loss(hparams, state, batch):
  return jnp.sum(batch.logprobs * batch.completion_mask), state, {}
"""
_SECRET = "POISE_TEST_SECRET"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the full jail needs Linux"
)


def _rules(outcome):
  assert isinstance(outcome, jail_lib.Refusal), outcome
  return [f.rule for f in outcome.findings]


def test_escaped_source_reaches_nothing(jail, tmp_path, monkeypatch):
  monkeypatch.setenv(_SECRET, "1")
  attempts = f"""
HPARAMS = {{}}
def attempt(name, action):
  try:
    action()
    HPARAMS[name] = 1.0
  except (OSError, MemoryError):
    HPARAMS[name] = 0.0
print("x" * 10**7, flush=True)
def raw_fork():
  if ctypes.CDLL(None).syscall(57) < 0:
    raise OSError
attempt("read", lambda: open("/etc/passwd"))
attempt("write", lambda: open({str(tmp_path / "new")!r}, "w"))
attempt("list", lambda: os.listdir("/"))
attempt("proc", lambda: open("/proc/self/environ"))
attempt("socket", lambda: socket.socket())
attempt("fork", lambda: os.fork())
attempt("raw_fork", raw_fork)
attempt("spawn", lambda: subprocess.Popen(["true"]))
attempt("exec", lambda: os.execv("/bin/true", ["true"]))
attempt("kill_parent", lambda: os.kill(os.getppid(), signal.SIGTERM))
attempt("kill_all", lambda: os.kill(-1, signal.SIGTERM))
attempt("memory", lambda: bytearray(2 * 1024**3))
HPARAMS["environment"] = float({_SECRET!r} in os.environ)
"""
  source = _ESCAPE + attempts + _BENIGN.replace('HPARAMS = {"a": 1.0}', "")
  outcome = jail.trace(source.encode())
  assert isinstance(outcome, jail_lib.Traced), outcome
  found = artifact.read(outcome.data).metadata.hparams
  assert len(found) == 13 and not any(found.values()), found
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("attack", "rule"),
    [
        ("while True: pass", "time"),
        pytest.param(
            "for i in range(9): os.write(i, b'x' * 10**6)",
            "execute",
            marks=pytest.mark.slow,
        ),
        ("os.write(3, b'x' * 10**6); os._exit(0)", "jail"),
        ("ctypes.string_at(0)", "jail"),
        pytest.param("sys.exit(0)", "execute", marks=pytest.mark.slow),
        pytest.param(
            "advantages.group_centered.__globals__.clear()",
            "contract",
            marks=pytest.mark.slow,
        ),
    ],
    ids="loop flood garbage crash exit patch".split(),
)
def test_attack_is_contained(jail, attack, rule):
  assert _rules(jail.trace((_ESCAPE + attack).encode())) == [rule]


def test_source_after_an_attack_is_unaffected(jail):
  assert isinstance(jail.trace(_BENIGN.encode()), jail_lib.Traced)


def test_forged_answer_is_not_believed(jail):
  forged = """
from poise_jax.candidates import wire
body = b"poise-jax artifact\\n" + b"x" * 99
answer = wire.encode({"ok": True, "sizes": [len(body)]}, body)
for pipe in range(3, 300):
  try:
    os.write(pipe, answer)
  except OSError:
    pass
os._exit(0)
"""
  outcome = jail.trace((_ESCAPE + forged).encode())
  assert isinstance(outcome, jail_lib.Traced), outcome
  with pytest.raises(ValueError, match="artifact"):
    artifact.read(outcome.data)


@pytest.mark.slow
def test_sleeping_source_is_killed_and_nothing_is_left():
  before = psutil.Process().children(recursive=True)
  bounds = limits.Limits(wall_seconds=0.5)
  with jail_lib.Jail(bounds) as jail:
    jail.wait_until_warm()
    started = time.monotonic()
    source = _ESCAPE + "time.sleep(1000)"
    assert _rules(jail.trace(source.encode())) == ["time"]
    # Tried twice: waiting may be the machine's fault.
    assert time.monotonic() - started < 60.0
  assert psutil.Process().children(recursive=True) == before
  with pytest.raises(ValueError, match="closed"):
    jail.trace(b"")


def test_missing_filter_is_told_and_can_be_refused(tmp_path, monkeypatch):
  (tmp_path / "pyseccomp.py").write_text("raise ImportError")
  monkeypatch.syspath_prepend(tmp_path)
  with jail_lib.Jail(require_jail=True) as jail:
    # Not a verdict: the source is not to blame, and must not be stored so.
    with pytest.raises(jail_lib.JailError, match="install libseccomp"):
      jail.trace(_BENIGN.encode())
    jail.require_jail = False
    (advisory,) = jail.trace(_BENIGN.encode()).findings
    assert (advisory.level, advisory.rule) == ("advisory", "jail")


def test_source_that_is_too_long_is_refused_without_a_child(jail):
  too_long = b"#" * (limits.SOURCE_BYTES + 1)
  assert _rules(jail.trace(too_long)) == ["source-size"]


def test_dead_standby_is_replaced(jail):
  jail.wait_until_warm()
  os.kill(jail._spares[0].pid, signal.SIGKILL)
  os.kill(jail._examiner.pid, signal.SIGKILL)
  time.sleep(0.1)
  traced = jail.trace(_BENIGN.encode())
  assert isinstance(traced, jail_lib.Traced)
  assert not jail.examine(traced.data, must_learn=False).findings


def test_examiner_serves_many_and_is_replaced_in_time(jail, monkeypatch):
  data = jail.trace(_BENIGN.encode()).data
  jail.wait_until_warm()
  monkeypatch.setattr(jail_lib, "MAX_USES", jail._examiner.uses + 2)
  first = jail._examiner.pid
  assert not jail.examine(data, must_learn=False).findings
  assert jail._examiner.pid == first
  assert not jail.examine(data, must_learn=False).findings
  jail.refill()
  assert jail._examiner.pid != first


def test_a_machine_without_room_for_a_process_is_no_verdict(jail, monkeypatch):
  start, attempts = subprocess.Popen, []

  def full(command, **_):
    attempts.append(command[-1])
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

  jail.wait_until_warm()
  monkeypatch.setattr(subprocess, "Popen", full)
  # The warm one answers; that no other can be started changes nothing.
  assert isinstance(jail.trace(_BENIGN.encode()), jail_lib.Traced)
  outcome = jail.trace(_BENIGN.encode())
  assert _rules(outcome) == ["machine"] and not outcome.conclusive
  with pytest.raises(jail_lib.JailError, match="memory or process"):
    jail.wait_until_warm()
  assert set(attempts) == {"trace"}
  monkeypatch.setattr(subprocess, "Popen", start)
  assert isinstance(jail.trace(_BENIGN.encode()), jail_lib.Traced)


def test_a_used_examiner_that_dies_is_not_the_fault_of_an_artifact(
    jail, monkeypatch
):
  data = jail.trace(_BENIGN.encode()).data
  assert not jail.examine(data, must_learn=False).findings
  used, ask = jail._examiner, child_lib.Child.ask

  def die(child, *args, **kwargs):
    if child is used:
      raise child_lib.SilentError("died")
    return ask(child, *args, **kwargs)

  assert used.uses > 0
  monkeypatch.setattr(child_lib.Child, "ask", die)
  assert not jail.examine(data, must_learn=False).findings


def test_what_is_killed_from_outside_twice_is_no_verdict(jail, monkeypatch):
  def killed(*_, **__):
    raise child_lib.SilentError("killed")

  monkeypatch.setattr(child_lib.Child, "ask", killed)
  outcome = jail.trace(_BENIGN.encode())
  assert _rules(outcome) == ["machine"] and not outcome.conclusive


def test_pool_keeps_its_size(jail):
  children = psutil.Process().children()
  assert isinstance(jail.trace(_BENIGN.encode()), jail_lib.Traced)
  assert len(psutil.Process().children()) == len(children)
  with pytest.raises(ValueError, match="`spares`.*0"):
    jail_lib.Jail(spares=0)


def test_child_dies_with_its_parent():
  code = """
import os, time
from poise_jax.candidates import jail
j = jail.Jail()
print(j._spares[0].pid, flush=True)
time.sleep(1000)
"""
  with subprocess.Popen(
      [sys.executable, "-c", code], cwd=_ROOT, stdout=subprocess.PIPE
  ) as parent:
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10.0
    while psutil.pid_exists(child) and time.monotonic() < deadline:
      time.sleep(0.05)
    assert not psutil.pid_exists(child)
