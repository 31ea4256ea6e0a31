"""Tells what other rules would have made of a campaign's choices of parents.

  python launch/replay_rules.py --archive=runs/quickstart/archive.db \
      [--campaign=NAME] [--rule=greedy,uniform] [--out=DIR]

Trains nothing. Prints, round by round, the parents chosen with their logged
odds beside those that each other rule would most likely have taken, what that
would have gained, whether predicted gains came true, and where there is too
little to tell. A campaign may still be running. With --out, the same as
choices.txt and choices.json.
"""

import json
import pathlib

from absl import flags
import program

from poise_jax.archive import records, store
from poise_jax.evaluation import results
from poise_jax.report import choices, choices_text

_ARCHIVE = flags.DEFINE_string(
    "archive", None, "Path of an SQLite archive, or any SQLAlchemy URL."
)
_CAMPAIGN = flags.DEFINE_string(
    "campaign", None, "Name or id of the campaign; the newest if not given."
)
_RULE = flags.DEFINE_list(
    "rule",
    [],
    "Rules to compare with: epistemic, greedy, uniform, best_of_n; without_T"
    " and T_alone for T of pareto, performance, diversity, potential;"
    " potential_always; or all. The simple ones if not given.",
)
_OUT = flags.DEFINE_string("out", None, "Directory for the text and the JSON.")


def choose(archive: store.Archive, wanted: str | None) -> records.Campaign:
  """The campaign of a name or id, the newest if none is wanted.

  Raises:
    flags.Error: listing those that there are.
  """
  campaigns = archive.campaigns()
  fitting = [c for c in campaigns if wanted in (None, c.id, c.name)]
  if not fitting:
    shown = ", ".join(f"{c.name} ({c.id})" for c in campaigns[-8:])
    asked = (
        f"--campaign={wanted} is not in the archive" if wanted else "nothing"
    )
    raise flags.Error(f"{asked}; it has {shown or 'no campaign'}")
  return fitting[-1]


def run() -> None:
  """Prints, and writes where asked to."""
  if not _ARCHIVE.value:
    raise flags.Error("give --archive=PATH_OR_URL")
  with store.Archive.open(_ARCHIVE.value, create=False) as archive:
    campaign = choose(archive, _CAMPAIGN.value)
    found = choices.look_back(archive, campaign.id, _RULE.value)
    names = {c.id: c.name for c in archive.candidates(campaign.id)}
  lines = [
      f"Campaign {campaign.name} ({campaign.id})",
      *choices_text.as_text(found, lambda node: names.get(node, node)),
  ]
  text = "\n".join(lines) + "\n"
  if _OUT.value:
    folder = pathlib.Path(_OUT.value)
    folder.mkdir(parents=True, exist_ok=True)
    told = choices_text.as_json(found) | {"names": names}
    results.write_atomically(
        folder / "choices.json", json.dumps(told, indent=2) + "\n"
    )
    results.write_atomically(folder / "choices.txt", text)
  print(text, end="")


if __name__ == "__main__":
  program.start("replay_rules", run, errors=(store.ArchiveError,))
