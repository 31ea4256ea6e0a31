"""The section of a campaign's page about its choices of parents."""

from collections.abc import Mapping, Sequence

from poise_jax.archive import store
from poise_jax.discovery import leaderboard
from poise_jax.discovery.parents import review
from poise_jax.report import choices_text, layout


def look_back(
    archive: store.Archive, campaign_id: str, asked: Sequence[str] = ()
) -> review.Review:
  """Reviews the choices of a stored campaign.

  Args:
    archive: where it is kept.
    campaign_id: which campaign.
    asked: rules to compare with, see `review.names`.

  Raises:
    ArchiveError: if there is no such campaign.
    ValueError: if its choices cannot be replayed, or a rule is unknown.
  """
  campaign = archive.campaign(campaign_id)
  runs = leaderboard.counted(campaign, archive.evaluations(campaign_id))
  return review.of(
      campaign,
      archive.candidates(campaign_id),
      runs,
      archive.selections(campaign_id),
      archive.decisions(campaign_id),
      archive.reflections(campaign_id),
      asked,
  )


def of(archive: store.Archive, campaign_id: str) -> list[str]:
  """The section as HTML; empty while no choice is logged.

  A campaign of an earlier version, which logged no odds, has a section that
  says so.
  """
  if not archive.selections(campaign_id):
    return []
  try:
    found = look_back(archive, campaign_id)
  except ValueError as error:
    return ["<h2>Choice of parents</h2>", layout.note(f"Not shown: {error}.")]
  names = {c.id: c.name for c in archive.candidates(campaign_id)}
  return section(found, names)


def section(found: review.Review, names: Mapping[str, str]) -> list[str]:
  """Renders a review; see `choices_text` for what it says.

  Args:
    found: the review.
    names: id -> name of the candidates.
  """
  name_of = lambda node: names.get(node, node)
  body = [
      "<h2>Choice of parents</h2>",
      layout.claims(choices_text.sentences(found)),
  ]
  for title, name, heads, rows in (
      (
          "Parents drawn, and the most likely ones under each other rule",
          "choices-rounds",
          choices_text.heads_of_turns(found),
          choices_text.rows_of_turns(found, name_of),
      ),
      (
          "Gain beyond the rule in charge. (?): too little for an interval",
          "choices-rules",
          choices_text.WORTH_HEADS,
          choices_text.rows_of_worths(found),
      ),
      (
          "Of two nodes of a round, how often the one with the higher term led"
          " to more (chance: 50 %)",
          "choices-terms",
          choices_text.CONCORDANCE_HEADS,
          choices_text.rows_of_concordance(found),
      ),
      (
          "Intervals of predicted gains",
          "choices-coverage",
          choices_text.COVERAGE_HEADS,
          choices_text.rows_of_coverage(found),
      ),
  ):
    if rows:
      body += [layout.note(f"{title}:"), layout.table(name, heads, rows)]
  if rows := choices_text.rows_of_forecasts(found, name_of):
    table = layout.table("choices-gains", choices_text.FORECAST_HEADS, rows)
    body.append(
        "<details><summary>Predicted gains and what came</summary>"
        f"{table}</details>"
    )
  body.append(
      "<details><summary>What these figures assume</summary>"
      f"{layout.note(choices_text.METHODS)}</details>"
  )
  return body
