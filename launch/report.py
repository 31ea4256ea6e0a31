"""Writes what an archive holds as an HTML page, or as JSON.

python launch/report.py --archive=runs/quickstart/archive.db --out=report
python launch/report.py --archive=runs/quickstart/archive.db --json=-
"""

from collections.abc import Sequence
import json
import sys
from typing import NoReturn

from absl import app, flags

from poise_jax.archive import store
from poise_jax.discovery import leaderboard
from poise_jax.evaluation import results
from poise_jax.report import page

_ARCHIVE = flags.DEFINE_string(
    "archive", None, "Path of an SQLite archive, or any SQLAlchemy URL."
)
_CAMPAIGN = flags.DEFINE_string(
    "campaign", None, "Id of the campaign; the newest if not given."
)
_OUT = flags.DEFINE_string("out", None, "Directory for the HTML page.")
_JSON = flags.DEFINE_string(
    "json", None, "File for the leaderboard as JSON; - prints it."
)


def choose(archive: store.Archive) -> str:
  """Returns the id of the campaign to report on."""
  if _CAMPAIGN.value is not None:
    return archive.campaign(_CAMPAIGN.value).id
  campaigns = archive.campaigns()
  if not campaigns:
    raise store.ArchiveError("no campaign stored yet: run launch/search.py")
  if len(campaigns) > 1:
    told = f"report: newest of {len(campaigns)} campaigns: {campaigns[-1].id}"
    print(f"{told}; --campaign=ID takes another", file=sys.stderr)
  return campaigns[-1].id


def main(argv: Sequence[str]) -> None:
  """Writes whatever the flags ask for."""
  if argv[1:]:
    fail(f"unexpected argument {argv[1]!r}: use --flag=value")
  if not _ARCHIVE.value or not (_OUT.value or _JSON.value):
    fail("give --archive=PATH_OR_URL and --out=DIR or --json=-")
  try:
    with store.Archive.open(_ARCHIVE.value, create=False) as archive:
      campaign_id = choose(archive)
      if _OUT.value:
        page.write(archive, campaign_id, _OUT.value)
      if _JSON.value:
        text = json.dumps(leaderboard.as_json(archive, campaign_id), indent=2)
        if _JSON.value == "-":
          print(text)
        else:
          results.write_atomically(_JSON.value, text + "\n")
  except store.ArchiveError as error:
    fail(str(error))
  except OSError as error:
    fail(f"cannot write ({error}): name another --out or --json")


def fail(message: str) -> NoReturn:
  """Ends the program: one line on stderr, exit status 2."""
  print(f"report: {message}", file=sys.stderr)
  sys.exit(2)


def parse(argv: Sequence[str]) -> list[str]:
  """Parses the flags."""
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    fail(str(error))


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
