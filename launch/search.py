"""Runs a discovery campaign, or continues one that was interrupted.

  python launch/search.py --config=experiments/quickstart.py --workdir=DIR \
      [--config.KEY=VALUE ...]

The archive is DIR/archive.db, or any SQLAlchemy URL by --archive. Before the
first candidate is made, a plan is printed; --plan_only stops there.
"""

from collections.abc import Sequence
import os
import pathlib
import sys
from typing import NoReturn

# Must be set before jax is imported. Arrays this small gain nothing from
# threads of their own; two of them let two trials run side by side. How sums
# are split between threads can change their last bits, so the number is fixed.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("NPROC", "2")

from absl import app, flags
from ml_collections import config_flags

from poise_jax.archive import records, store
from poise_jax.candidates import jail
from poise_jax.discovery import (
    canaries,
    conclusions,
    explaining,
    leaderboard,
    outlook,
    progress,
    search,
    steering,
)
from poise_jax.discovery.agents import choice
from poise_jax.discovery.evidence import plan
from poise_jax.discovery.llm import client, exchange
from poise_jax.discovery.proposer import grammar

_CONFIG = config_flags.DEFINE_config_file("config", None, "Experiment file.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the archive is kept.")
_ARCHIVE = flags.DEFINE_string(
    "archive", None, "SQLAlchemy URL, instead of WORKDIR/archive.db."
)
_REQUIRE_JAIL = flags.DEFINE_bool(
    "require_jail", False, "Refuse to run where seccomp is missing."
)
_PLAN_ONLY = flags.DEFINE_bool(
    "plan_only",
    False,
    "Measure root, canaries and clones, print the plan, and stop; without it"
    " the search goes on from there.",
)


def archive_location() -> str:
  """The archive's URL or path; makes the working directory."""
  if _ARCHIVE.value:
    return _ARCHIVE.value
  if not _WORKDIR.value:
    raise flags.Error("give --workdir=DIR, where the archive is kept")
  directory = pathlib.Path(_WORKDIR.value)
  try:
    directory.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise flags.Error(f"name another --workdir: {error}") from error
  return os.fspath(directory / "archive.db")


def load() -> search.SearchConfig:
  """The campaign's configuration, before its directive is followed."""
  config = _CONFIG.value
  if config is None:
    raise flags.Error("give --config=FILE, such as experiments/quickstart.py")
  if not isinstance(config, search.SearchConfig):
    raise flags.Error("get_config() in --config must return a SearchConfig")
  if not choice.has_model(config.checked().agent):
    steering.steer(config)  # so that a wrong one leaves nothing behind
  return config


def follow(
    config: search.SearchConfig, location: str, directory: str
) -> tuple[search.SearchConfig, steering.Reading | None]:
  """The configuration as its directive wants it; prints how it was read."""
  if not config.directive:
    return config, None
  with store.Archive.open(location, create=True) as archive:
    reading = steering.read(config, archive, directory)
  for line in reading.as_text():
    print(line, flush=True)
  return steering.steer(config, reading).checked(), reading


def run() -> None:
  """Runs the campaign and prints its plan, what came out and what it took."""
  config = load()
  location = archive_location()
  directory = _WORKDIR.value or "."
  config, reading = follow(config, location, directory)
  planned = []

  def go_on(runs: Sequence[records.Evaluation]) -> bool:
    planned.append(outlook.make(config, runs))
    for line in (*plan.as_text(planned[0]), *outlook.remarks(config, runs)):
      print(line, flush=True)
    children = config.rounds * config.children
    for line in choice.forecast(config.agent, config.llm, children):
      print(line, flush=True)
    return not _PLAN_ONLY.value

  began = records.now()
  with (
      choice.opened(config.agent, config.llm, directory) as scientists,
      store.Archive.open(location, create=True) as archive,
  ):
    with progress.display(outlook.steps(config)) as shown:
      campaign_id = search.run(
          config,
          archive,
          shown,
          require_jail=_REQUIRE_JAIL.value,
          go_on=go_on,
          scientists=scientists,
          reading=reading,
      )
    if _PLAN_ONLY.value:
      return
    for line in (
        *leaderboard.as_text(archive, campaign_id),
        *conclusions.as_text(archive, campaign_id),
        *explaining.at_equal_seconds(archive, campaign_id, config.explanations),
        *outlook.reviewed(config, planned[0], archive, campaign_id, began),
        *filter(None, [scientists.bill()]),
        f"archive digest {archive.digest(campaign_id)}",
    ):
      print(line)


def main(argv: Sequence[str]) -> None:
  """Runs; anything wrong is one line on stderr and exit status 2."""
  try:
    if argv[1:]:
      raise flags.Error(f"unexpected argument {argv[1]!r}: use --flag=value")
    # No child of a campaign inherits them, whoever proposes.
    with client.hidden_keys():
      run()
  except KeyboardInterrupt:
    fail("interrupted; the same command continues", status=130)
  except (flags.Error, store.ArchiveError, jail.JailError) as error:
    fail(str(error))
  except (exchange.LlmError, canaries.CanaryError) as error:
    fail(str(error))
  except grammar.ExhaustedError as error:
    fail(str(error))
  except (ValueError, OSError) as error:
    fail(str(error))


def fail(message: str, status: int = 2) -> NoReturn:
  """Ends the program with one line on stderr."""
  print(f"search: {message}", file=sys.stderr)
  sys.exit(status)


def parse(argv: Sequence[str]) -> list[str]:
  """Parses the flags, and executes the experiment file."""
  try:
    rest = flags.FLAGS(argv)
    # A file that is missing is noticed only when something is asked of it.
    hasattr(_CONFIG.value, "checked")
    return rest
  except KeyError as error:
    known = ", ".join(vars(search.SearchConfig()))
    fail(f"cannot set --config: {error}; there are: {known}")
  except Exception as error:  # Whatever an experiment file may raise.
    # Of a traceback the last line says what is wrong.
    reason = str(error).strip().split("\n")[-1].strip()
    if not isinstance(error, flags.Error):
      reason = f"cannot load --config: {type(error).__name__}: {reason}"
    fail(reason)


if __name__ == "__main__":
  app.run(main, flags_parser=parse)
