import contextlib
import os
import pathlib
import sqlite3
import tempfile

import pytest
import sqlalchemy as sa

from poise_jax.archive import opening, schema, store


def snapshot(folder):
  """All files below `folder` with their bytes."""
  return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@contextlib.contextmanager
def refused(folder, match):
  """Expects one line of ArchiveError, and `folder` left as it was."""
  before = snapshot(folder)
  with pytest.raises(store.ArchiveError, match=match) as caught:
    yield
  assert "\n" not in str(caught.value)
  assert snapshot(folder) == before


def database(path, *statements):
  """Makes an SQLite file by hand."""
  connection = sqlite3.connect(path)
  for statement in statements:
    connection.execute(statement)
  connection.commit()
  connection.close()


@pytest.fixture
def archive_file(tmp_path, make):
  """A closed archive large enough to have several pages."""
  path = tmp_path / "archive.db"
  with store.Archive.open(path, create=True) as archive:
    archive.add_campaign(make.campaign())
    archive.add_candidate(make.candidate(0, source="x" * 50_000))
  return path


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("size", [5, 200, 20_000])
def test_a_file_of_something_else_is_refused(tmp_path, create, size):
  path = tmp_path / "archive.db"
  path.write_bytes(b"certainly not a database " * 1000)
  os.truncate(path, size)
  with refused(tmp_path, "no readable SQLite file.*not a database.*restore"):
    store.Archive.open(path, create=create)


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("keep", [0.9, 0.4, 0.01])
def test_a_truncated_archive_is_refused(archive_file, create, keep):
  os.truncate(archive_file, int(archive_file.stat().st_size * keep))
  with refused(archive_file.parent, "no readable SQLite file.*restore a copy"):
    store.Archive.open(archive_file, create=create)


def test_a_damaged_page_is_found(archive_file):
  with sqlite3.connect(archive_file) as connection:
    query = "SELECT rootpage FROM sqlite_master WHERE name = 'candidate'"
    ((page,),) = connection.execute(query)
  connection.close()
  with archive_file.open("r+b") as file:
    file.seek((page - 1) * 4096)
    file.write(b"\xff" * 4096)
  with refused(archive_file.parent, "no readable SQLite file"):
    store.Archive.open(archive_file, create=True)


def test_an_emptied_archive_does_not_lose_its_log(archive_file):
  os.truncate(archive_file, 0)
  pathlib.Path(f"{archive_file}-wal").write_bytes(b"rows to come")
  with refused(archive_file.parent, "empty beside its own log"):
    store.Archive.open(archive_file, create=True)


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE recipes (name TEXT)"],
        ["CREATE TABLE meta (schema_version INTEGER)"],
        ["PRAGMA journal_mode=WAL", "CREATE TABLE candidate (id TEXT)"],
        [
            "CREATE TABLE meta (key TEXT, value TEXT)",
            "INSERT INTO meta VALUES ('schema_version', '1')",
        ],
    ],
    ids=["no meta", "other meta", "wal", "unsigned meta"],
)
def test_a_database_of_something_else_is_refused(tmp_path, create, statements):
  path = tmp_path / "archive.db"
  database(path, *statements)
  with refused(tmp_path, "a database of something else.*name another"):
    store.Archive.open(path, create=create)


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("version", [0, schema.SCHEMA_VERSION + 1])
def test_another_schema_version_is_refused(tmp_path, create, version):
  path = tmp_path / "archive.db"
  database(
      path,
      "CREATE TABLE meta (key TEXT, value TEXT)",
      "INSERT INTO meta VALUES ('application', 'poise_jax')",
      f"INSERT INTO meta VALUES ('schema_version', '{version}')",
  )
  with refused(tmp_path, f"has schema version {version}.*that wrote it"):
    store.Archive.open(path, create=create)


@pytest.mark.parametrize("create", [True, False])
def test_places_where_no_file_can_be(tmp_path, create):
  with refused(tmp_path, "is a directory: name a file inside it"):
    store.Archive.open(tmp_path, create=create)
  with refused(tmp_path, "directory .*/absent does not exist: make it"):
    store.Archive.open(tmp_path / "absent" / "a.db", create=create)
  (tmp_path / "file").write_text("x")
  with refused(tmp_path, "directory .*/file does not exist: make it"):
    store.Archive.open(tmp_path / "file" / "a.db", create=create)


def test_nothing_is_made_without_create(tmp_path):
  with refused(tmp_path, "does not exist: check the path, or run a search"):
    store.Archive.open(tmp_path / "archive.db", create=False)
  (tmp_path / "archive.db").touch()
  with refused(tmp_path, "is empty: run a search"):
    store.Archive.open(tmp_path / "archive.db", create=False)


@contextlib.contextmanager
def unprivileged():
  """Gives up root for a while: root may write anywhere."""
  root = os.geteuid() == 0
  if root:
    os.seteuid(65534)
  try:
    yield
  finally:
    if root:
      os.seteuid(0)


@pytest.fixture
def locked_folder():
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)


def test_a_directory_that_cannot_be_written(locked_folder):
  locked_folder.chmod(0o555)
  with unprivileged(), refused(locked_folder, "may read and write"):
    store.Archive.open(locked_folder / "archive.db", create=True)


def test_a_directory_that_cannot_be_read(locked_folder):
  (locked_folder / "inner").mkdir()
  locked_folder.chmod(0o000)
  with unprivileged():
    with pytest.raises(store.ArchiveError, match="may read and write"):
      store.Archive.open(locked_folder / "inner" / "a.db", create=True)


def test_a_read_only_archive_can_be_read_but_not_resumed(locked_folder, make):
  path = locked_folder / "archive.db"
  with store.Archive.open(path, create=True) as archive:
    archive.add_campaign(make.campaign())
  path.chmod(0o444)
  locked_folder.chmod(0o555)
  before = snapshot(locked_folder)
  with unprivileged():
    with store.Archive.open(path, create=False) as archive:
      assert archive.campaigns() == [make.campaign()]
    with pytest.raises(store.ArchiveError, match="may read and write"):
      store.Archive.open(path, create=True)
  assert snapshot(locked_folder) == before


def test_an_interrupted_creation_is_taken_up(tmp_path, make):
  path = tmp_path / "archive.db"
  # What is left by a process killed before it made the tables.
  database(path, "PRAGMA journal_mode=WAL")
  with store.Archive.open(path, create=True) as archive:
    archive.add_campaign(make.campaign())
    assert archive.campaigns() == [make.campaign()]


def test_an_archive_is_durable_and_lets_readers_in(archive_file):
  engine = opening.open_engine(archive_file, create=False)
  with engine.connect() as connection:
    found = {
        name: connection.scalar(sa.text(f"PRAGMA {name}"))
        for name in ("journal_mode", "synchronous", "foreign_keys")
    }
  # 2 is FULL.
  assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
  engine.dispose()


@pytest.mark.parametrize("name", ["a b.db", "50%.db", "why?.db", "n#1.db"])
def test_odd_file_names(tmp_path, make, name):
  path = tmp_path / name
  for create in (True, True, False):
    with store.Archive.open(path, create=create) as archive:
      if create:
        archive.add_campaign(make.campaign())
      assert len(archive.campaigns()) == 1
  assert [p.name for p in tmp_path.iterdir()] == [name]


def test_paths_and_urls_name_the_same_file(tmp_path, make):
  path = tmp_path / "archive.db"
  with store.Archive.open(f"sqlite:///{path}", create=True) as archive:
    archive.add_campaign(make.campaign())
  with store.Archive.open(str(path), create=False) as archive:
    assert archive.campaigns() == [make.campaign()]


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("nosuch://host/name", "cannot use archive nosuch://host/name"),
        ("://", "is not a database URL: give a path"),
        ("mysql+nodriver://user:secret@host/name", "cannot use archive"),
    ],
)
def test_urls_that_cannot_be_used(url, match):
  with pytest.raises(store.ArchiveError, match=match) as caught:
    store.Archive.open(url, create=True)
  assert "secret" not in str(caught.value)


def test_a_missing_driver_is_named():
  try:
    import psycopg2  # noqa: F401
  except ImportError:
    url = "postgresql+psycopg2://host/name"
    with pytest.raises(store.ArchiveError, match="Python module psycopg2"):
      store.Archive.open(url, create=True)
  else:
    pytest.skip("psycopg2 is installed")
