import pytest

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


def test_peak_memory_is_that_of_a_process():
  before = timing.peak_memory_gib()
  assert 0.05 < before < 1000
  ballast = bytearray(300 * 2**20)
  ballast[::4096] = b"x" * len(ballast[::4096])
  assert timing.peak_memory_gib() >= before
  assert timing.peak_memory_gib() == pytest.approx(
      timing.peak_memory_gib(), rel=0.1
  )
