"""What a campaign found, in sentences for a terminal."""

from collections.abc import Iterator, Sequence

from poise_jax.archive import records, store
from poise_jax.discovery import confirming


def as_text(archive: store.Archive, campaign_id: str) -> list[str]:
  """The sentences about a campaign in an archive; see `of`."""
  return of(archive.decisions(campaign_id))


def of(decisions: Sequence[records.Decision]) -> list[str]:
  """Says what was confirmed, what was not, and how sure that is.

  Empty for a campaign that is not over, or confirms nothing by its settings.
  """
  if not any(d.stage == "race" for d in decisions):
    return []
  first = [d for d in decisions if d.stage == confirming.FIRST]
  if not first:
    return ["Nothing was expected to beat the root: nothing to confirm."]
  held = [d for d in first if d.data["verdict"] == "confirmed"]
  lines = []
  if not held:
    lines.append("Nothing beat the root on fresh seeds and problems.")
  for decision in first:
    lines += _of_candidate(decision, decisions)
  return lines


def _of_candidate(
    first: records.Decision, decisions: Sequence[records.Decision]
) -> Iterator[str]:
  """The claim about one finalist, and what else was asked of it."""
  name = first.data["name"]
  yield f"{name}: {first.data['claim']}."
  for decision in decisions:
    if decision.subject != first.subject:
      continue
    if decision.stage == confirming.SECOND:
      yield f"{name}: {decision.data['claim']}."
    elif decision.stage == confirming.SEALED:
      mean, count = decision.data["mean"], len(decision.data["differences"])
      if mean is not None:
        yield (
            f"{name}: {mean:+.2f} points over the root on the sealed split,"
            f" {count} seeds, for the record."
        )
    elif "sentences" in decision.data:
      yield from (f"{name}: {line}" for line in decision.data["sentences"])
