"""Campaigns with a model, as they are run: served, harmed, killed, replayed.

The model is a server on this machine; each campaign is a process of its own.
"""

import collections
import contextlib
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import NamedTuple

import pytest

from poise_jax.archive import store
from poise_jax.discovery.agents import choice
from poise_jax.discovery.llm import ledger, transcripts

ROOT = pathlib.Path(__file__).parents[2]
_SPEC = importlib.util.spec_from_file_location(
    "model_server", pathlib.Path(__file__).with_name("model_server.py")
)
model_server = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(model_server)
KEY = model_server.KEY
_PYTHONPATH = os.environ.get("PYTHONPATH")

# Two rounds of one candidate, and seconds of training.
TINY = """
from poise_jax.discovery import explaining, search
from poise_jax.discovery.trials import budgets
from poise_jax.evaluation import suite
from poise_jax.training import config

train = config.TrainConfig(
    steps=2, prompts=6, group_size=4, epochs=1, minibatches=2,
    learning_rate=1e-3,
)
budgets.ALL["tiny"] = budgets.Budget("tiny", train, suite.SuiteConfig(2, 4))

def get_config():
  return search.SearchConfig(
      name="tiny", budget="tiny", root_seeds=1, rounds=2, parents=1,
      children=1, child_seeds=1, max_seeds=2, rungs=(), finalists=1,
      confirm_budget="tiny", confirm_seeds=2, sealed_seeds=1,
      explain=explaining.Plan(ablation_trials=0, settings=0, hard_seeds=0),
  )
"""

LONGER = "--config.children=2"  # has time for every kind of fault

# The demonstration as it is shipped, but for its budget and second candidate.
DEMO = f"""
import runpy

def get_config():
  config = runpy.run_path({str(ROOT / "experiments/replay_demo.py")!r})[
      "get_config"]()
  runpy.run_path(__file__.replace("demo.py", "tiny.py"))
  config.budget, config.confirm_budget = "tiny", "tiny"
  config.rungs, config.children = (), 1
  return config
"""

# What a process sees of a network that is not there.
NO_NETWORK = """
import socket

def refuse(*_, **__):
  raise AssertionError("a replay opened a connection")

socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = socket.create_connection = refuse
"""


class Run(NamedTuple):
  """A campaign that ended: where, what it printed, and who was asked."""

  workdir: pathlib.Path
  stdout: str
  stderr: str
  model: model_server.Model | None = None
  requests: tuple[str, ...] = ()

  @property
  def digest(self):
    *_, last = self.stdout.splitlines()
    assert last.startswith("archive digest ")
    return last

  @property
  def transcript(self):
    return self.workdir / choice.TRANSCRIPT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("launch")
  (folder / "tiny.py").write_text(TINY)
  (folder / "demo.py").write_text(DEMO)
  (folder / "no_network").mkdir()
  (folder / "no_network" / "sitecustomize.py").write_text(NO_NETWORK)
  return folder


def _environment(**changes):
  """That of this process, without anything that leads to a model."""
  return {
      name: value
      for name, value in os.environ.items()
      if not name.lower().endswith("_proxy")
      and not name.startswith(("GOOGLE", "GEMINI"))
  } | changes


def _start(workdir, config, *flags, prefix=(), **environment):
  return subprocess.Popen(
      [*prefix, sys.executable, str(ROOT / "launch" / "search.py")]
      + [f"--config={config}", f"--workdir={workdir}", *flags],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      cwd=ROOT,
      env=_environment(**environment),
  )


def _output(process):
  """What a process says until its end; none is left behind."""
  try:
    return process.communicate(timeout=1800)
  finally:
    process.kill()


def _start_live(folder, workdir, server, flags):
  return _start(
      workdir,
      folder / "tiny.py",
      "--config.agent=gemini",
      f"--config.llm.base_url={server.url}",
      "--config.llm.model=m",
      "--config.llm.prompt_price=2",
      "--config.llm.output_price=12",
      "--config.llm.timeout_seconds=5",
      *flags,
      GEMINI_API_KEY=KEY,
  )


def _live(folder, name, model, *flags, deaths=()):
  """Runs a campaign with a model to its end.

  Args:
    folder: of all campaigns.
    name: of this one.
    model: whom it asks.
    *flags: for the program.
    deaths: what a process says before it is killed, one process each; empty for
      one that the model kills.
  """
  with model_server.gemini.Server(model.answer).running() as server:
    for last_words in deaths:
      process = _start_live(folder, folder / name, server, flags)
      model.watched = process.pid
      while last_words and last_words not in process.stderr.readline():
        assert process.poll() is None
      if last_words:
        process.kill()
      _output(process)
      assert process.returncode == -signal.SIGKILL
    process = _start_live(folder, folder / name, server, flags)
    model.watched = process.pid
    stdout, stderr = _output(process)
  assert process.returncode == 0, stderr
  requests = tuple(json.dumps(request) for request in server.requests)
  return Run(folder / name, stdout, stderr, model, requests)


def _unshared():
  """What takes the network from a program, where that is allowed."""
  prefix = ("unshare", "--map-root-user", "--net")
  with contextlib.suppress(OSError):
    if not subprocess.run([*prefix, "true"], capture_output=True).returncode:
      return prefix
  return ()


def _offline(folder, workdir, config, *flags):
  """Runs a campaign to its end without a key and without a network."""
  process = _start(
      workdir,
      config,
      *flags,
      prefix=_unshared(),
      PYTHONPATH=os.pathsep.join(
          [str(folder / "no_network"), *filter(None, [_PYTHONPATH])]
      ),
  )
  stdout, stderr = _output(process)
  assert process.returncode == 0, stderr
  return Run(workdir, stdout, stderr)


def _replayed(folder, name, run, *flags):
  return _offline(
      folder,
      folder / name,
      folder / "tiny.py",
      f"--config.agent=replay:{run.transcript}",
      "--config.llm.model=m",
      *flags,
  )


@pytest.fixture(scope="module")
def finished(folder):
  """A campaign with a model that is well."""
  return _live(folder, "whole", model_server.Model())


@pytest.fixture(scope="module")
def harmed(folder):
  """A campaign with a model of which every third reply is of no use."""
  return _live(
      folder, "harmed", model_server.Model(model_server.FAULTS), LONGER
  )


def _generated(run):
  with store.Archive.open(run.workdir / "archive.db", create=False) as archive:
    (campaign,) = archive.campaigns()
    return (
        [c for c in archive.candidates(campaign.id) if c.role == "generated"],
        {n.candidate_id: n.text for n in archive.reflections(campaign.id)},
        {d.subject: d.data for d in archive.decisions(campaign.id, "llm")},
    )


def _assert_exact(run):
  """The ledger says what the server counted, to the last picodollar."""
  entries = transcripts.read(run.transcript)
  balance, whole = ledger.tally(entries), run.model.whole
  total = lambda name: sum(counts[name] for _, counts in whole)
  assert balance.calls == run.model.calls
  assert balance.replies == len(whole)
  assert balance.usage._asdict() == {
      name: total(name) for name in ("prompt", "cached", "output", "thoughts")
  }
  spent = 2 * total("prompt") + 12 * (total("output") + total("thoughts"))
  assert balance.spent == spent * 10**6
  # Of a call whose end was not seen the most is counted that it can cost.
  seen = collections.Counter(
      e["exchange"]
      for e in entries
      if e["kind"] == "ended" and not e["uncertain"]
  )
  sent = collections.Counter(
      (e["exchange"], e["reserved"]) for e in entries if e["kind"] == "sent"
  )
  unseen = [
      reserved
      for (exchange, reserved), times in sent.items()
      for _ in range(times - seen[exchange])
  ]
  assert len(unseen) == run.model.lost
  assert balance.uncertain == sum(unseen)
  (bill,) = [s for s in run.stdout.splitlines() if s.startswith("m: ")]
  assert bill == (
      f"m: {balance.calls} calls, ${spent / 1e6:.2f} spent, at most"
      f" ${sum(unseen) / 1e12:.2f} more for calls whose end was not seen, of"
      " $10.00"
  )


def _assert_kept(run):
  """All that was paid for is in the transcript and in the archive."""
  hidden = [text.replace(KEY, "[key]") for text, _ in run.model.whole]
  entries = transcripts.read(run.transcript)
  _, _, told = _generated(run)
  for kept in (entries, told.values()):
    texts = [e["reply"]["text"] for e in kept if e.get("reply")]
    assert sorted(texts) == sorted(hidden)


def _assert_silent(run):
  """The key is in no file, no output, no question and no child."""
  report = subprocess.run(
      [
          sys.executable,
          str(ROOT / "launch" / "report.py"),
          f"--archive={run.workdir / 'archive.db'}",
          f"--out={run.workdir / 'report'}",
          "--json=-",
      ],
      capture_output=True,
      text=True,
      timeout=200,
      env=_environment(GEMINI_API_KEY=KEY),
  )
  assert report.returncode == 0, report.stderr
  files = [path for path in run.workdir.rglob("*") if path.is_file()]
  written = {"archive.db", choice.TRANSCRIPT, "index.html"}
  assert {path.name for path in files} >= written
  said = [*run[1:3], report.stdout, report.stderr, *run.requests]
  for data in [p.read_bytes() for p in files] + [s.encode() for s in said]:
    assert KEY.encode() not in data
  if sys.platform == "linux":
    assert any(b"JAX_PLATFORMS=cpu" in e for e in run.model.environments)
  assert not any(KEY.encode() in e for e in run.model.environments)


@pytest.mark.slow
def test_a_campaign_with_a_model(finished):
  assert "model m: about 12 calls" in finished.stdout
  children, notes, told = _generated(finished)
  assert [c.name for c in children] == [
      f"way_{way}-{index:03d}" for way, index in zip("ab", (5, 6), strict=True)
  ]
  for child in children:
    assert child.accepted, child.findings
    assert child.mechanisms["operator"] == "agent"
    assert child.mechanisms["engineering"]["standing"] == "agrees"
    assert "A model's reading" in notes[child.id]
  assert len(told) == finished.model.calls == 12
  _assert_exact(finished)
  _assert_kept(finished)
  _assert_silent(finished)


@pytest.mark.slow
@pytest.mark.parametrize("time", ["first", "second"])
def test_it_is_replayed_without_a_network(folder, finished, time):
  again = _replayed(folder, f"{time} replay", finished)
  assert again.digest == finished.digest
  assert not again.transcript.exists()


@pytest.mark.slow
def test_a_third_of_the_replies_may_be_of_no_use(harmed):
  model = harmed.model
  assert not model.faults and model.harmed >= 0.3 * model.calls
  children, notes, told = _generated(harmed)
  assert [c.mechanisms["operator"] for c in children] == 4 * ["agent"]
  assert all(child.accepted for child in children)
  assert all("A model's reading" in notes[child.id] for child in children)
  assert not any("notice" in data for data in told.values())
  _assert_exact(harmed)
  _assert_kept(harmed)
  _assert_silent(harmed)


@pytest.mark.slow
def test_its_faults_are_replayed_too(folder, harmed):
  assert (
      _replayed(folder, "harmed replay", harmed, LONGER).digest == harmed.digest
  )


@pytest.mark.slow
def test_killed_it_pays_for_nothing_twice(folder, finished):
  # In the middle of two calls, and while a candidate of the model is trained.
  model = model_server.Model(kills=(3, 10))
  deaths = ("", "", "way_b-006: train and score")
  run = _live(folder, "killed", model, deaths=deaths)
  assert run.digest == finished.digest
  # Each question is asked once, the two that were cut off once more.
  asked = collections.Counter(run.requests)
  again = collections.Counter([run.requests[3], run.requests[10]])
  assert asked - again == collections.Counter(finished.requests)
  assert model.calls == len(run.requests) == 14 and model.lost == 2
  _assert_exact(run)
  _assert_kept(run)
  _assert_silent(run)


@pytest.mark.slow
def test_the_demonstration_needs_neither_key_nor_network(folder):
  run = _offline(folder, folder / "demo", folder / "demo.py")
  (child,), notes, told = _generated(run)
  assert child.name == "contrast_weight-005"
  assert child.accepted, child.findings
  assert child.mechanisms["engineering"]["standing"] == "agrees"
  assert "A model's reading" in notes[child.id]
  assert sorted(e["request"]["label"] for e in told.values()) == [
      "analysis 005",
      "code 005 0",
      "oracle 005 0 0",
      "plan 005",
      "research 005",
      "screening 005",
  ]
