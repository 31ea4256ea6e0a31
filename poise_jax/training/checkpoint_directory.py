"""The directory of a run's checkpoints: made once, written by one run."""

from collections.abc import Iterator
import contextlib
import fcntl
import os
import pathlib
import shutil

import jax
import orbax.checkpoint as ocp

# Where orbax puts steps that are to be deleted. They are renamed first, so
# that no kill leaves half of a step under its name.
DELETED = ".deleted"
_LOCK = ".lock"


def is_url(directory: str) -> bool:
  """Whether it is in an object store rather than a file system."""
  return "://" in directory


def absolute(directory: str | os.PathLike[str]) -> str:
  """Absolute path; URLs such as gs://bucket/path are left alone."""
  text = os.fspath(directory)
  return text if is_url(text) else os.path.abspath(text)


def make(directory: str) -> None:
  """Makes it and its parents, where they are not there.

  Raises:
    NotADirectoryError: if it is, or is inside, a file.
  """
  if is_url(directory):
    return
  try:
    os.makedirs(directory, exist_ok=True)
  except (FileExistsError, NotADirectoryError) as error:
    raise NotADirectoryError(
        f"`directory` must not be, or be inside, a file, got {directory!r}"
    ) from error


def require(directory: str) -> None:
  """Raises FileNotFoundError if it is not there; URLs are taken on trust."""
  if not is_url(directory) and not os.path.isdir(directory):
    raise FileNotFoundError(
        f"no directory {directory!r} to read checkpoints from"
    )


def purge(directory: str) -> None:
  """Deletes what was let go or never finished; not to be called in a save.

  Process 0 does it for all. Orbax does it itself behind a URL.
  """
  if is_url(directory) or jax.process_index() != 0:
    return
  for name in os.listdir(directory):
    if name == DELETED or ocp.step.TMP_DIR_SUFFIX in name:
      shutil.rmtree(os.path.join(directory, name), ignore_errors=True)


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
  """Keeps other runs from writing there; the end of the process unlocks.

  Raises:
    RuntimeError: if another process has the lock. URLs cannot be locked.
  """
  if is_url(directory) or jax.process_index() != 0:
    yield
    return
  with pathlib.Path(directory, _LOCK).open("a") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise RuntimeError(
          f"another process writes checkpoints to {directory!r}: stop it, or"
          " use another directory"
      ) from error
    yield
