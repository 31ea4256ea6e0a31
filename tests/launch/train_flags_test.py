"""What is wrong with the flags of launch/train.py is said in one line."""

import json
import pathlib
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "train.py"
EXPERIMENT = ROOT / "experiments" / "train_embedded.py"
SAMPLING = "--config.train.sampling_attempts=3"

# Runs the program once for each list of arguments, each time in a new process:
# a copy of this one, which has imported everything already.
SEVERAL = """
import json, os, runpy, sys, traceback
script, folder = sys.argv[1:3]
sys.path.insert(0, os.path.dirname(script))  # as when it is run
from ml_collections import config_flags
from poise_jax.discovery.trials import trial
from poise_jax.training import run, trainer
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
  return tmp_path_factory.mktemp("flags")


@pytest.fixture(scope="module")
def refuse(folder):
  """Runs with each list of arguments: status, stdout, stderr of each."""

  def refuse(cases):
    place = folder / f"refused {time.time_ns()}"
    place.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, str(SCRIPT), str(place)],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return [
        (
            int(status),
            (place / f"{i}.out").read_text(),
            (place / f"{i}.err").read_text(),
        )
        for i, status in enumerate(done.stdout.split())
    ]

  return refuse


CONFIG = f"--config={EXPERIMENT}"

# Arguments, and what the one line must say.
WRONG = (
    ([], "--config"),
    (["--config=nowhere.py"], "nowhere.py"),
    ([CONFIG, "rest"], "'rest'"),
    ([CONFIG, "--nonsense=1"], "nonsense"),
    (
        [CONFIG, "--config.train.stepz=1"],
        "--config.train.stepz is unknown (did",
    ),
    ([CONFIG, "--config.train.steps=x"], "--config.train.steps=x"),
    ([CONFIG, "--config.train.steps=0"], "--config.train: `steps` must be"),
    ([CONFIG, "--config.train.prompts=9"], "--config.train: `prompts` must be"),
    (
        [CONFIG, "--config.train.micro_batches=4"],
        "--config.train.prompts must be a multiple of 16",
    ),
    (
        [CONFIG, "--config.train.group_size=1", SAMPLING],
        "--config.train: `group_size` must be at least 2",
    ),
    ([CONFIG, "--config.run.completions=-1"], "--config.run: `completions`"),
    ([CONFIG, "--config.retention.last=0"], "--config.retention: `last`"),
    (
        [CONFIG, "--config.retention.metric=eval/overall"],
        "set --config.run.evaluate_every, or another metric",
    ),
    ([CONFIG, "--config.scoring.remat=half"], "--config.scoring: `remat` must"),
    ([CONFIG, "--config.mesh.data=3"], "--config.mesh.data=3"),
    ([CONFIG, "--config.mesh.tensor=3"], "--config.mesh.tensor=3"),
    ([CONFIG, "--config.policy=nowhere"], "--config.policy=nowhere: no config"),
    (
        [CONFIG, "--config.algorithm=grppo"],
        "--config.algorithm=grppo: `name` must be an algorithm, got 'grppo'"
        " (did you mean 'grpo'?)",
    ),
    ([CONFIG, "--hparam=clip_eps_high"], "--hparam=clip_eps_high must be"),
    ([CONFIG, "--config.train.top_p=2"], "--config.train: `top_p` must be in"),
    (
        [
            *(CONFIG, "--config.train.top_p=0.9"),
            "--config.algorithm=grpo_tis",
        ],
        "set --config.train.top_k=0 and --config.train.top_p=1, or choose",
    ),
    (
        [
            *(CONFIG, "--config.train.reference=False"),
            "--config.algorithm=grpo_adaptive_kl",
        ],
        "train: --config.train.reference=False leaves out the reference policy",
    ),
    ([CONFIG, "--hparam=clip_eps=1"], "--hparam: `hparams` must be constants"),
    ([CONFIG, "--num_processes=2"], "--coordinator_address"),
)


def test_what_is_wrong_is_one_line_naming_the_flag(refuse, folder):
  workdir = folder / "nothing"
  told = [[*arguments, f"--workdir={workdir}"] for arguments, _ in WRONG]
  cases = [*told, [CONFIG], [CONFIG, f"--workdir={SCRIPT}"]]
  cases.append([CONFIG, "--workdir=gs://bucket/run"])
  words = [*(words for _, words in WRONG), "--workdir=DIR", "--workdir="]
  words.append("--workdir: the directory of a run must be in a file system")
  for case, expected, (status, out, err) in zip(
      cases, words, refuse(cases), strict=True
  ):
    assert (status, out) == (2, ""), (case, err)
    assert err.startswith("train: ") and err.count("\n") == 1, (case, err)
    assert expected in err, (case, err)
  assert not workdir.exists()
