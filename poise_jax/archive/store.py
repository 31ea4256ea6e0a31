"""The archive: everything a campaign did, added to and never changed.

Each `add_*` is one transaction: once it returns, the record survives the death
of the process. Adding a record again is harmless, so a resumed search may
repeat its last step; adding another one under the same id is an error.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import os
from typing import Any, TypeVar

import sqlalchemy as sa

from poise_jax.archive import opening, records, schema

ArchiveError = opening.ArchiveError
Record = (
    records.Campaign
    | records.Candidate
    | records.Evaluation
    | records.Reflection
    | records.Selection
    | records.Decision
)
_T = TypeVar("_T")

_TABLES = {
    records.Campaign: schema.campaign,
    records.Candidate: schema.candidate,
    records.Evaluation: schema.evaluation,
    records.Reflection: schema.reflection,
    records.Selection: schema.selection,
    records.Decision: schema.decision,
}


def content(record: Record) -> dict[str, Any]:
  """Renders a record without its clock readings, bytes by their hash."""
  values = {
      field.name: schema.plain(getattr(record, field.name))
      for field in dataclasses.fields(record)
      if not field.name.endswith("_at")
  }
  return {
      name: records.sha256(value) if isinstance(value, bytes) else value
      for name, value in values.items()
  }


class Archive:
  """An open archive; `Archive.open` makes one, `close` or `with` ends it.

  Any number of threads and processes may read while one writes.
  """

  def __init__(self, engine: sa.Engine):
    self._engine = engine
    self._writer = engine.execution_options(write=True)
    self._name = opening.display(engine.url)

  @classmethod
  def open(
      cls, url_or_path: str | os.PathLike[str], *, create: bool
  ) -> "Archive":
    """Opens an archive.

    Args:
      url_or_path: path of an SQLite file, or any SQLAlchemy URL.
      create: make the archive where there is none yet, and make sure that it
        can be written to.

    Raises:
      ArchiveError: if it cannot be opened, is damaged, is not an archive or
        has another schema version. Nothing is overwritten or created then.
    """
    return cls(opening.open_engine(url_or_path, create=create))

  def close(self) -> None:
    """Closes all connections."""
    self._engine.dispose()

  def __enter__(self) -> "Archive":
    return self

  def __exit__(self, *exception: Any) -> None:
    self.close()

  def add_campaign(self, campaign: records.Campaign) -> None:
    """Stores a campaign."""
    self._add(campaign)

  def add_candidate(self, candidate: records.Candidate) -> None:
    """Stores a candidate; what it refers to must be stored already."""
    twin = () if candidate.twin_of is None else (candidate.twin_of,)
    self._add(
        candidate,
        campaigns=[candidate.campaign_id],
        candidates=(*candidate.parents, *twin),
    )

  def add_evaluation(self, evaluation: records.Evaluation) -> None:
    """Stores an evaluation; its candidate must be stored already."""
    self._add(evaluation, candidates=[evaluation.candidate_id])

  def add_reflection(self, reflection: records.Reflection) -> None:
    """Stores a reflection; its candidate must be stored already."""
    self._add(reflection, candidates=[reflection.candidate_id])

  def add_selection(self, selection: records.Selection) -> None:
    """Stores a selection; all it speaks of must be stored already."""
    self._add(
        selection,
        campaigns=[selection.campaign_id],
        candidates=[*selection.parents, *selection.terms],
    )

  def add_decision(self, decision: records.Decision) -> None:
    """Stores a conclusion; its campaign must be stored already."""
    self._add(decision, campaigns=[decision.campaign_id])

  def campaigns(self) -> list[records.Campaign]:
    """Lists all campaigns, oldest first."""
    table = schema.campaign
    query = sa.select(table).order_by(table.c.created_at, table.c.id)
    return self._list(records.Campaign, query)

  def campaign(self, campaign_id: str) -> records.Campaign:
    """Returns one campaign.

    Raises:
      ArchiveError: if there is none with this id.
    """
    campaigns = {campaign.id: campaign for campaign in self.campaigns()}
    if campaign_id not in campaigns:
      raise ArchiveError(
          f"campaign {campaign_id} is not in {self._name}: choose one of"
          f" {', '.join(campaigns) or '(none)'}"
      )
    return campaigns[campaign_id]

  def candidates(self, campaign_id: str) -> list[records.Candidate]:
    """Lists the candidates of a campaign by index."""
    return self._list(records.Candidate, _candidates_of(campaign_id))

  def evaluation(self, evaluation_id: str) -> records.Evaluation | None:
    """Returns one evaluation, None if it was never stored."""
    table = schema.evaluation
    query = sa.select(table).where(table.c.id == evaluation_id)
    found = self._list(records.Evaluation, query)
    return found[0] if found else None

  def evaluations(
      self, campaign_id: str, candidate_id: str | None = None
  ) -> list[records.Evaluation]:
    """Lists evaluations by candidate index, seed, budget and split."""
    query = _evaluations_of(campaign_id)
    if candidate_id is not None:
      query = query.where(schema.candidate.c.id == candidate_id)
    return self._list(records.Evaluation, query)

  def reflections(self, campaign_id: str) -> list[records.Reflection]:
    """Lists the reflections of a campaign by candidate index."""
    return self._list(records.Reflection, _reflections_of(campaign_id))

  def selections(self, campaign_id: str) -> list[records.Selection]:
    """Lists the selections of a campaign by generation."""
    return self._list(records.Selection, _selections_of(campaign_id))

  def decision(
      self, campaign_id: str, stage: str, subject: str
  ) -> records.Decision | None:
    """Returns one conclusion, None if it was never stored."""
    table = schema.decision
    query = sa.select(table).where(
        table.c.campaign_id == campaign_id,
        table.c.stage == stage,
        table.c.subject == subject,
    )
    found = self._list(records.Decision, query)
    return found[0] if found else None

  def decisions(
      self, campaign_id: str, stage: str | None = None
  ) -> list[records.Decision]:
    """Lists the conclusions of a campaign by stage and subject."""
    query = _decisions_of(campaign_id)
    if stage is not None:
      query = query.where(schema.decision.c.stage == stage)
    return self._list(records.Decision, query)

  def digest(self, campaign_id: str) -> str:
    """Hashes all that a campaign stored, clock readings apart.

    Two runs of a campaign did the same if, and only if, their digests agree.
    """
    contents = [content(self.campaign(campaign_id))]
    with self._transaction(self._engine) as connection:
      for kind, query in (
          (records.Candidate, _candidates_of(campaign_id)),
          (records.Evaluation, _evaluations_of(campaign_id)),
          (records.Reflection, _reflections_of(campaign_id)),
          (records.Selection, _selections_of(campaign_id)),
          (records.Decision, _decisions_of(campaign_id)),
      ):
        contents += map(content, _read(connection, kind, query))
    return records.sha256(records.canonical_json(contents))

  @contextlib.contextmanager
  def _transaction(self, engine: sa.Engine) -> Iterator[sa.Connection]:
    with opening.explained(engine.url), engine.begin() as connection:
      yield connection

  def _list(self, kind: type[_T], query: sa.Select) -> list[_T]:
    with self._transaction(self._engine) as connection:
      return _read(connection, kind, query)

  def _add(
      self,
      record: Record,
      *,
      campaigns: Sequence[str] = (),
      candidates: Sequence[str] = (),
  ) -> None:
    """Inserts `record`, which refers to other records, unless it is stored."""
    table = _TABLES[type(record)]
    key = {c: getattr(record, c.name) for c in table.primary_key}
    label = " ".join([table.name, *map(str, key.values())])
    try:
      new = records.canonical_json(content(record))
    except (TypeError, ValueError) as error:
      raise ArchiveError(
          f"{label} cannot be stored ({error}): give finite numbers, text,"
          " lists and dicts"
      ) from error
    query = sa.select(table).where(*(c == value for c, value in key.items()))
    with self._transaction(self._writer) as connection:
      stored = _read(connection, type(record), query)
      if not stored:
        self._require(connection, schema.campaign, campaigns)
        self._require(connection, schema.candidate, candidates)
        _insert(connection, record, label)
      elif records.canonical_json(content(stored[0])) != new:
        raise ArchiveError(
            f"{label} is already stored with different content in"
            f" {self._name}: keep the settings and versions it was stored"
            " with, or use a new archive"
        )

  def _require(
      self, connection: sa.Connection, table: sa.Table, ids: Sequence[str]
  ) -> None:
    query = sa.select(table.c.id).where(table.c.id.in_(ids))
    missing = sorted(set(ids) - set(connection.scalars(query)))
    if missing:
      raise ArchiveError(
          f"{table.name} {missing[0]} is not in {self._name}: add it before"
          " what refers to it"
      )


def _insert(connection: sa.Connection, record: Record, label: str) -> None:
  table = _TABLES[type(record)]
  values = {c.name: getattr(record, c.name) for c in table.columns}
  try:
    connection.execute(table.insert(), values)
    if isinstance(record, records.Candidate) and record.parents:
      links = [
          {"child": record.id, "position": position, "parent": parent}
          for position, parent in enumerate(record.parents)
      ]
      connection.execute(schema.parentage.insert(), links)
  except sa.exc.IntegrityError as error:
    raise ArchiveError(
        f"{label} repeats the index or name of another record, or a parent"
        f" ({error.orig}): give it its own"
    ) from error


def _read(
    connection: sa.Connection, kind: type[_T], query: sa.Select
) -> list[_T]:
  """Turns the rows of `query` into records of `kind`."""
  rows = [dict(row) for row in connection.execute(query).mappings()]
  if kind is records.Candidate:
    table = schema.parentage
    ids = query.with_only_columns(schema.candidate.c.id).order_by(None)
    links = sa.select(table).where(table.c.child.in_(ids))
    parents: dict[str, tuple[str, ...]] = {}
    for link in connection.execute(links.order_by(table.c.position)):
      parents[link.child] = (*parents.get(link.child, ()), link.parent)
    rows = [row | {"parents": parents.get(row["id"], ())} for row in rows]
  return [kind(**row) for row in rows]


def _candidates_of(campaign_id: str) -> sa.Select:
  table = schema.candidate
  query = sa.select(table).where(table.c.campaign_id == campaign_id)
  return query.order_by(table.c.index)


def _evaluations_of(campaign_id: str) -> sa.Select:
  table, candidate = schema.evaluation, schema.candidate
  query = sa.select(table).join(candidate)
  return query.where(candidate.c.campaign_id == campaign_id).order_by(
      candidate.c.index, table.c.seed, table.c.budget, table.c.split, table.c.id
  )


def _reflections_of(campaign_id: str) -> sa.Select:
  table, candidate = schema.reflection, schema.candidate
  query = sa.select(table).join(candidate)
  query = query.where(candidate.c.campaign_id == campaign_id)
  return query.order_by(candidate.c.index)


def _selections_of(campaign_id: str) -> sa.Select:
  table = schema.selection
  query = sa.select(table).where(table.c.campaign_id == campaign_id)
  return query.order_by(table.c.generation)


def _decisions_of(campaign_id: str) -> sa.Select:
  table = schema.decision
  query = sa.select(table).where(table.c.campaign_id == campaign_id)
  return query.order_by(table.c.stage, table.c.subject)
