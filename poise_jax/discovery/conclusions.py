"""What a campaign found, in sentences for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from poise_jax.archive import records, store
from poise_jax.discovery import confirming


def as_text(archive: store.Archive, campaign_id: str) -> list[str]:
  """The sentences about a campaign in an archive; see `of`."""
  return of(archive.decisions(campaign_id))


def of(decisions: Sequence[records.Decision]) -> list[str]:
  """Says what was confirmed, what was not, and how sure that is.

  Empty before the race is over. Finalists wait until they are tested, or
  until one before them is confirmed: then nobody else is.
  """
  race = [d for d in decisions if d.stage == "race"]
  if not race:
    return []
  first = [d for d in decisions if d.stage == confirming.FIRST]
  finalists = {d.subject for d in race if d.data.get("status") == "finalist"}
  waiting = finalists - {d.subject for d in first}
  held = any(d.data["verdict"] == "confirmed" for d in first)
  lines = []
  if waiting and not held:
    lines.append("Finalists are not confirmed yet.")
  elif not first:
    lines.append("Nothing was expected to beat the root: nothing to confirm.")
  elif not held:
    lines.append(
        "Nothing was shown to beat the root on fresh seeds and problems."
    )
  for decision in first:
    lines += _of_candidate(decision, decisions)
  return lines


def _of_candidate(
    first: records.Decision, decisions: Sequence[records.Decision]
) -> Iterator[str]:
  """The claim about one finalist, and what else was asked of it."""
  name = first.data["name"]
  yield f"{name}: {first.data['claim']}."
  yield from _terms(first.data)
  for decision in decisions:
    if decision.subject != first.subject:
      continue
    if decision.stage == confirming.SECOND:
      yield f"{name}: {decision.data['claim']}."
      yield from _terms(decision.data)
    elif decision.stage == confirming.SEALED:
      if decision.data["mean"] is not None:
        yield f"{name}: {_sealed(decision.data)}."
    elif "sentences" in decision.data:
      yield from (f"{name}: {line}" for line in decision.data["sentences"])


def _terms(data: Mapping[str, Any]) -> Iterator[str]:
  """What an objective's points are in its metrics' own units."""
  told = [
      f"{metric} {found['mean']:+.3g} [{found['low']:+.3g},"
      f" {found['high']:+.3g}] on {found['root']:.4g} of the root"
      for metric, found in data.get("terms", {}).items()
      if found["low"] is not None
  ]
  if told:
    yield (
        f"{data['name']}: in their own units, means and 95 % intervals of the"
        f" same seeds: {'; '.join(told)}."
    )


def _sealed(data: Mapping[str, Any]) -> str:
  """The score on the sealed split, with everything it depends on."""
  effect = f"{data['mean']:+.2f} points"
  # Archives of earlier versions hold neither interval nor place.
  if data.get("low") is not None:
    effect += f" [{data['low']:+.2f}, {data['high']:+.2f}]"
  where = ""
  if "base" in data:
    where = f" base {data['base']}, budget {data['budget']},"
  return (
      f"{effect} over the root on the sealed split,{where}"
      f" {len(data['differences'])} seeds, for the record"
  )
