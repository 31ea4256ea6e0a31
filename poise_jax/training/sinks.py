"""Where numbers of training go: a JSONL file, TensorBoard, Weights & Biases.

A sink is called with a step and its values, and closed at the end. One process
of many writes; the others have `combine()`, which does nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib
import json
import math
import os
import pathlib
import secrets
import time
from typing import Any, NamedTuple

Values = Mapping[str, float]
Parts = Mapping[str, list[float]]

# Of every line of a `StepLog`.
_START = b'{"step": '


class Sink(NamedTuple):
  """A function of (step, values), with an end.

  Attributes:
    write: takes the values of one step; steps increase.
    close: writes out what is left; the last call.
  """

  write: Callable[[int, Values], None]
  close: Callable[[], None]

  def __call__(self, step: int, values: Values) -> None:
    """Takes the values of one step."""
    self.write(step, values)


class Record(NamedTuple):
  """One line of a metrics file.

  Attributes:
    step: rollout step, counted from 0.
    time: seconds since 1970 at which it was written.
    values: metric name -> number, None for one that was not finite.
    not_finite: metric name -> "nan", "inf" or "-inf", of those.
    parts: metric name -> [sum, count] of a mean, see `metrics.parts`.
  """

  step: int
  time: float
  values: dict[str, float | None]
  not_finite: dict[str, str]
  parts: dict[str, list[float]]


def combine(*sinks: Sink) -> Sink:
  """Makes one sink of several, called in order.

  One that fails keeps the others from nothing: all are called, then the error
  is raised.
  """

  def in_order(calls: Iterable[Callable[[], None]]) -> None:
    with contextlib.ExitStack() as stack:
      for call in reversed(list(calls)):
        stack.callback(call)

  def write(step: int, values: Values) -> None:
    in_order([lambda s=sink: s.write(step, values) for sink in sinks])

  return Sink(write, lambda: in_order(sink.close for sink in sinks))


def to_jsonl(
    path: str | os.PathLike[str],
    *,
    start_step: int = 0,
    now: Callable[[], float] = time.time,
) -> Sink:
  """Writes one line of JSON a step, whole or not at all.

  Values that are not finite become null, with a note beside them.

  Args:
    path: of the file; made with its directory if it is not there.
    start_step: first step that will be written. Lines of it and of later
      steps, which this run repeats, are dropped, and so is a last line that a
      kill left unfinished.
    now: tells the time in seconds since 1970.

  Returns:
    A sink. It raises ValueError for a step that is not after the last one. Its
    `write` also takes the `parts` of values, to be written beside them.

  Raises:
    ValueError: if the file is not such a file; it is left as it is.
  """
  log = StepLog(path, start_step=start_step)

  def write(step: int, values: Values, parts: Parts | None = None) -> None:
    numbers, not_finite = finite(_clean(values))
    line = {"time": now(), "values": numbers}
    note: dict[str, Any] = {"not_finite": not_finite} if not_finite else {}
    if parts:
      note["parts"] = {printable(name): part for name, part in parts.items()}
    log.append(step, [line | note])

  return Sink(write, log.close)


def read_jsonl(path: str | os.PathLike[str]) -> list[Record]:
  """Reads what `to_jsonl` wrote, also while it is being written.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if the file is not such a file.
  """
  lines = [line for _, line in scan(pathlib.Path(path))]
  try:
    return [
        Record(
            *(x["step"], x["time"], x["values"]),
            *(x.get("not_finite", {}), x.get("parts", {})),
        )
        for x in lines
    ]
  except KeyError as error:
    raise ValueError(
        f"{os.fspath(path)} is not a file of metrics: a line has no {error};"
        " name the one that a training wrote"
    ) from error


def to_tensorboard(
    directory: str | os.PathLike[str], *, start_step: int = 0
) -> Sink:
  """Writes event files for TensorBoard, which shows NaN and infinity as such.

  Args:
    directory: of this run's event files.
    start_step: first step that will be written; TensorBoard hides what earlier
      files have of it and of later steps.

  Raises:
    ImportError: if tensorboardX is not installed.
  """
  try:
    import tensorboardX
  except ImportError as error:
    raise _missing("TensorBoard", "tensorboardX", "tensorboard") from error
  writer = tensorboardX.SummaryWriter(
      os.fspath(directory),
      purge_step=start_step,
      flush_secs=10,
      # Its names tell seconds: a quick restart would overwrite its own past.
      filename_suffix=f".{time.time_ns()}",
  )

  def write(step: int, values: Values) -> None:
    for name, number in _clean(values).items():
      writer.add_scalar(name, number, step)

  return Sink(write, writer.close)


def to_wandb(
    *,
    project: str,
    run_id: str,
    directory: str | os.PathLike[str],
    config: Mapping[str, Any],
    name: str | None = None,
) -> Sink:
  """Sends values to Weights & Biases, which takes NaN and infinity as such.

  A resumed training continues the run of its `run_id`. Steps that the run
  already has are kept as they are: Weights & Biases takes no step twice. The
  account, and whether to be offline, are read from wandb's own settings, such
  as WANDB_MODE=offline.

  Args:
    project: that the run belongs to.
    run_id: the same after a resume; letters, digits and dashes.
    directory: in which wandb keeps its files.
    config: what to show as the configuration of the run.
    name: of the run in the interface.

  Raises:
    ImportError: if wandb is not installed.
  """
  try:
    import wandb
  except ImportError as error:
    raise _missing("Weights & Biases", "wandb", "wandb") from error
  pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
  run = wandb.init(
      project=project,
      id=run_id,
      name=name,
      dir=os.fspath(directory),
      config=dict(config),
      resume="allow",
  )

  def write(step: int, values: Values) -> None:
    run.log(_clean(values), step=step)

  return Sink(write, run.finish)


def run_id(directory: str | os.PathLike[str]) -> str:
  """What tells the run of a directory from all others, also after a resume.

  Made by chance once, and kept in DIRECTORY/run_id: two directories of one name
  are two runs, and one that is moved stays what it was. A run that was begun
  without the file goes on under the name of its directory.

  Args:
    directory: of the run; made if it is not there. One process asks.
  """
  path = pathlib.Path(directory) / "run_id"
  if not path.exists():
    path.parent.mkdir(parents=True, exist_ok=True)
    metrics = path.with_name("metrics.jsonl")
    begun = metrics.exists() and metrics.stat().st_size > 0
    made = path.parent.resolve().name if begun else secrets.token_hex(8)
    fresh = path.with_name(".run_id.partial")
    fresh.write_text(made + "\n", "utf-8")
    os.replace(fresh, path)
  return path.read_text("utf-8").strip()


def _clean(values: Values) -> dict[str, float]:
  return {printable(name): float(number) for name, number in values.items()}


def printable(text: str | bytes) -> str:
  r"""Escapes whatever UTF-8 cannot hold: ``\xff`` of bytes, ``\ud800``."""
  if isinstance(text, bytes):
    return text.decode("utf-8", "backslashreplace")
  return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _missing(what: str, module: str, extra: str) -> ImportError:
  return ImportError(
      f"{what} needs the Python module {module}:"
      f" `pip install 'poise_jax[{extra}]'`, or leave this sink out",
      name=module,
  )


def finite(
    values: Mapping[str, float | None],
) -> tuple[dict[str, float | None], dict[str, str]]:
  """Replaces what JSON cannot hold by None.

  Returns:
    The values, and name -> "nan", "inf" or "-inf" of those replaced.
  """
  odd = {
      name: str(number)
      for name, number in values.items()
      if number is not None and not math.isfinite(number)
  }
  return {k: None if k in odd else v for k, v in values.items()}, odd


class StepLog:
  """A file of JSON lines, each an object with a `step`; steps never fall.

  Lines of one step are written at once, and taken back if that fails half way.
  Not to be opened by two processes at a time.
  """

  def __init__(self, path: str | os.PathLike[str], *, start_step: int):
    """Opens the file as it was when `start_step` began.

    Args:
      path: of the file; made with its directory if it is not there.
      start_step: lines of it and of later steps are dropped.

    Raises:
      ValueError: if the file is not such a file; it is left as it is.
    """
    if start_step < 0:
      raise ValueError(f"`start_step` must not be negative, got {start_step}")
    self._path = pathlib.Path(path)
    self._path.parent.mkdir(parents=True, exist_ok=True)
    self._last, end = -1, 0
    # Read to the end first: a file that is not ours is not touched.
    for after, line in scan(self._path) if self._path.exists() else ():
      if line["step"] < start_step:
        self._last, end = line["step"], after
    self._file = open(self._path, "ab+", buffering=0)
    self._file.truncate(end)
    self._file.seek(max(end - 1, 0))
    if end and self._file.read(1) != b"\n":
      self._file.write(b"\n")

  def append(self, step: int, lines: Iterable[Mapping[str, Any]]) -> None:
    """Writes the lines of one step, which is put into each of them.

    Raises:
      ValueError: if the step is not after the last one.
    """
    if step <= self._last:
      raise ValueError(
          f"`step` must be at least {self._last + 1} after what is in"
          f" {self._path}, got {step}: open the file again to repeat steps"
      )
    text = "".join(
        json.dumps({"step": step} | line, ensure_ascii=False, allow_nan=False)
        + "\n"
        for line in lines
    )
    rest = text.encode("utf-8")
    end = self._file.seek(0, os.SEEK_END)
    try:
      while rest:
        rest = rest[self._file.write(rest) :]
    except BaseException:
      self._file.truncate(end)
      raise
    self._last = step

  def close(self) -> None:
    """Waits until the disk has it all."""
    if not self._file.closed:
      os.fsync(self._file.fileno())
      self._file.close()


def scan(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
  """Reads a `StepLog`, leaving out a last line that a kill left unfinished.

  Yields:
    The offset after each line, and the line.

  Raises:
    ValueError: if it is not such a file.
  """
  end, last = 0, 0
  with open(path, "rb") as file:
    for number, raw in enumerate(file, 1):
      line = _parse(raw)
      if line is None and not raw.endswith(b"\n") and _is_start(raw):
        return
      if line is None or line["step"] < last:
        raise ValueError(
            f"line {number} of {path} is not a JSON object with a `step` that"
            " never falls; the file was left as it is: it is not one of ours"
            " or was edited, so move it away, or name another"
        )
      end, last = end + len(raw), line["step"]
      yield end, line


def _parse(raw: bytes) -> dict[str, Any] | None:
  """Reads a line of a `StepLog`; None if it is anything else."""
  try:
    line = json.loads(raw)
  except ValueError:
    return None
  sound = isinstance(line, dict) and type(line.get("step")) is int
  return line if sound else None


def _is_start(raw: bytes) -> bool:
  """Tells the first bytes of a line of ours, or zeros from a power cut."""
  return raw.startswith(_START) or _START.startswith(raw.rstrip(b"\0"))
