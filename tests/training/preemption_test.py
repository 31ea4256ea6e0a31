"""Real signals to real processes: one ends a step, two end the process."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from poise_jax.training import preemption

LOOP = """
import os, sys, time
from poise_jax.training import preemption
with preemption.watch() as stop:
  for step in range(1000):
    print("start", step, flush=True)
    until = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < until:
      time.sleep(0.01)
    print("done", step, flush=True)
    if stop():
      print("saved", step, flush=True)
      break
print("left", flush=True)
sys.exit(stop.exit_code)
"""


def start(source, *arguments):
  return subprocess.Popen(
      [sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
  )


@pytest.fixture
def child():
  """Starts children, and leaves none."""
  children = []

  def begin(*arguments):
    children.append(start(*arguments))
    return children[-1]

  yield begin
  for process in children:
    process.kill()
    process.communicate()


def read_until(process, line):
  while (found := process.stdout.readline().strip()) != line:
    assert found, process.stderr.read()


@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
)
def test_first_signal_finishes_the_step(child, number, code):
  process = child(LOOP, 0.5)
  read_until(process, "start 1")
  process.send_signal(number)
  stdout, stderr = process.communicate(timeout=60)
  assert stdout.split("\n") == ["done 1", "saved 1", "left", ""]
  assert process.returncode == code
  assert stderr == ""


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_kills_at_once(child, second):
  process = child(LOOP, 60)
  read_until(process, "start 0")
  process.send_signal(signal.SIGTERM)
  time.sleep(1)
  assert process.poll() is None
  process.send_signal(second)
  begin = time.monotonic()
  stdout, _ = process.communicate(timeout=30)
  assert time.monotonic() - begin < 5
  assert process.returncode == 128 + second
  assert stdout == ""


COMPILED = """
import jax
import jax.numpy as jnp
from poise_jax.training import preemption
# Hours of one call into native code.
f = jax.jit(lambda x: jax.lax.fori_loop(0, 2**30, lambda i, x: x @ x, x))
x = jnp.eye(100)
f = f.lower(x).compile()
with preemption.watch() as stop:
  print("native", flush=True)
  f(x).block_until_ready()
"""


def test_second_signal_kills_inside_native_code(child):
  process = child(COMPILED)
  read_until(process, "native")
  time.sleep(0.2)
  process.send_signal(signal.SIGINT)
  time.sleep(1)
  assert process.poll() is None
  process.send_signal(signal.SIGINT)
  process.communicate(timeout=10)
  assert process.returncode == 130


def test_the_same_wish_heard_twice_is_one_wish(child):
  # As `timeout` does: the process, then its group.
  process = child(LOOP, 1)
  read_until(process, "start 0")
  process.send_signal(signal.SIGTERM)
  time.sleep(0.1)
  process.send_signal(signal.SIGTERM)
  stdout, _ = process.communicate(timeout=60)
  assert "saved 0" in stdout
  assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_old_handlers_come_back(number):
  heard = []
  before = signal.signal(number, lambda n, frame: heard.append(n))
  wakeup = signal.set_wakeup_fd(-1)
  signal.set_wakeup_fd(wakeup)
  threads = threading.active_count()
  try:
    with preemption.watch() as stop:
      assert not stop()
      os.kill(os.getpid(), number)
      assert stop()
      assert stop()
    assert heard == []
    os.kill(os.getpid(), number)
    assert heard == [number]
  finally:
    signal.signal(number, before)
  assert signal.set_wakeup_fd(wakeup) == wakeup
  assert threading.active_count() == threads


def test_a_step_is_left_only_when_told_to():
  with preemption.watch() as stop:
    stop.leave()
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(2):
      with pytest.raises(preemption.StopError):
        stop.leave()
    assert stop() and stop.exit_code == 0


def test_handlers_come_back_after_an_error():
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(KeyError), preemption.watch():
    raise KeyError
  assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_watch_starts_anew():
  for _ in range(3):
    with preemption.watch() as stop:
      assert not stop()
      assert stop.exit_code == 0
      os.kill(os.getpid(), signal.SIGINT)
      assert stop()
      assert stop.exit_code == 130


def test_the_first_signal_decides_the_exit_code():
  with preemption.watch() as stop:
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    assert stop()
  assert stop.exit_code == 0


def test_elsewhere_than_in_the_main_thread_it_never_stops():
  handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
  found = []

  def work():
    with preemption.watch() as stop:
      found.extend([stop(), stop.exit_code, signal.getsignal(signal.SIGTERM)])

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert found == [False, 0, handlers[0]]
  assert handlers[1] is signal.getsignal(signal.SIGINT)


FORK = """
import os, signal, sys, time
from poise_jax.training import preemption
with preemption.watch() as stop:
  pid = os.fork()
  if pid == 0:
    time.sleep(60)
    os._exit(7)
  time.sleep(0.3)
  os.kill(pid, signal.SIGTERM)
  _, status = os.waitpid(pid, 0)
  assert os.WTERMSIG(status) == signal.SIGTERM, status
  time.sleep(0.7)
  # Were the child's signal counted as ours, this would kill.
  os.kill(os.getpid(), signal.SIGTERM)
  assert stop()
  time.sleep(0.3)
print("alive")
"""


def test_forks_die_of_a_signal_without_harm_to_the_parent(child):
  stdout, stderr = child(FORK).communicate(timeout=60)
  assert stdout == "alive\n", stderr


MANY = """
import sys, time
import jax
from poise_jax.training import preemption
index, port = int(sys.argv[1]), sys.argv[2]
jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
with preemption.watch() as stop:
  for step in range(1000):
    print("start", step, flush=True)
    time.sleep(0.1)
    if stop():
      print("saved", step, flush=True)
      break
sys.exit(stop.exit_code)
"""


@pytest.mark.parametrize(
    "number, code", [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
)
def test_a_signal_to_one_process_stops_all_at_the_same_step(
    child, number, code
):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  processes = [child(MANY, index, port) for index in range(2)]
  for process in processes:
    read_until(process, "start 2")
  processes[1].send_signal(number)
  outputs = [process.communicate(timeout=60) for process in processes]
  last = [stdout.splitlines()[-1] for stdout, _ in outputs]
  assert last[0] == last[1]
  assert last[0].startswith("saved"), outputs
  assert [process.returncode for process in processes] == [code, code]
