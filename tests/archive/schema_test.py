import datetime
import sqlite3
import types

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from poise_jax.archive import schema

TABLES = {
    "meta",
    "campaign",
    "candidate",
    "parentage",
    "evaluation",
    "reflection",
    "selection",
    "decision",
}


@pytest.fixture
def database(tmp_path):
  path = tmp_path / "archive.db"
  engine = sa.create_engine(f"sqlite:///{path}")
  with engine.begin() as connection:
    schema.create(connection)
    connection.execute(
        schema.campaign.insert(),
        {
            "id": "a",
            "name": "n",
            "config": {},
            "created_at": datetime.datetime.now(datetime.UTC),
        },
    )
  yield engine
  engine.dispose()


def test_tables(database):
  assert set(sa.inspect(database).get_table_names()) == TABLES
  with database.connect() as connection:
    values = dict(connection.execute(sa.select(schema.meta)).all())
  assert values == {
      "application": "poise_jax",
      "schema_version": str(schema.SCHEMA_VERSION),
  }


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE campaign SET name = 'other'",
        "DELETE FROM campaign",
        "INSERT OR REPLACE INTO campaign VALUES ('a', 'other', '{}', '')",
        "UPDATE meta SET value = '9'",
        "DELETE FROM meta",
    ],
)
def test_another_program_cannot_change_rows(database, tmp_path, statement):
  connection = sqlite3.connect(tmp_path / "archive.db")
  before = connection.execute("SELECT * FROM campaign").fetchall()
  with pytest.raises(sqlite3.IntegrityError, match="append-only"):
    connection.execute(statement)
  assert connection.execute("SELECT * FROM campaign").fetchall() == before
  connection.close()


def test_replacing_by_a_unique_key_is_refused_too(database, tmp_path):
  connection = sqlite3.connect(tmp_path / "archive.db")
  columns = [c.name for c in schema.candidate.columns]
  marks = ", ".join("?" * len(columns))
  insert = f"INSERT OR REPLACE INTO candidate VALUES ({marks})"
  row = dict.fromkeys(columns, "x") | {"campaign_id": "a", "index": 1}
  connection.execute(insert, [row[c] for c in columns])
  other = row | {"id": "y", "name": "y"}
  with pytest.raises(sqlite3.IntegrityError, match="append-only"):
    connection.execute(insert, [other[c] for c in columns])
  other |= {"index": 2}
  connection.execute(insert, [other[c] for c in columns])
  connection.close()


def test_every_table_is_guarded(database):
  with database.connect() as connection:
    names = set(
        connection.scalars(
            sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        )
    )
  verbs = ("insert", "update", "delete")
  assert names == {f"{t}_no_{verb}" for t in TABLES for verb in verbs}


def test_postgresql_gets_its_own_types_and_triggers():
  dialect = postgresql.dialect()
  text = "".join(
      str(CreateTable(table).compile(dialect=dialect))
      for table in schema.metadata.sorted_tables
  )
  for kind in ("BYTEA", "TIMESTAMP WITH TIME ZONE", "BOOLEAN", "BIGINT"):
    assert kind in text
  statements = schema.append_only(schema.evaluation, "postgresql")
  assert "BEFORE UPDATE OR DELETE OR TRUNCATE ON evaluation" in statements[1]
  assert schema.append_only(schema.evaluation, "mysql") == []


def test_plain_unwraps_any_mapping_and_sequence():
  value = types.MappingProxyType({"a": ({"b": (1,)},), "c": b"raw"})
  assert schema.plain(value) == {"a": [{"b": [1]}], "c": b"raw"}


def test_times_are_stored_as_utc(database):
  east = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
  time = datetime.datetime(2026, 1, 1, 3, 0, 0, 7, tzinfo=east)
  row = {"id": "b", "name": "n", "config": {}, "created_at": time}
  with database.begin() as connection:
    connection.execute(schema.campaign.insert(), row)
    query = "SELECT created_at FROM campaign WHERE id = 'b'"
    raw = connection.scalar(sa.text(query))
    query = sa.select(schema.campaign.c.created_at)
    read = connection.scalar(query.where(schema.campaign.c.id == "b"))
  assert raw == "2025-12-31 21:30:00.000007"
  assert read == time
  assert read.tzinfo is datetime.UTC


def test_times_without_zone_are_refused():
  with pytest.raises(ValueError, match="has no zone"):
    schema.UtcDateTime().process_bind_param(datetime.datetime(2026, 1, 1), None)
