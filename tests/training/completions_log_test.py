"""The same few completions of every step, readable whatever they hold."""

import json

import numpy as np
import pytest

from poise_jax.training import completions_log

ROWS = 12


def describe(row):
  return completions_log.Completion(
      prompt=f"{row}+1=",
      completion=f"\\boxed{{{row + 1}}}",
      reward=row / ROWS,
      correct=row % 2 == 0,
      valid=True,
      truncated=False,
      length=row,
      policy_version=8,
      advantage=-0.5,
  )


@pytest.fixture
def path(tmp_path):
  return tmp_path / "run" / "completions.jsonl"


def write(path, steps, start_step=0, describe=describe, **options):
  log = completions_log.open_log(path, start_step=start_step, **options)
  for step in steps:
    log(step, ROWS, describe)
  log.close()


def test_what_is_kept_comes_back(path):
  write(path, range(3), keep=4)
  entries = completions_log.read(path)
  assert [entry.step for entry in entries] == [0] * 4 + [1] * 4 + [2] * 4
  assert all(entry.completion == describe(entry.row) for entry in entries)
  rows = [entry.row for entry in entries[:4]]
  assert rows == sorted(set(rows))


def test_lines_are_plain_json(path):
  write(path, [5], keep=1)
  line = json.loads(path.read_text())
  row = line["row"]
  assert line == {
      "step": 5,
      "row": row,
      "prompt": f"{row}+1=",
      "completion": f"\\boxed{{{row + 1}}}",
      "reward": row / ROWS,
      "correct": row % 2 == 0,
      "valid": True,
      "truncated": False,
      "length": row,
      "policy_version": 8,
      "advantage": -0.5,
  }


def test_only_what_is_kept_is_described(path):
  described = []

  def remember(row):
    described.append(row)
    return describe(row)

  write(path, [7], describe=remember, keep=3)
  assert described == completions_log.choose(7, ROWS, 3)
  assert len(described) == 3


def test_the_choice_is_the_step_s_own_and_the_seed_s():
  choices = [completions_log.choose(s, 1000, 4) for s in (0, 1, 0)]
  assert choices[0] == choices[2] != choices[1]
  assert completions_log.choose(0, 1000, 4, seed=1) != choices[0]
  # Resumed runs, also by other versions of numpy, keep the same rows.
  assert completions_log.choose(3, 100, 4, seed=5) == [4, 28, 69, 94]


def test_every_row_is_kept_equally_often():
  seen = np.zeros(10)
  for step in range(2000):
    seen[completions_log.choose(step, 10, 3)] += 1
  # Binomial(2000, 3/10): five standard deviations.
  assert np.all(np.abs(seen - 600) < 5 * np.sqrt(2000 * 0.3 * 0.7))


@pytest.mark.parametrize("rows, keep", [(0, 4), (3, 4), (5, 0)])
def test_few_rows_are_all_kept_and_none_is_fine(path, rows, keep):
  log = completions_log.open_log(path, keep=keep)
  log(0, rows, describe)
  log.close()
  kept = [entry.row for entry in completions_log.read(path)]
  assert kept == list(range(min(rows, keep)))


def test_a_resumed_run_writes_the_same_file(path, tmp_path):
  write(path, range(6))
  expected = path.read_bytes()
  with open(path, "ab") as file:
    file.write(b'{"step": 6, "row": 3, "promp')
  write(path, range(2, 6), start_step=2)
  assert path.read_bytes() == expected
  log = completions_log.open_log(path, start_step=6)
  with pytest.raises(ValueError, match="`step` must be at least 6"):
    log(5, ROWS, describe)
  log.close()


@pytest.mark.parametrize(
    "text, shown",
    [
        (b"caf\xc3\xa9", "café"),
        (b"half \xc3", "half \\xc3"),
        (b"\xff\xfe\x00", "\\xff\\xfe\x00"),
        ("lone \ud83d surrogate", "lone \\ud83d surrogate"),
        ("pair \ud83d\ude00", "pair \\ud83d\\ude00"),
        ("\udcff", "\\udcff"),
        ("lines\n\r\u2028\x85\x1c end", "lines\n\r\u2028\x85\x1c end"),
        ("数学 🙂 \ufffd \x00", "数学 🙂 \ufffd \x00"),
        ('"},\\u', '"},\\u'),
    ],
)
def test_any_text_is_kept_on_one_line(path, text, shown):
  odd = lambda row: describe(row)._replace(prompt=text, completion=text)
  write(path, [0, 1], describe=odd, keep=1)
  path.read_text("utf-8")
  assert path.read_bytes().count(b"\n") == 2
  for entry in completions_log.read(path):
    assert entry.completion.prompt == entry.completion.completion == shown


def test_numbers_of_numpy_and_numbers_that_are_none(path):
  def odd(row):
    return describe(row)._replace(
        reward=np.float32("nan"),
        correct=np.float32(1),
        truncated=np.bool_(True),
        length=np.float32(7),
        policy_version=np.int64(3),
        advantage=None,
    )

  write(path, [0], describe=odd, keep=1)
  kept = completions_log.read(path)[0].completion
  assert kept.reward is kept.advantage is None
  assert kept.correct is kept.truncated is True
  assert (kept.length, kept.policy_version) == (7, 3)
  assert json.loads(path.read_text())["not_finite"] == {"reward": "nan"}


def test_a_description_that_fails_leaves_no_half_step(path):
  def fail(row):
    if row == completions_log.choose(1, ROWS, 4)[-1]:
      raise KeyError(row)
    return describe(row)

  write(path, [0])
  before = path.read_bytes()
  log = completions_log.open_log(path, start_step=1)
  with pytest.raises(KeyError):
    log(1, ROWS, fail)
  log(1, ROWS, describe)
  log.close()
  assert path.read_bytes().startswith(before)
  assert len(completions_log.read(path)) == 8


def test_what_is_not_a_log_is_refused_and_left(path):
  path.parent.mkdir()
  path.write_text("dear diary\n")
  with pytest.raises(ValueError, match="move it away, or name another"):
    completions_log.open_log(path)
  assert path.read_text() == "dear diary\n"
  path.write_text('{"step": 0, "time": 1.0}\n')
  with pytest.raises(ValueError, match="a line has no 'row'"):
    completions_log.read(path)
  with pytest.raises(ValueError, match="`keep` must not be negative, got -1"):
    completions_log.open_log(path, keep=-1)
