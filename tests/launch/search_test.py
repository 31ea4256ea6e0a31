"""The program as it is run: in processes of its own, killed and continued."""

import json
import os
import pathlib
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from poise_jax.archive import store

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"
SCRIPT = LAUNCH / "search.py"

TINY = """
from poise_jax.discovery import explaining, search
from poise_jax.discovery.trials import budgets
from poise_jax.evaluation import suite
from poise_jax.training import config

def get_config():
  train = config.TrainConfig(
      steps=2, prompts=6, group_size=4, epochs=1, minibatches=2,
      learning_rate=1e-3,
  )
  budgets.ALL["tiny"] = budgets.Budget("tiny", train, suite.SuiteConfig(2, 4))
  return search.SearchConfig(
      name="tiny", budget="tiny", root_seeds=1, rounds=1, parents=1,
      children=1, child_seeds=1, max_seeds=2, rungs=(), confirm_budget="tiny",
      confirm_seeds=2, sealed_seeds=1,
      explain=explaining.Plan(ablation_trials=0, settings=0, hard_seeds=0),
  )
"""

# Runs the program once for each list of arguments, each time in a new process:
# a copy of this one, which has imported everything already.
SEVERAL = """
import json, os, runpy, sys, traceback
script, folder = sys.argv[1:3]
from ml_collections import config_flags
from poise_jax.discovery import leaderboard, progress, search
for i, arguments in enumerate(json.load(sys.stdin)):
  child = os.fork()
  if not child:
    for stream, name in ((1, "out"), (2, "err")):
      flags = os.O_WRONLY | os.O_CREAT
      os.dup2(os.open(f"{folder}/{i}.{name}", flags), stream)
    sys.argv, status = [script, *arguments], 0
    try:
      runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
      status = error.code or 0
    except BaseException:
      traceback.print_exc()
      status = 1
    sys.stdout.flush()
    os._exit(status)
  status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
  print(json.dumps(status), flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("launch")


@pytest.fixture(scope="module")
def config(folder):
  path = folder / "tiny.py"
  path.write_text(TINY)
  return path


@pytest.fixture(scope="module")
def start(folder, config):
  """Starts a campaign in a folder; programs compile once for all tests."""
  environment = os.environ | {
      "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
  }

  def start(workdir, *flags):
    arguments = [f"--config={config}", f"--workdir={workdir}", *flags]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )

  return start


@pytest.fixture(scope="module")
def finished(start, folder):
  """A campaign run to its end: working directory, stdout, stderr."""
  process = start(folder / "whole" / "run")
  stdout, stderr = process.communicate(timeout=300)
  assert process.returncode == 0, stderr
  return folder / "whole" / "run", stdout, stderr


def _digest(stdout):
  *_, last = stdout.splitlines()
  assert last.startswith("archive digest ")
  return last.removeprefix("archive digest ")


def test_a_campaign_from_a_config_file_to_a_leaderboard(finished):
  workdir, stdout, stderr = finished
  plan, board = stdout.split("Budget tiny, search split:\n")
  assert "Minimum detectable effect" in plan
  assert "Confirmations decide after 2 seeds already" in plan
  told = "If something holds: second base up to 4 trials, sealed up to 2 trials"
  assert told in plan
  header, *rows = board.splitlines()
  with store.Archive.open(workdir / "archive.db", create=False) as archive:
    (campaign,) = archive.campaigns()
    candidates = archive.candidates(campaign.id)
    assert _digest(stdout) == archive.digest(campaign.id)
  assert campaign.config["seed"] == 0
  # Below the board: what was found, and what it took.
  names = [row.split()[0] for row in rows[: len(candidates)]]
  assert "Nothing" in board and "Planned and actual minutes:" in board
  assert sorted(names) == sorted(c.name for c in candidates)
  assert len(names) == 6
  # No terminal: plain lines about what is being done.
  assert "candidate 5: propose" in stderr
  assert stderr.splitlines()[0].endswith("grpo: verify")
  assert "\x1b" not in stderr + stdout
  report = subprocess.run(
      [
          sys.executable,
          str(LAUNCH / "report.py"),
          f"--archive={workdir / 'archive.db'}",
          "--json=-",
      ],
      capture_output=True,
      text=True,
      timeout=120,
      check=True,
  )
  board = json.loads(report.stdout)
  assert board["campaign"] == campaign.id
  assert [c["name"] for c in board["candidates"]] == names


def _kill_after(process, lines, delay):
  """Kills a process so long after it has said so many lines on stderr."""
  for _ in range(lines):
    if not process.stderr.readline():
      break
  time.sleep(delay)
  process.send_signal(signal.SIGKILL)
  process.communicate(timeout=60)
  return process.returncode


def _killed_and_continued(start, workdir, kills, seed):
  """Digest of a campaign that was killed so often, and its last stderr."""
  rng = random.Random(seed)
  survived = 0
  for _ in range(kills):
    # A whole run says some 13 lines.
    process = start(workdir)
    status = _kill_after(process, rng.randint(3, 10), rng.uniform(0, 1))
    survived += status != -signal.SIGKILL
  assert survived < kills
  process = start(workdir)
  stdout, stderr = process.communicate(timeout=300)
  assert process.returncode == 0, stderr
  return _digest(stdout)


def test_killed_and_continued_it_ends_the_same(start, finished, tmp_path):
  found = _killed_and_continued(start, tmp_path, kills=1, seed=1)
  assert found == _digest(finished[1])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_killed_three_times_it_ends_the_same(start, finished, tmp_path, seed):
  found = _killed_and_continued(start, tmp_path, kills=3, seed=seed)
  assert found == _digest(finished[1])


@pytest.mark.slow
def test_interrupted_from_the_keyboard_it_says_how_to_go_on(
    start, finished, tmp_path
):
  process = start(tmp_path)
  while "train and score" not in process.stderr.readline():
    pass
  process.send_signal(signal.SIGINT)
  _, stderr = process.communicate(timeout=60)
  assert process.returncode == 130
  last = "search: interrupted; the same command continues"
  assert stderr.splitlines()[-1] == last
  stdout, _ = start(tmp_path).communicate(timeout=300)
  assert _digest(stdout) == _digest(finished[1])


@pytest.fixture(scope="module")
def harmed(folder):
  """Files that are no archive, no experiment and no directory."""
  place = folder / "harmed"
  place.mkdir()
  (place / "garbage.db").write_bytes(b"garbage " * 1000)
  store.Archive.open(place / "old.db", create=True).close()
  with sqlite3.connect(place / "old.db") as connection:
    connection.execute("DROP TRIGGER meta_no_update")
    connection.execute(
        "UPDATE meta SET value = '0' WHERE key = 'schema_version'"
    )
  connection.close()
  (place / "syntax.py").write_text("def get_config(:\n")
  (place / "raises.py").write_text("def get_config():\n  raise OSError('no')\n")
  (place / "number.py").write_text("def get_config():\n  return 3\n")
  return place


# Name -> arguments ({config}, {work} and {harmed} are paths), what is said.
WRONG = {
    "unknown key": (
        ["{config}", "{work}", "--config.nonsense=1"],
        "Field nonsense not found .* there are: name, seed, task, base",
    ),
    "unknown algorithm": (
        ["{config}", "{work}", "--config.root=ppo"],
        "`root` must be one of .*'dapo', .* got 'ppo'",
    ),
    "unknown budget": (
        ["{config}", "{work}", "--config.budget=huge"],
        "`budget` must be one of smoke, .*, confirm, tiny, got 'huge'",
    ),
    "wrong type": (
        ["{config}", "{work}", "--config.rounds=many"],
        "flag --config.rounds=many: invalid literal for int",
    ),
    "wrong value": (
        ["{config}", "{work}", "--config.child_seeds=9"],
        "`child_seeds` must not exceed `max_seeds`, got 9 and 2",
    ),
    "wrong value of explanations": (
        ["{config}", "{work}", "--config.explain.pairs=1"],
        "`explain.pairs` must be at least 2, got 1",
    ),
    "no config": (["{work}"], "give --config=FILE, such as experiments/"),
    "no workdir": (["{config}"], "give --workdir=DIR"),
    "workdir below a file": (
        ["{config}", "--workdir={harmed}/garbage.db/below"],
        "name another --workdir: .*garbage.db/below",
    ),
    "workdir is a file": (
        ["{config}", "--workdir={harmed}/garbage.db"],
        "name another --workdir: .*garbage.db",
    ),
    "damaged archive": (
        ["{config}", "--archive={harmed}/garbage.db"],
        "garbage.db is no readable SQLite file .* restore a copy",
    ),
    "old archive": (
        ["{config}", "--archive={harmed}/old.db"],
        "has schema version 0, .* use the poise_jax that wrote it",
    ),
    "missing config": (
        ["--config={harmed}/missing.py", "{work}"],
        "cannot load --config: .*No such file .*missing.py",
    ),
    "broken config": (
        ["--config={harmed}/syntax.py", "{work}"],
        r"cannot load --config: SyntaxError: .*syntax.py, line 1",
    ),
    "raising config": (
        ["--config={harmed}/raises.py", "{work}"],
        "cannot load --config: OSError: .*no",
    ),
    "config of something else": (
        ["--config={harmed}/number.py", "{work}"],
        r"get_config\(\) in --config must return a SearchConfig",
    ),
    "missing base": (
        ["{config}", "{work}", "--config.base={harmed}/missing"],
        "no config.json in '.*missing'; a checkpoint is a Hugging Face",
    ),
    "argument": (
        ["{config}", "{work}", "more"],
        "unexpected argument 'more': use --flag=value",
    ),
    "unknown flag": (
        ["{config}", "{work}", "--wrkdir=x"],
        "Unknown command line flag 'wrkdir'. Did you mean: workdir",
    ),
    "another campaign": (
        ["{config}", "--archive={whole}", "--config.seed=5"],
        r"seed \(archive: 0, now: 5\); restore that, or use another",
    ),
}


def _contents(*folders):
  return {
      path: path.read_bytes()
      for folder in folders
      for path in folder.rglob("*")
      if path.is_file()
  }


@pytest.fixture(scope="module")
def answers(folder, config, harmed, finished):
  """Name -> status, stdout and stderr; nothing that was there is changed."""
  paths = {
      "config": f"--config={config}",
      "work": f"--workdir={folder / 'never'}",
      "harmed": harmed,
      "whole": finished[0] / "archive.db",
  }
  cases = [[a.format(**paths) for a in wrong] for wrong, _ in WRONG.values()]
  out = folder / "answers"
  out.mkdir()
  before = _contents(harmed, finished[0])
  run = subprocess.run(
      [sys.executable, "-c", SEVERAL, str(SCRIPT), str(out)],
      input=json.dumps(cases),
      capture_output=True,
      text=True,
      timeout=300,
      check=True,
  )
  assert _contents(harmed, finished[0]) == before
  read = lambda i, name: (out / f"{i}.{name}").read_text()
  statuses = [json.loads(line) for line in run.stdout.splitlines()]
  return {
      name: (status, read(i, "out"), read(i, "err"))
      for i, (name, status) in enumerate(zip(WRONG, statuses, strict=True))
  }


@pytest.mark.parametrize("name", WRONG)
def test_whatever_is_wrong_is_one_line_and_status_2(answers, name):
  status, stdout, stderr = answers[name]
  assert (status, stdout) == (2, ""), stderr
  assert stderr.startswith("search: ")
  assert stderr.count("\n") == 1 and stderr.endswith("\n")
  assert re.search(WRONG[name][1], stderr), stderr


def test_an_error_in_a_process_that_shares_nothing(start, tmp_path):
  process = start(tmp_path / "never", "--config.nonsense=1")
  stdout, stderr = process.communicate(timeout=120)
  assert (process.returncode, stdout) == (2, "")
  assert stderr.startswith("search: cannot set --config: ")
  assert stderr.count("\n") == 1
  assert list(tmp_path.iterdir()) == []
