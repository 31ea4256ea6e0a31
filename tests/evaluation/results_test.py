"""Files of results: appended, cut off, continued, refused."""

import json

import pytest

from poise_jax.evaluation import results

MACHINE = {"backend": "cpu"}


@pytest.fixture
def path(tmp_path):
  return results.path_of(tmp_path / "new", "AMC")


def _write(path, header, records):
  with results.open_writer(path, header, MACHINE) as writer:
    writer.append(records)
  return path.read_bytes()


def test_what_is_written_is_read(path, stored):
  text = "half \ud800 of a pair, \u2028 \n \x00 and 数学"
  records = [stored.record(0, 1, 2), stored.record(1, 0, 2, [text, text])]
  _write(path, stored.header(), records)
  found = results.read(path)
  assert list(found.records.values()) == records
  assert found.header == stored.header()
  assert found.machine == MACHINE
  assert [p.name for p in path.parent.iterdir()] == ["AMC.jsonl"]


def test_a_line_is_a_problem(path, stored):
  _write(path, stored.header(), [stored.record(i, 1) for i in range(3)])
  lines = path.read_text().splitlines()
  assert len(lines) == 4
  assert json.loads(lines[0])["header"]["set"]["name"] == "AMC"
  (completion,) = json.loads(lines[1])["completions"]
  assert set(completion) >= {
      "text", "tokens", "correct", "format_valid", "finished"
  }  # fmt: skip


@pytest.mark.parametrize("lost", [1, 7, 200, 400])
def test_cut_off_anywhere_it_continues_to_the_same_bytes(path, stored, lost):
  records = [stored.record(i, i % 2) for i in range(4)]
  whole = _write(path, stored.header(), records)
  path.write_bytes(whole[:-lost])
  with results.open_writer(path, stored.header(), MACHINE) as writer:
    done = writer.results.records
    assert len(done) == 3 - (lost > 300)
    writer.append([r for r in records if r.id not in done])
  assert path.read_bytes() == whole


def test_other_settings_are_refused_by_name(path, stored):
  before = _write(path, stored.header(), [stored.record(0, 1)])
  other = stored.header(sampling__seed=1, policy__checkpoint="b")
  with pytest.raises(
      ValueError, match=r'checkpoint is "a+", "b"; sampling.seed is 0, 1. Use'
  ):
    _write(path, other, [stored.record(1, 1)])
  assert path.read_bytes() == before


def test_another_machine_may_continue(path, stored):
  _write(path, stored.header(), [stored.record(0, 1)])
  before = path.read_bytes()
  gpu = {"backend": "gpu"}
  with results.open_writer(path, stored.header(), gpu) as writer:
    assert writer.results.machine == MACHINE
    writer.append([])
    assert path.read_bytes() == before  # it had no part in it yet
    writer.append([stored.record(1, 1)])
    writer.append([stored.record(2, 1)])
  with results.open_writer(path, stored.header(), MACHINE) as writer:
    writer.append([stored.record(3, 1)])
  with results.open_writer(path, stored.header(), gpu) as writer:
    writer.append([stored.record(4, 1)])
  found = results.read(path)
  assert found.machines == (MACHINE, gpu)
  assert list(found.records) == [f"set/{i}" for i in range(5)]


def test_one_writer_at_a_time(path, stored):
  with results.open_writer(path, stored.header(), MACHINE) as writer:
    with pytest.raises(BlockingIOError, match="another process"):
      with results.open_writer(path, stored.header(), MACHINE):
        pass
    writer.append([stored.record(0, 1)])
    # Reading is free.
    assert len(results.read(path).records) == 1


def test_no_problem_twice(path, stored):
  with results.open_writer(path, stored.header(), MACHINE) as writer:
    writer.append([stored.record(0, 1)])
    with pytest.raises(ValueError, match="'set/0' is in the file already"):
      writer.append([stored.record(1, 1), stored.record(0, 1)])
  assert len(results.read(path).records) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: b"hello\n", "line 1"),
        (lambda b: b"", "line 1"),
        (lambda b: b.replace(b'"seed":0', b'"seed":1'), "line 1.*hash"),
        (lambda b: b.replace(b'"gold"', b'"gild"', 1), "line 2"),
        (lambda b: b + b"{}\n", "line 4"),
        (lambda b: b + b.split(b"\n")[1] + b"\n", "twice"),
    ],
)
def test_other_files_are_left_as_they_are(path, stored, damage, message):
  whole = _write(path, stored.header(), [stored.record(i, 1) for i in (0, 1)])
  path.write_bytes(damage(whole))
  with pytest.raises(ValueError, match=message):
    _write(path, stored.header(), [])
  assert path.read_bytes() == damage(whole)


def test_nothing_there(path):
  with pytest.raises(FileNotFoundError, match="run launch/evaluate.py"):
    results.read(path)


def test_whole_files(tmp_path):
  path = tmp_path / "a" / "file"
  results.write_atomically(path, "old")
  with pytest.raises(UnicodeEncodeError):
    results.write_atomically(path, "\ud800")
  assert path.read_text() == "old"
  assert [p.name for p in path.parent.iterdir()] == ["file"]
