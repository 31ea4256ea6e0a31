import subprocess
import sys

from poise_jax.benchmarks import timing


def test_every_function_is_called_once_before_and_once_a_round():
  calls = []
  work = {name: lambda n=name: calls.append(n) for name in "ab"}
  times = timing.measure(work, 2)
  assert calls == ["a", "b"] * 3
  assert {name: len(values) for name, values in times.items()} == {
      "a": 2,
      "b": 2,
  }
  assert all(t >= 0 for values in times.values() for t in values)


def test_ratios_are_taken_within_a_round():
  # Twice as slow in every round, though the rounds differ tenfold.
  times = {"grpo": [1.0, 10.0, 2.0], "x": [2.0, 20.0, 4.0]}
  assert timing.summarise(times, "grpo")["x"] == {
      "milliseconds": 4000.0,
      "ratio": 2.0,
      "ratio_low": 2.0,
      "ratio_high": 2.0,
  }


def test_the_machine_is_told_with_its_load():
  machine = timing.machine()
  assert machine["device"] == "cpu" and machine["cores"] >= 1
  assert machine["load"] >= 0.0


def test_peak_memory_counts_what_was_held_and_let_go():
  # In a process of its own: the peak of this one may be higher already, and
  # must not count there.
  ballast = bytearray(b"x") * 2**30
  program = (
      "from poise_jax.benchmarks import timing\n"
      "before = timing.peak_memory_gib()\n"
      "ballast = bytearray(b'x') * 2**29\n"
      "del ballast\n"
      "print(timing.peak_memory_gib() - before)\n"
  )
  done = subprocess.run(
      [sys.executable, "-c", program],
      capture_output=True,
      text=True,
      check=True,
  )
  del ballast
  assert 0.3 < float(done.stdout) < 0.7
