"""From a path or URL to an SQLAlchemy engine, without harm to what is there.

Whatever turns out not to be an archive, or a damaged one, keeps its bytes: an
SQLite file is first read through a connection that cannot write.
"""

from collections.abc import Iterator
import contextlib
import os
import pathlib
from typing import Any
import urllib.parse

import sqlalchemy as sa

from poise_jax.archive import schema

_LOCK_TIMEOUT_S = 30


class ArchiveError(Exception):
  """What the archive cannot do, in one line that names the fix."""


def open_engine(
    url_or_path: str | os.PathLike[str], *, create: bool
) -> sa.Engine:
  """Connects to an archive, after checking it or making its schema.

  Args:
    url_or_path: path of an SQLite file, or any SQLAlchemy URL.
    create: make the schema where there is none, and make sure that rows can
      be written.

  Returns:
    An engine whose option `write=True` makes transactions that write.

  Raises:
    ArchiveError: if there is no whole archive of this schema version there,
      and none can be made.
  """
  url = parse(url_or_path)
  path = _file(url)
  if path is not None:
    _inspect(path, create=create)
    if not create and not _writable(path.parent):
      url = _read_only(path)
  engine = _engine(url)
  try:
    _prepare(engine, create=create)
  except BaseException:
    engine.dispose()
    raise
  return engine


def parse(url_or_path: str | os.PathLike[str]) -> sa.URL:
  """Reads a database URL; anything else is the path of an SQLite file."""
  text = os.fspath(url_or_path)
  if "://" not in text:
    return sa.URL.create("sqlite", database=os.path.abspath(text))
  try:
    return sa.make_url(text)
  except sa.exc.ArgumentError as error:
    raise ArchiveError(
        f"{text!r} is not a database URL: give a path, or a URL such as"
        " sqlite:///archive.db or postgresql://host/name"
    ) from error


def display(url: sa.URL) -> str:
  """Names an archive in messages: its path, or its URL without password."""
  path = _file(url)
  return str(path) if path else url.render_as_string(hide_password=True)


@contextlib.contextmanager
def explained(url: sa.URL) -> Iterator[None]:
  """Turns database errors into one line that says what to do."""
  try:
    yield
  except (sa.exc.SQLAlchemyError, UnicodeError) as error:
    reason = " ".join(str(getattr(error, "orig", None) or error).split())
    if "locked" in reason:
      fix = "another process is writing to it: stop that one, or wait for it"
    elif "not a database" in reason or "malformed" in reason:
      fix = "it is damaged or no archive: restore a copy, or name another file"
    else:
      fix = "name an archive that you may read and write"
    message = f"cannot use archive {display(url)} ({reason}): {fix}"
    raise ArchiveError(message) from error


def _engine(url: sa.URL) -> sa.Engine:
  sqlite = url.get_backend_name() == "sqlite"
  options = {"timeout": _LOCK_TIMEOUT_S} if sqlite else {}
  try:
    with explained(url):
      engine = sa.create_engine(url, connect_args=options)
  except ImportError as error:
    raise ArchiveError(
        f"archive {display(url)} needs the Python module {error.name}:"
        " install it, or name an SQLite file"
    ) from error
  if sqlite:
    sa.event.listen(engine, "connect", _configure)
    sa.event.listen(engine, "begin", _begin)
  return engine


def _configure(connection: Any, record: Any) -> None:
  """Sets up a new SQLite connection."""
  # The driver would begin transactions late, after the first read; see _begin.
  connection.isolation_level = None
  connection.execute("PRAGMA foreign_keys=ON")
  # A stored row survives the death of the process, and a power cut.
  connection.execute("PRAGMA synchronous=FULL")


def _begin(connection: sa.Connection) -> None:
  # A writer takes the lock before it reads: what it read stays true.
  write = connection.get_execution_options().get("write", False)
  connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _file(url: sa.URL) -> pathlib.Path | None:
  """Names the file of an SQLite URL, None if it has none of its own."""
  database = url.database or ":memory:"
  if url.get_backend_name() != "sqlite" or database == ":memory:":
    return None
  return None if database.startswith("file:") else pathlib.Path(database)


def _writable(folder: pathlib.Path) -> bool:
  return os.access(folder, os.W_OK, effective_ids=True)


def _log(path: pathlib.Path) -> pathlib.Path:
  return path.with_name(path.name + "-wal")


def _read_only(path: pathlib.Path) -> sa.URL:
  """Addresses an SQLite file such that opening it changes nothing."""
  # Without a log beside it the file is all there is, and nobody writes it.
  mode = {"mode": "ro"} if _log(path).exists() else {"immutable": "1"}
  name = "file:" + urllib.parse.quote(os.path.abspath(path))
  return sa.URL.create("sqlite", database=name, query={"uri": "true"} | mode)


def _inspect(path: pathlib.Path, *, create: bool) -> None:
  """Refuses what is not a whole SQLite archive before it could be changed."""
  try:
    if path.is_dir():
      raise ArchiveError(f"{path} is a directory: name a file inside it")
    if not path.parent.is_dir():
      raise ArchiveError(
          f"directory {path.parent} does not exist: make it, or name another"
      )
    if not path.exists():
      if create:
        return
      raise ArchiveError(
          f"archive {path} does not exist: check the path, or run a search"
      )
    empty = path.stat().st_size == 0
    lost = empty and _log(path).exists() and _log(path).stat().st_size > 0
  except OSError as error:
    raise ArchiveError(
        f"cannot use archive {path} ({error.strerror}): name an archive that"
        " you may read and write"
    ) from error
  if lost:
    raise _damaged(path, "it is empty beside its own log")
  if not empty:
    _check(path)


def _check(path: pathlib.Path) -> None:
  """Reads an SQLite file through and refuses damaged or foreign ones."""
  url = _read_only(path)
  engine = _engine(url)
  try:
    with engine.connect() as connection:
      verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
      if verdict != "ok":
        raise _damaged(path, " ".join(str(verdict).split()))
      is_archive(connection, str(path))
  except sa.exc.DatabaseError as error:
    raise _damaged(path, str(error.orig)) from error
  finally:
    engine.dispose()


def _damaged(path: pathlib.Path, reason: str) -> ArchiveError:
  return ArchiveError(
      f"{path} is no readable SQLite file ({reason}): restore a copy, or name"
      " another file; it was left as it is"
  )


def is_archive(connection: sa.Connection, name: str) -> bool:
  """Tells an archive (True) from an empty database (False).

  Raises:
    ArchiveError: if it is anything else, or of another schema version.
  """
  inspector = sa.inspect(connection)
  tables = inspector.get_table_names()
  if not tables:
    return False
  values: dict[str, str] = {}
  if "meta" in tables:
    columns = {column["name"] for column in inspector.get_columns("meta")}
    if columns == {"key", "value"}:
      table = schema.meta
      query = sa.select(table.c.key, table.c.value)
      values = {row.key: row.value for row in connection.execute(query)}
  if values.get("application") != schema.APPLICATION:
    raise ArchiveError(
        f"{name} is a database of something else (tables"
        f" {', '.join(sorted(tables)[:3])}): name another; it was left as it is"
    )
  version = values.get("schema_version")
  if version != str(schema.SCHEMA_VERSION):
    raise ArchiveError(
        f"{name} has schema version {version}, this poise_jax reads"
        f" {schema.SCHEMA_VERSION}: use the poise_jax that wrote it, or name a"
        " new archive; it was left as it is"
    )
  return True


def _prepare(engine: sa.Engine, *, create: bool) -> None:
  """Checks the schema, and makes it in one transaction if told to."""
  name = display(engine.url)
  with explained(engine.url):
    with engine.begin() as connection:
      exists = is_archive(connection, name)
    if not create:
      if exists:
        return
      raise ArchiveError(
          f"archive {name} is empty: run a search into it, or name another"
      )
    if not exists and engine.dialect.name == "sqlite":
      # A lasting property of the file: readers do not wait for the writer.
      with contextlib.closing(engine.raw_connection()) as raw:
        raw.cursor().execute("PRAGMA journal_mode=WAL")
    with engine.execution_options(write=True).begin() as connection:
      if not is_archive(connection, name):
        schema.create(connection)
