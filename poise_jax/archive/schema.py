"""Tables of the archive, for every SQL dialect, and what keeps them as they are.

A column is named like the record field it holds. JSON is canonical text, times
are UTC, rows are never changed: triggers refuse UPDATE, DELETE and REPLACE from
any program, not only from this one.
"""

from collections.abc import Mapping
import datetime
import json
from typing import Any

import sqlalchemy as sa

from poise_jax.archive import records

APPLICATION = "poise_jax"
SCHEMA_VERSION = 3


def plain(value: Any) -> Any:
  """Turns any mappings and sequences inside `value` into dicts and lists."""
  if isinstance(value, Mapping):
    return {key: plain(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [plain(item) for item in value]
  return value


class CanonicalJson(sa.types.TypeDecorator):
  """JSON as canonical text, so that equal values are equal bytes."""

  impl = sa.Text
  cache_ok = True

  def process_bind_param(self, value: Any, dialect: Any) -> str:
    """Renders the value of a record field."""
    return records.canonical_json(plain(value))

  def process_result_value(self, value: Any, dialect: Any) -> Any:
    """Parses what was stored; sequences come back as lists."""
    return json.loads(value)


class JsonTuple(CanonicalJson):
  """Canonical JSON of a sequence that records hold as a tuple."""

  cache_ok = True

  def process_result_value(self, value: Any, dialect: Any) -> tuple[Any, ...]:
    """Parses what was stored."""
    return tuple(json.loads(value))


class UtcDateTime(sa.types.TypeDecorator):
  """A time with its zone; SQLite forgets zones, so all are stored as UTC."""

  impl = sa.DateTime(timezone=True)
  cache_ok = True

  def process_bind_param(
      self, value: datetime.datetime, dialect: Any
  ) -> datetime.datetime:
    """Converts to UTC.

    Raises:
      ValueError: if `value` names no time zone.
    """
    if value.tzinfo is None:
      raise ValueError(f"time {value} has no zone: use `records.now()`")
    return value.astimezone(datetime.UTC)

  def process_result_value(
      self, value: datetime.datetime, dialect: Any
  ) -> datetime.datetime:
    """Restores the zone where the dialect dropped it."""
    if value.tzinfo is None:
      return value.replace(tzinfo=datetime.UTC)
    return value.astimezone(datetime.UTC)


metadata = sa.MetaData()


def _column(name: str, kind: Any, *args: Any, **kwargs: Any) -> sa.Column:
  return sa.Column(name, kind, *args, **{"nullable": False} | kwargs)


# Rows lie in the order of their keys, whatever order they came in.
_CLUSTERED = {"sqlite_with_rowid": False}

meta = sa.Table(
    "meta",
    metadata,
    _column("key", sa.String, primary_key=True),
    _column("value", sa.String),
    **_CLUSTERED,
)

campaign = sa.Table(
    "campaign",
    metadata,
    _column("id", sa.String, primary_key=True),
    _column("name", sa.Text),
    _column("config", CanonicalJson),
    _column("created_at", UtcDateTime),
    **_CLUSTERED,
)

candidate = sa.Table(
    "candidate",
    metadata,
    _column("id", sa.String, primary_key=True),
    _column("campaign_id", sa.String, sa.ForeignKey("campaign.id")),
    _column("index", sa.Integer),
    _column("name", sa.String),
    _column("role", sa.String),
    _column("generation", sa.Integer),
    _column("source", sa.Text),
    _column("source_sha256", sa.String, index=True),
    _column("mechanisms", CanonicalJson),
    _column("rationale", sa.Text),
    _column("accepted", sa.Boolean),
    _column("findings", JsonTuple),
    _column("artifact", sa.LargeBinary, nullable=True),
    _column("artifact_sha256", sa.String, nullable=True),
    _column("hparams", CanonicalJson),
    _column("created_at", UtcDateTime),
    _column("jaxpr", sa.Text, nullable=True),
    _column("canonical", sa.Text, nullable=True),
    _column("canonical_sha256", sa.String, nullable=True, index=True),
    _column("structure_sha256", sa.String, nullable=True, index=True),
    _column("fingerprint", sa.LargeBinary, nullable=True),
    _column("intrinsic", CanonicalJson),
    _column("nearest", JsonTuple),
    _column("twin_of", sa.ForeignKey("candidate.id"), nullable=True),
    sa.UniqueConstraint("campaign_id", "index"),
    sa.UniqueConstraint("campaign_id", "name"),
    **_CLUSTERED,
)

parentage = sa.Table(
    "parentage",
    metadata,
    _column("child", sa.ForeignKey("candidate.id"), primary_key=True),
    _column("position", sa.Integer, primary_key=True),
    _column("parent", sa.ForeignKey("candidate.id"), index=True),
    sa.UniqueConstraint("child", "parent"),
    **_CLUSTERED,
)

evaluation = sa.Table(
    "evaluation",
    metadata,
    _column("id", sa.String, primary_key=True),
    _column("candidate_id", sa.ForeignKey("candidate.id"), index=True),
    _column("key", CanonicalJson),
    _column("seed", sa.BigInteger),
    _column("budget", sa.String),
    _column("split", sa.String),
    _column("outcome", sa.String),
    _column("reason", sa.Text),
    _column("metrics", CanonicalJson),
    _column("curve", CanonicalJson),
    _column("started_at", UtcDateTime),
    _column("finished_at", UtcDateTime),
    **_CLUSTERED,
)

reflection = sa.Table(
    "reflection",
    metadata,
    _column("candidate_id", sa.ForeignKey("candidate.id"), primary_key=True),
    _column("text", sa.Text),
    _column("data", CanonicalJson),
    _column("created_at", UtcDateTime),
    **_CLUSTERED,
)

selection = sa.Table(
    "selection",
    metadata,
    _column("campaign_id", sa.ForeignKey("campaign.id"), primary_key=True),
    _column("generation", sa.Integer, primary_key=True, autoincrement=False),
    _column("parents", JsonTuple),
    _column("terms", CanonicalJson),
    _column("created_at", UtcDateTime),
    **_CLUSTERED,
)

decision = sa.Table(
    "decision",
    metadata,
    _column("campaign_id", sa.ForeignKey("campaign.id"), primary_key=True),
    _column("stage", sa.String, primary_key=True),
    _column("subject", sa.String, primary_key=True),
    _column("data", CanonicalJson),
    _column("created_at", UtcDateTime),
    **_CLUSTERED,
)


def create(connection: sa.Connection) -> None:
  """Makes the tables, their triggers and the rows of `meta`."""
  metadata.create_all(connection)
  for table in metadata.sorted_tables:
    for statement in append_only(table, connection.dialect.name):
      connection.exec_driver_sql(statement)
  connection.execute(
      meta.insert(),
      [
          {"key": "application", "value": APPLICATION},
          {"key": "schema_version", "value": str(SCHEMA_VERSION)},
      ],
  )


def append_only(table: sa.Table, dialect: str) -> list[str]:
  """Writes the statements that make `table` refuse every change.

  SQLite and PostgreSQL have them; elsewhere the list is empty and only the
  code of `store` keeps rows as they are.
  """
  name = table.name
  if dialect == "sqlite":
    # INSERT OR REPLACE deletes without firing a DELETE trigger.
    taken = f" WHEN EXISTS (SELECT 1 FROM {name} WHERE {_same_row(table)})"
    conditions = {"update": "", "delete": "", "insert": taken}
    return [
        f"CREATE TRIGGER {name}_no_{verb} BEFORE {verb} ON {name}{condition}"
        f" BEGIN SELECT RAISE(ABORT, '{name} is append-only'); END"
        for verb, condition in conditions.items()
    ]
  if dialect == "postgresql":
    return [
        f"CREATE FUNCTION {name}_append_only() RETURNS trigger LANGUAGE plpgsql"
        f" AS $$ BEGIN RAISE EXCEPTION '{name} is append-only'; END $$",
        f"CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE"
        f" ON {name} EXECUTE FUNCTION {name}_append_only()",
    ]
  return []


def _same_row(table: sa.Table) -> str:
  """Writes the condition that NEW meets a row under some unique key."""
  keys = [
      sorted(key.columns.keys())
      for key in table.constraints
      if isinstance(key, (sa.PrimaryKeyConstraint, sa.UniqueConstraint))
  ]
  return " OR ".join(
      " AND ".join(f'"{column}" = NEW."{column}"' for column in key)
      for key in sorted(keys)
  )
