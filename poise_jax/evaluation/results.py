"""Per-problem results of one set in a file: append, stop, continue.

A JSONL file. Its first line is a header, which says what the results depend on
(`provenance`) and the hash of that; each further line is a problem with all its
completions. Lines are appended whole and flushed to the disk; a line that a
kill left unfinished is dropped when the file is opened again. Files with the
same header have the same lines, but for one that names a machine: it stands
before what another machine than the first added.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import fcntl
import json
import os
import pathlib
import tempfile
from typing import Any, NamedTuple

from poise_jax.evaluation import provenance

SUFFIX = ".jsonl"
FORMAT = 1
_CONTINUED = "continued_on"


class Completion(NamedTuple):
  """What a policy wrote, and what the verifier says of it.

  Attributes:
    text: decoded, without special tokens.
    tokens: how many, end-of-text included.
    ids_sha256: of the ids of those tokens, which text alone does not tell.
    answer: as extracted, None if there is none.
    correct: the answer is right.
    format_valid: it stands where it should.
    finished: end-of-text came within the limit.
    timed_out: grading was cut off, and counts as incorrect.
    vote: what its answer counts as in a vote of the samples; None for itself.
  """

  text: str
  tokens: int
  ids_sha256: str
  answer: str | None
  correct: bool
  format_valid: bool
  finished: bool
  timed_out: bool = False
  vote: str | None = None


class Record(NamedTuple):
  """One problem and everything written for it.

  Attributes:
    id: of the problem, unique in its set.
    problem: the question.
    gold: the reference answer.
    completions: all samples, in order of their keys.
  """

  id: str
  problem: str
  gold: str
  completions: tuple[Completion, ...]


class Results(NamedTuple):
  """A file of results as read.

  Attributes:
    header: what they depend on.
    id: hash of the header.
    machine: that began the file.
    records: by id, in the order of the file.
    continued: other machines that added to it, in their order.
  """

  header: Mapping[str, Any]
  id: str
  machine: Mapping[str, Any]
  records: Mapping[str, Record]
  continued: tuple[Mapping[str, Any], ...] = ()

  @property
  def machines(self) -> tuple[Mapping[str, Any], ...]:
    """All that had a part in it."""
    return (self.machine, *self.continued)


class Writer:
  """A file of results that is open for more.

  Attributes:
    results: what was in the file when it was opened.
  """

  def __init__(self, handle: int, results: Results, machine: Mapping[str, Any]):
    self._handle = handle
    known = any(dict(m) == dict(machine) for m in results.machines)
    self._news = "" if known else _machine_line(machine)
    self.results = results
    self._seen = set(results.records)

  def append(self, records: Sequence[Record]) -> None:
    """Appends problems in one write, and waits until they are on the disk.

    Raises:
      ValueError: if one is in the file; nothing is written then.
    """
    for record in records:
      if record.id in self._seen:
        raise ValueError(f"problem {record.id!r} is in the file already")
      self._seen.add(record.id)
    if not records:
      return
    data = (self._news + "".join(map(_line, records))).encode()
    self._news = ""
    while data:
      data = data[os.write(self._handle, data) :]
    os.fsync(self._handle)


def path_of(directory: str | os.PathLike[str], name: str) -> pathlib.Path:
  """Where the results of a set are."""
  return pathlib.Path(directory) / f"{name}{SUFFIX}"


@contextlib.contextmanager
def open_writer(
    path: str | os.PathLike[str],
    header: Mapping[str, Any],
    machine: Mapping[str, Any],
) -> Iterator[Writer]:
  """Opens a file of results, new or begun, for this process alone.

  Args:
    path: of the file; made with its directory if it is not there.
    header: what the results depend on, as JSON.
    machine: what else their last bits depend on; may be another one when it is
      continued, and is kept then as well.

  Raises:
    ValueError: if the file was begun with another header (all differences are
      named), or is no such file; it is left as it is.
    BlockingIOError: if another process is writing to it.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  if not path.is_file():
    _begin(path, header, machine)
  handle = os.open(path, os.O_RDWR | os.O_APPEND)
  try:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      raise BlockingIOError(
          f"{path}: another process is writing to it; wait for it, or name"
          " another directory"
      ) from e
    found = read(path)
    if different := provenance.differences(found.header, header):
      raise ValueError(
          f"{path} was begun with other settings (there, here):"
          f" {'; '.join(different)}. Use those, or name another directory"
      )
    data = path.read_bytes()
    os.ftruncate(handle, data.rfind(b"\n") + 1)
    yield Writer(handle, found, machine)
  finally:
    os.close(handle)


def read(path: str | os.PathLike[str]) -> Results:
  """Reads results, also while they are being written.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is no such file; names the line.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(
        f"no results at {path}; run launch/evaluate.py with this --out"
    )
  # The last line is unfinished, or empty.
  lines = path.read_bytes().split(b"\n")[:-1]
  found: list[Record] = []
  continued: list[Mapping[str, Any]] = []
  number = 1
  try:
    first = json.loads(lines[0] if lines else b"null")
    header = first["header"]
    if first["id"] != provenance.digest(header) or first["format"] != FORMAT:
      raise ValueError("the header is not what its hash says")
    machine = first["machine"]
    for line in lines[1:]:
      number += 1
      fields = json.loads(line)
      if _CONTINUED in fields:
        continued.append(fields[_CONTINUED])
      else:
        found.append(_record(fields))
  except (ValueError, KeyError, TypeError) as e:
    raise ValueError(
        f"{path}, line {number}: not a file of results"
        f" ({type(e).__name__}: {e}); remove it, or name another directory"
    ) from e
  records = {record.id: record for record in found}
  if len(records) < len(found):
    raise ValueError(f"{path}: a problem is in it twice; remove the file")
  return Results(header, first["id"], machine, records, tuple(continued))


def write_whole(path: str | os.PathLike[str], found: Results) -> None:
  """Writes a finished file of results, whole or not at all.

  Raises:
    FileExistsError: if there is a file; it is left as it is.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  lines = [
      _first_line(found.header, found.machine),
      *map(_machine_line, found.continued),
      *map(_line, found.records.values()),
  ]
  _place(path, "".join(lines))


def _begin(
    path: pathlib.Path, header: Mapping[str, Any], machine: Mapping[str, Any]
) -> None:
  """Writes the header, whole or not at all, and over no other file."""
  with contextlib.suppress(FileExistsError):
    _place(path, _first_line(header, machine))


def _place(path: pathlib.Path, text: str) -> None:
  """Writes a file that is not there yet."""
  name = _temporary(path, text)
  try:
    os.link(name, path)
  finally:
    os.unlink(name)


def _first_line(header: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
  line = {
      "format": FORMAT,
      "header": header,
      "id": provenance.digest(header),
      "machine": machine,
  }
  return provenance.canonical(line) + "\n"


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
  """Writes a file that is at no moment half written."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  os.replace(_temporary(path, text), path)


def _temporary(path: pathlib.Path, text: str) -> str:
  """A finished file beside the one that it will become."""
  handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
  try:
    with os.fdopen(handle, "w", encoding="utf-8") as file:
      file.write(text)
      file.flush()
      os.fsync(file.fileno())
    os.chmod(name, 0o644)
  except BaseException:
    os.unlink(name)
    raise
  return name


def _machine_line(machine: Mapping[str, Any]) -> str:
  return provenance.canonical({_CONTINUED: machine}) + "\n"


def _line(record: Record) -> str:
  fields = record._asdict()
  fields["completions"] = [c._asdict() for c in record.completions]
  return provenance.canonical(fields) + "\n"


def _record(fields: Mapping[str, Any]) -> Record:
  completions = tuple(Completion(**c) for c in fields["completions"])
  if not completions:
    raise ValueError("a problem must have at least one completion")
  return Record(**{**fields, "completions": completions})
