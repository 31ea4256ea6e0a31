"""A file that holds every exchange with a model, one JSON object on a line.

A line is on the disk before what it says is used, so nothing that was paid for
is lost when the process or the machine dies. A line that was cut off by that
counts for nothing; all before it do.
"""

from collections.abc import Iterator, Mapping
import contextlib
import fcntl
import json
import os
import pathlib
import threading
from typing import Any

from poise_jax.archive import records

Entry = Mapping[str, Any]


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
  """Reads the entries of a transcript, in the order of writing.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: naming the first line, other than a last one that was cut off,
      that is no entry.
  """
  data = pathlib.Path(path).read_bytes()
  # What follows the last end of line was cut off.
  lines = data.split(b"\n")[:-1]
  return [_entry(line, i, path) for i, line in enumerate(lines, 1) if line]


def _entry(
    line: bytes, number: int, path: str | os.PathLike[str]
) -> dict[str, Any]:
  try:
    entry = json.loads(line)
  except ValueError:
    entry = None
  if not isinstance(entry, dict) or not {"kind", "exchange"} <= entry.keys():
    raise ValueError(
        f"line {number} of {os.fspath(path)!r} must be an entry of a"
        f" transcript, got {line[:60]!r}; restore the file, or remove the line"
    )
  return entry


class Transcript:
  """A transcript that is open for writing, by one process.

  Attributes:
    entries: what it held when it was opened.
  """

  def __init__(self, path: str | os.PathLike[str], descriptor: int) -> None:
    """Use `opened`."""
    self._descriptor = descriptor
    self._lock = threading.Lock()
    self.entries = read(path)

  def append(self, entry: Entry) -> None:
    """Writes an entry; it is on the disk when this returns.

    Raises:
      ValueError: if the entry is not JSON-like.
    """
    line = records.canonical_json(dict(entry)).encode("ascii") + b"\n"
    with self._lock:
      _write(self._descriptor, line)


def _write(descriptor: int, line: bytes) -> None:
  """Writes the whole of a line, or leaves the file as it was."""
  before = os.fstat(descriptor).st_size
  try:
    left = memoryview(line)
    while left:
      left = left[os.write(descriptor, left) :]
    os.fsync(descriptor)
  except OSError:
    os.ftruncate(descriptor, before)
    raise


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Transcript]:
  """Opens a transcript to go on with it, or begins one.

  A last line that was cut off is removed.

  Raises:
    BlockingIOError: if another process writes to it.
    ValueError: see `read`.
  """
  flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
  descriptor = os.open(path, flags, 0o600)
  try:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise BlockingIOError(
          f"another process writes to the transcript {os.fspath(path)!r}; wait"
          " for it, or name another file"
      ) from error
    whole = pathlib.Path(path).read_bytes()
    os.ftruncate(descriptor, whole.rfind(b"\n") + 1)
    yield Transcript(path, descriptor)
  finally:
    os.close(descriptor)
