"""Limits, order, threads, and what is left of a pool that is closed."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time

import psutil
import pytest

from poise_jax.tasks import grading_pool
from poise_jax.tasks.grading_pool import Grade, GradingPool

TOWER = "9^{9^{9}}"


def descendants():
  return {p.pid for p in psutil.Process().children(recursive=True)}


def gone(pids):
  for _ in range(100):
    if not any(psutil.pid_exists(pid) for pid in pids):
      return True
    time.sleep(0.05)
  return False


@pytest.fixture(scope="module")
def pool():
  with GradingPool(workers=2, seconds=1.0) as pool:
    pool.same_many(["x^2", "y^2"], ["x*x+1", "y*y+1"])  # both have started
    yield pool


def test_order_and_repetition(pool):
  completions = [rf"\boxed{{{i} + x - x}}" for i in range(12)] * 2
  golds = [str(i) for i in range(11)] + ["x"] + ["3"] * 12
  grades = pool.grade_many(completions, golds)
  assert [g.correct for g in grades] == (
      [True] * 11 + [False] + [i == 3 for i in range(12)]
  )
  assert all(g.format_valid for g in grades)
  assert grades[4] == Grade(True, True, "4 + x - x", False)
  assert pool.grade_many(completions, golds) == grades


def test_what_hangs_is_cut_off_and_counted(pool):
  before = pool.timeouts
  started = time.monotonic()
  grades = pool.grade_many(
      [rf"\boxed{{{TOWER}}}", r"\boxed{2x}", r"\boxed{(10^6)!+1}"],
      ["5", "x+x", "7"],
  )
  # Of the processor's time; others may be at work here.
  assert time.monotonic() - started < 8 * 1.0 + 3.0
  assert [g.correct for g in grades] == [False, True, False]
  assert [g.timed_out for g in grades] == [True, False, True]
  assert pool.timeouts == before + 2


def test_plain_pairs_start_no_process():
  with GradingPool() as pool:
    grades = pool.grade_many(
        [r"\boxed{1/2}", r"\boxed{(1, 2)}", "no idea"], ["0.5", "(1,3)", "7"]
    )
    assert [g.correct for g in grades] == [True, False, False]
    assert not pool._alive


def test_threads_share_a_pool(pool):
  results = {}

  def grade(n):
    completions = [rf"\boxed{{{n} z + {i} z}}" for i in range(5)]
    golds = [f"{n + i}z" for i in range(5)]
    results[n] = [g.correct for g in pool.grade_many(completions, golds)]

  threads = [threading.Thread(target=grade, args=(n,)) for n in range(20, 26)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(60)
  assert results == {n: [True] * 5 for n in range(20, 26)}


def test_a_killed_process_is_replaced():
  with GradingPool(workers=1, seconds=5.0) as pool:
    assert pool.same_many(["a+b"], ["b+a"]) == [True]
    for pid in descendants():
      if "grading_worker" in " ".join(psutil.Process(pid).cmdline()):
        keepers = psutil.Process(pid).parent().pid == os.getpid()
        if keepers and pid in {k._process.pid for k in pool._alive}:
          os.kill(pid, signal.SIGKILL)
    assert pool.same_many(["a+c"], ["c+a"]) == [True]
    assert pool.timeouts == 0


def test_what_ends_a_job_changes_no_verdict():
  with GradingPool(workers=1, seconds=5.0) as pool:
    assert pool.same_many(["a+b"], ["b+a"]) == [True]
    (keeper,) = pool._alive
    # To all processes, as schedulers and systemd do.
    os.killpg(keeper._process.pid, signal.SIGTERM)
    assert pool.same_many(["a+c"], ["c+a"]) == [True]
    assert pool._alive == {keeper} and pool.timeouts == 0


def test_nothing_is_left_after_close():
  before = descendants()
  pool = GradingPool(workers=2, seconds=5.0)
  assert pool.same_many(["a+b", "a+c"], ["b+a", "c+a"]) == [True, True]
  mine = descendants() - before
  assert len(mine) >= 2
  pool.close()
  pool.close()
  assert gone(mine)
  with pytest.raises(RuntimeError, match="closed"):
    pool.grade_many([r"\boxed{x}"], ["y"])


SCRIPT = textwrap.dedent("""
    import signal
    # Else it is ignored where whoever started it ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from poise_jax.tasks import grading_pool
    with grading_pool.GradingPool(workers=2, seconds=60.0) as pool:
      pool.same_many(["x^2", "y^2"], ["x*x+1", "y*y+1"])
      print("ready", flush=True)
      pool.same_many(["5", "6"], ["9^{9^{9}}", "9^{9^{9}}"])
""")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_after_an_interrupt(number):
  root = str(pathlib.Path(grading_pool.__file__).parents[2])
  process = subprocess.Popen(
      [sys.executable, "-c", SCRIPT],
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      cwd=root,
  )
  try:
    assert process.stdout.readline() == b"ready\n"
    time.sleep(0.5)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 4  # two keepers, each with an inmate
    process.send_signal(number)
    assert process.wait(90) != 0
    assert gone([child.pid for child in children])
  finally:
    process.kill()
    process.wait()
    process.stdout.close()


def test_processes_import_no_jax(pool):
  pool.same_many(["x^3"], ["x*x*x+2"])
  for keeper in pool._alive:
    maps = pathlib.Path(f"/proc/{keeper._process.pid}/maps")
    if not maps.exists():
      pytest.skip("there is no /proc here")
    assert "jaxlib" not in maps.read_text()


@pytest.mark.slow
def test_a_training_batch_in_ten_seconds():
  # 256 problems, 8 completions each: an eighth needs algebra.
  golds, completions = [], []
  for i in range(256):
    for j in range(8):
      golds.append(
          rf"\frac{{{i}}}{{7}}+\sqrt{{{i % 32 + 2}}}" if i % 8 == 0 else str(i)
      )
      answer = (
          rf"\sqrt{{{i % 32 + 2}}}+\frac{{{i + j // 4}}}{{7}}"
          if i % 8 == 0
          else str(i + j // 4)
      )
      completions.append("Step by step. " * 200 + rf"\boxed{{{answer}}}")
  with GradingPool(workers=2) as pool:
    pool.same_many(["x^2", "y^2"], ["x*x+1", "y*y+1"])
    started = time.monotonic()
    grades = pool.grade_many(completions, golds)
    seconds = time.monotonic() - started
  assert [g.correct for g in grades] == [
      j < 4 for _ in range(256) for j in range(8)
  ]
  assert seconds < 10


@pytest.mark.parametrize(
    "arguments, message",
    [({"workers": 0}, "`workers`.*got 0"), ({"seconds": 0.0}, "`seconds`")],
)
def test_pools_that_cannot_be(arguments, message):
  with pytest.raises(ValueError, match=message):
    GradingPool(**arguments)


def test_lengths_must_agree(pool):
  with pytest.raises(ValueError, match="`golds` must be as many.*1 and 2"):
    pool.grade_many(["1", "2"], ["1"])
