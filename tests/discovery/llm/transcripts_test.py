"""Files that lose nothing that was paid for."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import time

import pytest

from poise_jax.discovery.llm import transcripts


def _entry(i, **more):
  return {"kind": "sent", "exchange": f"{i:04d}", "text": "ü\n\u2028"} | more


def test_what_was_appended_is_read_back_in_order(tmp_path):
  path = tmp_path / "t.jsonl"
  with transcripts.opened(path) as transcript:
    assert transcript.entries == []
    for i in range(3):
      transcript.append(_entry(i))
      assert transcripts.read(path)[-1] == _entry(i)  # at once
  with transcripts.opened(path) as transcript:
    assert transcript.entries == [_entry(i) for i in range(3)]
    transcript.append(_entry(3))
  assert transcripts.read(path) == [_entry(i) for i in range(4)]
  assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", [1, 10, 50])
def test_a_line_that_was_cut_off_counts_for_nothing(tmp_path, cut):
  path = tmp_path / "t.jsonl"
  with transcripts.opened(path) as transcript:
    transcript.append(_entry(0))
    transcript.append(_entry(1))
  path.write_bytes(path.read_bytes()[:-cut])
  assert transcripts.read(path) == [_entry(0)]
  with transcripts.opened(path) as transcript:
    transcript.append(_entry(2))
  assert transcripts.read(path) == [_entry(0), _entry(2)]


@pytest.mark.parametrize("bad", [b"{not json}", b"[1]", b'{"kind": "sent"}'])
def test_a_broken_line_in_the_middle_is_named(tmp_path, bad):
  path = tmp_path / "t.jsonl"
  with transcripts.opened(path) as transcript:
    transcript.append(_entry(0))
  before = path.read_bytes() + bad + b"\n"
  path.write_bytes(before)
  with pytest.raises(ValueError, match="line 2 of .* must be an entry"):
    with transcripts.opened(path):
      pass
  assert path.read_bytes() == before  # bad input loses nothing


def test_only_one_process_writes(tmp_path):
  path = tmp_path / "t.jsonl"
  with transcripts.opened(path):
    with pytest.raises(BlockingIOError, match="another process writes"):
      with transcripts.opened(path):
        pass
  with transcripts.opened(path) as transcript:
    transcript.append(_entry(0))


def test_what_is_no_json_is_refused_and_leaves_no_trace(tmp_path):
  path = tmp_path / "t.jsonl"
  with transcripts.opened(path) as transcript:
    with pytest.raises(ValueError):
      transcript.append(_entry(0, cost=float("nan")))
    transcript.append(_entry(1))
  assert transcripts.read(path) == [_entry(1)]


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
  path = tmp_path / "t.jsonl"
  with transcripts.opened(path) as transcript:
    transcript.append(_entry(0))
    before = path.read_bytes()
    write = os.write

    def full(descriptor, data):
      if len(data) <= 10:
        raise OSError(28, "No space left on device")
      return write(descriptor, data[:10])

    with monkeypatch.context() as patch:
      patch.setattr(os, "write", full)
      with pytest.raises(OSError, match="No space"):
        transcript.append(_entry(1, text="x" * 5))
    assert path.read_bytes() == before
    transcript.append(_entry(2))
  assert transcripts.read(path) == [_entry(0), _entry(2)]


def test_threads_do_not_mix_lines(tmp_path):
  path = tmp_path / "t.jsonl"
  with transcripts.opened(path) as transcript:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      list(pool.map(lambda i: transcript.append(_entry(i)), range(40)))
  found = transcripts.read(path)
  assert sorted(e["exchange"] for e in found) == [f"{i:04d}" for i in range(40)]


_WRITER = """
import sys
from poise_jax.discovery.llm import transcripts
with transcripts.opened(sys.argv[1]) as transcript:
  for i in range(10**6):
    transcript.append({"kind": "sent", "exchange": str(i), "x": "y" * 999})
    print(i, flush=True)
"""


def test_nothing_that_was_confirmed_is_lost_to_a_kill(tmp_path):
  path = tmp_path / "t.jsonl"
  writer = subprocess.Popen(
      [sys.executable, "-c", _WRITER, str(path)],
      stdout=subprocess.PIPE,
      text=True,
  )
  for _ in range(5):
    writer.stdout.readline()
  time.sleep(0.05)
  writer.send_signal(signal.SIGKILL)
  rest = writer.stdout.read()
  writer.wait()
  writer.stdout.close()
  confirmed = 5 + rest.count("\n")
  entries = transcripts.read(path)
  assert confirmed <= len(entries) <= confirmed + 1
  assert [e["exchange"] for e in entries] == [
      str(i) for i in range(len(entries))
  ]
