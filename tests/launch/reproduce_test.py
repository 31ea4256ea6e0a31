"""A tiny campaign, and one of its trials made again in another process."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import pytest

from poise_jax.archive import store
from poise_jax.discovery.trials import trial
from poise_jax.models import checkpoints

LAUNCH = pathlib.Path(__file__).parents[2] / "launch"

TINY = """
from poise_jax.discovery import search
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
      name="tiny", budget="tiny", root_seeds=1, rounds=0, parents=1,
      children=1, child_seeds=1,
  )
"""

# Runs the program once for each list of flags, each time in a copy of this
# process, which has imported everything already.
SEVERAL = """
import json, os, runpy, sys
from poise_jax.discovery.trials import reproduction
script, folder = sys.argv[1:]
sys.path.insert(0, os.path.dirname(script))
for i, flags in enumerate(json.load(sys.stdin)):
  child = os.fork()
  if not child:
    target = os.open(f"{folder}/{i}.err", os.O_WRONLY | os.O_CREAT)
    os.dup2(target, 2)
    sys.argv, status = [script, *flags], 1
    try:
      runpy.run_path(script, run_name="__main__")
    except SystemExit as error:
      status = error.code or 0
    sys.stderr.flush()
    os._exit(status)
  print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def _start(script, *flags, **environment):
  return subprocess.Popen(
      [sys.executable, str(LAUNCH / script), *map(str, flags)],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env=os.environ | environment,
  )


# Trains the root of an archive on the other task from two base policies, with
# the same seed, as for a search and for a confirmation.
CARRYLESS = """
import dataclasses, os, sys
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("NPROC", "2")
from poise_jax.archive import records, store
from poise_jax.candidates import artifact
from poise_jax.discovery.trials import reproduction, trial
from poise_jax.tasks import arithmetic, embedded

SPLIT = arithmetic.Split.CONFIRM
old = store.Archive.open(sys.argv[1], create=False)
new = store.Archive.open(sys.argv[2], create=True)
with old, new:
  (campaign,) = old.campaigns()
  root = old.candidates(campaign.id)[0]
  run = old.evaluations(campaign.id, root.id)[0]
  bases = {"base": "carryless", "second_base": "carryless_second"}
  new.add_campaign(
      dataclasses.replace(campaign, config=dict(campaign.config) | bases)
  )
  new.add_candidate(root)
  loss = artifact.load(root.artifact, root.name)
  loss = loss._replace(hparams=dict(root.hparams))
  for base in bases.values():
    made = trial.Laboratory(
        base, reproduction.budget_of(run), embedded.CARRYLESS
    )
    came = made.run(loss, SPLIT, 0)
    new.add_evaluation(
        dataclasses.replace(
            run, id=base, key=made.key(root, SPLIT, 0), seed=0, split="confirm",
            metrics=came.metrics, curve=came.curve,
        )
    )
"""

# Loads the program, and prints what it would train the one run with.
LABORATORY = """
import os, runpy, sys
script, path, name = sys.argv[1:]
sys.path.insert(0, os.path.dirname(script))
program = runpy.run_path(script, run_name="reproduce")
from absl import flags
from poise_jax.archive import store
flags.FLAGS([script])
with store.Archive.open(path, create=False) as archive:
  (campaign,) = archive.campaigns()
  (run,) = archive.evaluations(campaign.id, name)
made = program["laboratory"](campaign, run)
print(made.task.name, made.base_sha256, made.budget.name)
"""


@pytest.fixture(scope="module")
def archive_file(tmp_path_factory):
  folder = tmp_path_factory.mktemp("reproduce")
  (folder / "tiny.py").write_text(TINY)
  process = _start(
      "search.py", f"--config={folder / 'tiny.py'}", f"--workdir={folder}"
  )
  _, stderr = process.communicate(timeout=300)
  assert process.returncode == 0, stderr
  return folder / "archive.db"


def _candidates(path):
  with store.Archive.open(path, create=False) as archive:
    (campaign,) = archive.campaigns()
    return {c.name: c.id for c in archive.candidates(campaign.id)}


def _changed(path, target, name, change, **settings):
  """Copies an archive, with the evaluations of one candidate changed.

  Args:
    path: of the archive.
    target: path of the copy.
    name: of the candidate.
    change: makes another evaluation of one.
    **settings: of the campaign.
  """
  with (
      store.Archive.open(path, create=False) as old,
      store.Archive.open(target, create=True) as new,
  ):
    (campaign,) = old.campaigns()
    config = dict(campaign.config) | settings
    new.add_campaign(dataclasses.replace(campaign, config=config))
    for candidate in old.candidates(campaign.id):
      new.add_candidate(candidate)
      for run in old.evaluations(campaign.id, candidate.id):
        new.add_evaluation(change(run) if candidate.name == name else run)
  return target


def _one_bit(run):
  metrics = dict(run.metrics) | {"valid_rate": run.metrics["valid_rate"] + 1e-9}
  return dataclasses.replace(run, metrics=metrics)


def test_the_same_bits_in_another_process(archive_file, tmp_path):
  root = _candidates(archive_file)["grpo"]
  harmed = _changed(archive_file, tmp_path / "harmed.db", "grpo", _one_bit)
  first = _start(
      "reproduce.py", f"--archive={archive_file}", f"--candidate={root}"
  )
  stdout, stderr = first.communicate(timeout=300)
  assert first.returncode == 0, stderr
  lines = stdout.splitlines()
  assert lines[0] == f"{root} grpo: budget tiny, split search, seed 0"
  assert [line.split(":")[0] for line in lines[1:]] == [
      "curve", "metrics", "bits",
  ]  # fmt: skip
  assert (
      lines[3] == "bits: held, curve and metrics are the same to the last one"
  )
  # A stored score that nothing explains is a broken promise.
  second = _start(
      "reproduce.py", f"--archive={harmed}", f"--candidate={root}", "--seed=0"
  )
  stdout, stderr = second.communicate(timeout=300)
  assert second.returncode == 1, stderr
  assert "bits: not held, they differ, with nothing to explain it" in stdout
  assert ", the same" in stdout.splitlines()[1]


def _elsewhere(run):
  """As another machine would have stored it, with a neighbour's score."""
  key = json.loads(json.dumps(run.key))
  key["versions"] |= {"processor": "another one"}
  metrics = dict(run.metrics) | {"overall": run.metrics["overall"] + 0.1}
  return dataclasses.replace(run, key=key, metrics=metrics)


@pytest.mark.slow
def test_elsewhere_it_says_which_promise_held(archive_file, tmp_path):
  def twice(run):
    return _elsewhere(run)

  path = _changed(archive_file, tmp_path / "else.db", "grpo", twice)
  with store.Archive.open(path, create=True) as archive:
    (campaign,) = archive.campaigns()
    (run,) = archive.evaluations(campaign.id, _candidates(path)["grpo"])
    for seed in (1, 2):
      metrics = dict(run.metrics) | {"overall": run.metrics["overall"] + seed}
      archive.add_evaluation(
          dataclasses.replace(
              run, id=f"more-{seed}", seed=seed, metrics=metrics
          )
      )
  process = _start(
      "reproduce.py",
      f"--archive={path}",
      f"--candidate={_candidates(path)['grpo']}",
  )
  stdout, stderr = process.communicate(timeout=300)
  assert process.returncode == 3, stderr
  assert "processor: 'another one' then" in stdout
  assert "interval: held, Overall" in stdout


def _rekeyed(**changes):
  """Changes what the result of a run is said to be a function of."""
  return lambda run: dataclasses.replace(run, key=dict(run.key) | changes)


def test_the_task_and_the_second_base_are_those_of_the_run(
    archive_file, tmp_path
):
  folder = trial.base_directory("carryless_second")
  digest = checkpoints.load(folder).sha256
  path = _changed(
      archive_file,
      tmp_path / "second.db",
      "grpo",
      _rekeyed(task="carryless-1", base=digest),
      second_base="carryless_second",
  )
  root = _candidates(path)["grpo"]
  found = subprocess.run(
      [sys.executable, "-c", LABORATORY, LAUNCH / "reproduce.py", path, root],
      capture_output=True,
      text=True,
      timeout=240,
      check=True,
  )
  assert found.stdout.split() == ["carryless-1", digest, "tiny"]


@pytest.mark.slow
def test_bits_hold_on_the_other_task_from_either_base(archive_file, tmp_path):
  path = tmp_path / "carryless.db"
  subprocess.run(
      [sys.executable, "-c", CARRYLESS, archive_file, path],
      timeout=300,
      check=True,
  )
  curves = set()
  for flags in ([], ["--base=carryless_second"]):
    process = _start(
        "reproduce.py",
        f"--archive={path}",
        f"--candidate={_candidates(path)['grpo']}",
        *flags,
    )
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    lines = stdout.splitlines()
    assert lines[0].endswith("budget tiny, split confirm, seed 0")
    assert lines[-1].startswith("bits: held")
    curves |= {line for line in lines if line.startswith("curve")}
  assert len(curves) == 2


# Name -> flags ({archive}, {root}, {nowhere}, and copies with
# another {task} and {base}), what is said.
WRONG = {
    "no archive": (["--candidate=x"], "give --archive"),
    "no candidate": (["--archive={archive}"], "give --candidate"),
    "missing archive": (
        ["--archive={nowhere}", "--candidate=x"],
        "nowhere",
    ),
    "unknown candidate": (
        ["--archive={archive}", "--candidate=x-001"],
        "--candidate=x-001 is not in the archive; it has {root}, ",
    ),
    "unknown seed": (
        ["--archive={archive}", "--candidate={root}", "--seed=7"],
        "no evaluation with seed 7; it has: tiny, search, seed 0",
    ),
    "unknown budget": (
        ["--archive={archive}", "--candidate={root}", "--budget=huge"],
        "no evaluation with budget huge; it has: tiny, search, seed 0",
    ),
    "missing base": (
        ["--archive={archive}", "--candidate={root}", "--base={nowhere}"],
        "nowhere' is not available .* name where it is by --base=DIR",
    ),
    "other task": (
        ["--archive={task}", "--candidate={root}"],
        "task 'arithmetic-9' is not available .* which has arithmetic-1, ",
    ),
    "other base": (
        ["--archive={base}", "--candidate={root}"],
        "'embedded' is another one, .* ffffffffffffffff; .* 'nowhere' is not"
        " available .* name where it is by --base=DIR",
    ),
    "argument": (["more"], "unexpected argument 'more': use --flag=value"),
}


def test_wrong_flags_are_one_line(archive_file, tmp_path):
  places = {
      "archive": archive_file,
      "root": _candidates(archive_file)["grpo"],
      "nowhere": tmp_path / "nowhere",
      "task": tmp_path / "task.db",
      "base": tmp_path / "base.db",
  }
  other = _rekeyed(task="arithmetic-9")
  _changed(archive_file, places["task"], "grpo", other)
  other = _rekeyed(base="f" * 64)
  _changed(archive_file, places["base"], "grpo", other, second_base="nowhere")
  flags = [[f.format(**places) for f in given] for given, _ in WRONG.values()]
  found = subprocess.run(
      [sys.executable, "-c", SEVERAL, LAUNCH / "reproduce.py", tmp_path],
      input=json.dumps(flags),
      capture_output=True,
      text=True,
      timeout=240,
      check=True,
  )
  assert found.stdout.split() == ["2"] * len(WRONG)
  for i, (name, (_, said)) in enumerate(WRONG.items()):
    stderr = (tmp_path / f"{i}.err").read_text()
    assert len(stderr.splitlines()) == 1, (name, stderr)
    assert stderr.startswith("reproduce: ")
    for part in said.format(**places).split(" .* "):
      assert part in stderr, (name, stderr)
