"""Stops a run between two steps, or two rounds, when it is told to end.

The first SIGTERM (a machine is taken away, a job is cancelled) or SIGINT
(Ctrl-C) asks for an end after the round of sampling, the update or the
evaluation under way, so that a checkpoint can be written. A step that was left
is done again by the run that continues. A second one kills the process at once,
even inside a compilation; the checkpoint before is safe then, because steps are
written whole or not at all.
"""

from collections.abc import Iterator
import contextlib
import os
import signal
import threading
import time
from types import FrameType

import jax
from jax.experimental import multihost_utils
import numpy as np

# `timeout`, schedulers and terminals signal a process and its whole group: the
# same wish, heard twice within so many seconds, is one wish.
_ECHO_S = 0.5
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopError(Exception):
  """A step was left before it changed anything, for it is time to stop."""


class Watch:
  """Whether to stop, and how to exit; made by `watch`."""

  def __init__(self):
    self._received = 0

  def __call__(self) -> bool:
    """Whether to save and stop, now that a step or a round is done.

    In a run of many processes, all of them call it at the same places: a signal
    to any one stops all at the same place. Once true it stays true.
    """
    if jax.process_count() > 1:
      mine = np.int32(self._received)
      told = int(multihost_utils.process_allgather(mine).max())
      # A signal may have come meanwhile; it is for the next place.
      self._received = told or self._received
      return bool(told)
    return bool(self._received)

  def leave(self) -> None:
    """Asks as a call does, in the middle of a step that has changed nothing.

    Raises:
      StopError: if it is time to stop.
    """
    if self():
      raise StopError

  @property
  def exit_code(self) -> int:
    """0 unless Ctrl-C ended the run, then 130.

    SIGTERM is the scheduler's: a run that saved has done as it was told, and
    is not to be counted as failed. A script that runs many must not go on
    after Ctrl-C.
    """
    return 130 if self._received == signal.SIGINT else 0

  def receive(self, number: int) -> None:
    """Takes note of a signal; the first one counts."""
    self._received = self._received or int(number)


@contextlib.contextmanager
def watch() -> Iterator[Watch]:
  """Turns SIGTERM and SIGINT into a wish to stop, until it is left.

    with preemption.watch() as stop:
      for step in ...:
        ...
        if stop():
          checkpoints.save(...)
          break
    sys.exit(stop.exit_code)

  Start `jax.distributed` before: it takes SIGTERM for itself. The handlers
  there were before are put back at the end; processes forked meanwhile get the
  default ones. Signals reach Python's main thread only: in another thread
  nothing is installed, and only other processes can make it stop.

  Yields:
    A function that tells whether to stop; it has the exit code, too.
  """
  stop = Watch()
  if threading.current_thread() is not threading.main_thread():
    yield stop
    return
  with _kill_on_repeat(), _handled(stop):
    yield stop


@contextlib.contextmanager
def _handled(stop: Watch) -> Iterator[None]:
  owner = os.getpid()

  def handle(number: int, frame: FrameType | None) -> None:
    del frame
    if os.getpid() != owner:
      # A fork has no steps to finish.
      signal.signal(number, signal.SIG_DFL)
      os.kill(os.getpid(), number)
    stop.receive(number)

  before = {number: signal.signal(number, handle) for number in _SIGNALS}
  try:
    yield
  finally:
    for number, handler in before.items():
      # None: installed outside of Python, and cannot be put back.
      signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def _kill_on_repeat() -> Iterator[None]:
  """Ends the process at the second signal, whatever its main thread does.

  Python runs handlers between bytecodes of the main thread: not while that is
  compiling or waiting for a device. The byte that it writes to the wakeup file
  at each signal is there at once.
  """
  reader, writer = os.pipe()
  os.set_blocking(writer, False)

  def listen() -> None:
    first = None
    while number := os.read(reader, 1)[0]:
      if number not in _SIGNALS:
        continue
      now = time.monotonic()
      first = now if first is None else first
      if now - first > _ECHO_S:
        os._exit(128 + number)

  thread = threading.Thread(target=listen, daemon=True)
  thread.start()
  active = True

  def forget() -> None:
    # In a fork, signals must not reach the parent's listener.
    if active:
      signal.set_wakeup_fd(-1)

  os.register_at_fork(after_in_child=forget)
  before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
  try:
    yield
  finally:
    active = False
    signal.set_wakeup_fd(before)
    os.write(writer, b"\0")
    thread.join()
    os.close(reader)
    os.close(writer)
