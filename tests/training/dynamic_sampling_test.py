"""Batches of mixed groups, their order, their shape, and kills on the way."""

import json
import os
import signal
import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
import pytest

from poise_jax.training import dynamic_sampling, history, prompts
from poise_jax.training.dynamic_sampling import Attempt
from poise_jax.training.prompts import Position


class Groups(NamedTuple):
  tokens: np.ndarray
  scores: dict


def scripted(*rounds):
  """Samples groups numbered from 0; 1 in `rounds` marks those to keep."""
  calls = []

  def sample(position, attempt):
    calls.append((position, attempt))
    flags = np.array(rounds[attempt], bool)
    number = position.index + np.arange(len(flags))
    groups = Groups(
        np.tile(number[:, None, None], (1, 2, 3)).astype(np.int32),
        {"reward": number.astype(np.float32)[:, None] / 2},
    )
    after = Position(0, position.index + len(flags))
    return Attempt(groups, flags, after, {"number": number})

  sample.calls = calls
  return sample


def fill(target, max_attempts, *rounds):
  return dynamic_sampling.fill(
      target, max_attempts, scripted(*rounds), prompts.START
  )


def numbers(filled):
  return filled.groups.tokens[:, 0, 0].tolist()


def test_mixed_groups_are_neither_all_right_nor_all_wrong():
  correct = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
  mixed = dynamic_sampling.mixed(correct)
  assert mixed.tolist() == [False, True, True, False]
  assert mixed.dtype == bool


def test_one_round_is_enough_when_all_are_kept():
  filled = fill(3, 5, [1, 1, 1])
  assert numbers(filled) == [0, 1, 2]
  assert filled.statistics == (1, 3, 3, 0, 0)
  assert filled.statistics.kept_ratio == 1
  assert filled.position == Position(0, 3)


def test_rounds_go_on_until_the_batch_is_full():
  sample = scripted([0, 1, 0], [0, 0, 0], [1, 1, 1], [1, 1, 1])
  filled = dynamic_sampling.fill(3, 9, sample, Position(0, 100))
  assert numbers(filled) == [101, 106, 107]
  # The surplus group, 108, is dropped, and the source has moved past it.
  assert filled.position == Position(0, 109)
  assert filled.statistics == dynamic_sampling.Statistics(
      attempts=3, sampled=9, kept=4, padded=0, surplus=1
  )
  assert filled.statistics.kept_ratio == 4 / 9
  assert sample.calls == [
      (Position(0, 100), 0),
      (Position(0, 103), 1),
      (Position(0, 106), 2),
  ]


def test_all_leaves_go_along_and_keep_their_type():
  groups = fill(2, 3, [0, 1], [1, 0]).groups
  assert groups.tokens.shape == (2, 2, 3)
  assert groups.tokens.dtype == np.int32
  np.testing.assert_array_equal(groups.scores["reward"], [[0.5], [1.0]])
  assert groups.scores["reward"].dtype == np.float32


def test_at_the_cap_the_first_others_fill_the_batch_in_their_order():
  filled = fill(4, 2, [0, 0, 1], [0, 1, 0])
  # 2 and 4 are mixed; 0 and 1 are the first that are not.
  assert numbers(filled) == [0, 1, 2, 4]
  assert filled.statistics == dynamic_sampling.Statistics(
      attempts=2, sampled=6, kept=2, padded=2, surplus=0
  )


def test_nothing_mixed_at_all():
  filled = fill(3, 2, [0, 0], [0, 0])
  assert numbers(filled) == [0, 1, 2]
  assert filled.statistics.padded == 3
  assert filled.statistics.kept_ratio == 0


def test_what_was_seen_includes_what_was_dropped():
  filled = fill(1, 3, [0, 0], [1, 1])
  assert filled.seen["number"].tolist() == [0, 1, 2, 3]


def test_any_rounds_give_what_choosing_at_the_end_gives():
  rng = np.random.default_rng(0)
  for _ in range(200):
    size, target, cap = rng.integers(1, 6, 3).tolist()
    if size * cap < target:
      continue
    rounds = rng.random((cap, size)) < rng.random()
    filled = fill(target, cap, *rounds)
    used = filled.statistics.attempts
    flags = rounds[:used].ravel()
    mixed, others = np.flatnonzero(flags)[:target], np.flatnonzero(~flags)
    expected = sorted([*mixed, *others[: target - len(mixed)]])
    assert numbers(filled) == expected
    assert filled.statistics.kept == flags.sum()
    assert filled.statistics.padded == target - len(mixed)
    assert filled.statistics.surplus == flags.sum() - len(mixed)
    # No round too many, and none too few.
    assert used == cap or flags.sum() >= target
    assert rounds[: used - 1].sum() < target


def test_device_arrays_come_back_on_the_host():
  def sample(position, attempt):
    keep = jax.numpy.array([True, False])
    return Attempt(jax.numpy.ones((2, 3)), keep, position)

  filled = dynamic_sampling.fill(1, 1, sample, prompts.START)
  assert isinstance(filled.groups, np.ndarray)
  assert filled.groups.shape == (1, 3)


def test_history_counts_every_group_that_was_sampled():
  source = prompts.epochs(range(8), 0)
  rates = np.linspace(0, 1, 8)
  rng = np.random.default_rng(0)

  def sample(position, attempt):
    places, after = source(position, 4)
    places = np.array(places)
    correct = (rng.random((4, 4)) < rates[places, None]).astype(np.float32)
    keep = dynamic_sampling.mixed(correct)
    return Attempt(places, keep, after, (places, correct))

  counts, position = history.empty(8), prompts.START
  for _ in range(100):
    filled = dynamic_sampling.fill(4, 4, sample, position)
    position = filled.position
    counts = history.add(counts, *filled.seen)
  learned = history.pass_rate(counts, np.arange(8))
  np.testing.assert_allclose(learned, rates, atol=0.1)


@pytest.mark.parametrize(
    "target, max_attempts, message",
    [
        (0, 1, "`target` must be at least 1, got 0"),
        (1, 0, "`max_attempts` must be at least 1, got 0"),
        (5, 2, "the 2 groups.*at least `target`, 5, got 4; raise"),
    ],
)
def test_settings_that_cannot_fill_a_batch(target, max_attempts, message):
  sample = scripted([1, 1], [1, 1])
  with pytest.raises(ValueError, match=message):
    dynamic_sampling.fill(target, max_attempts, sample, prompts.START)
  # Said at the latest after the first round.
  assert len(sample.calls) <= 1


def first_then(first, second):
  attempts = [Attempt(*first, prompts.START), Attempt(*second, prompts.START)]
  return lambda position, attempt: attempts[attempt]


OFF, ON = np.zeros(2, bool), np.ones(2, bool)


@pytest.mark.parametrize(
    "first, second, message",
    [
        (({"a": np.ones(3)}, ON), (), r"groups\['a'\].*axis of 2.*shape \[3\]"),
        (({"a": np.float32(1)}, ON), (), r"groups\['a'\].*shape \[\]"),
        ((np.ones(2), np.ones(2)), (), r"bool \[P\].*float64 \[2\]"),
        ((np.ones(2), ON[None]), (), r"bool \[P\].*bool \[1, 2\]"),
        ((np.ones(2), OFF), (np.ones(3), np.ones(3, bool)), "2 groups.*got 3"),
        (
            ({"a": np.ones((2, 4))}, OFF),
            ({"a": np.ones((2, 5))}, ON),
            r"groups\['a'\]` must be alike.*\(4,\).*\(5,\).*fixed length",
        ),
        (({"a": np.ones(2)}, OFF), ({}, ON), r"groups\['a'\].*then nothing"),
        (({}, OFF), ({"a": np.ones(2)}, ON), r"groups\['a'\].*got nothing"),
    ],
)
def test_attempts_that_do_not_fit(first, second, message):
  sample = first_then(first, second or first)
  with pytest.raises(ValueError, match=message):
    dynamic_sampling.fill(2, 2, sample, prompts.START)


def test_groups_of_one_are_never_mixed():
  with pytest.raises(ValueError, match="at least 2 completions.*got 1"):
    dynamic_sampling.mixed(np.ones((4, 1), np.float32))


@pytest.mark.parametrize("value", [np.nan, 0.5, 2])
def test_verdicts_are_yes_or_no(value):
  correct = np.array([[value, 0]], np.float32)
  with pytest.raises(ValueError, match="`correct` must be 0 or 1"):
    dynamic_sampling.mixed(correct)


# Six steps over 20 problems; saves only the position, and what it trained on.
RUN = """
import json, os, pathlib, signal, sys
import numpy as np
from poise_jax.training import dynamic_sampling, prompts

directory, kill_at = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
saved = directory / "position.json"
source = prompts.epochs(range(20), 4)
step, position = 0, prompts.START
if saved.exists():
  step, pair = json.loads(saved.read_text())
  position = prompts.Position(*pair)
while step < 6:

  def sample(position, attempt):
    print(step, attempt, flush=True)
    if [step, attempt] == kill_at:
      os.kill(os.getpid(), signal.SIGKILL)
    places, after = source(position, 4)
    rng = np.random.default_rng([0, step, attempt])
    correct = rng.integers(0, 2, (4, 2)).astype(np.float32)
    keep = dynamic_sampling.mixed(correct)
    groups = {"place": np.array(places), "correct": correct}
    return dynamic_sampling.Attempt(groups, keep, after)

  filled = dynamic_sampling.fill(4, 5, sample, position)
  lists = {k: v.tolist() for k, v in filled.groups.items()}
  row = json.dumps([lists, filled.statistics, filled.position])
  (directory / f"step{step}.json").write_text(row)
  step, position = step + 1, filled.position
  new = directory / "new.json"
  new.write_text(json.dumps([step, position]))
  new.replace(saved)
"""


def run(directory, kill_at=None):
  directory.mkdir(exist_ok=True)
  return subprocess.run(
      [sys.executable, "-c", RUN, directory, json.dumps(kill_at)],
      env=os.environ | {"JAX_PLATFORMS": "cpu"},
      capture_output=True,
      text=True,
      timeout=120,
  )


def files(directory):
  return {p.name: p.read_bytes() for p in directory.iterdir()}


def test_a_run_killed_between_attempts_goes_on_as_if_it_was_not(tmp_path):
  whole = run(tmp_path / "whole")
  assert whole.returncode == 0, whole.stderr
  attempts = [tuple(map(int, s.split())) for s in whole.stdout.splitlines()]
  # A late step that needs a second attempt, in a later epoch.
  step, attempt = next(a for a in reversed(attempts) if a[1] > 0)
  assert step > 1
  expected = files(tmp_path / "whole")
  assert json.loads(expected["position.json"])[1][0] >= 1

  killed = run(tmp_path / "killed", [step, attempt])
  assert killed.returncode == -signal.SIGKILL, killed.stderr
  assert f"step{step}.json" not in files(tmp_path / "killed")
  resumed = run(tmp_path / "killed")
  assert resumed.returncode == 0, resumed.stderr
  assert resumed.stdout.splitlines()[0] == f"{step} 0"
  assert files(tmp_path / "killed") == expected
