"""All agents against a server that fails, a record, and a replay of it.

Sources stand for gradients, so nothing is compiled.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import importlib.util
import json
import logging
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from poise_jax.candidates import findings, fingerprint, verification
from poise_jax.discovery.agents import context, team
from poise_jax.discovery.llm import (
    asking,
    client,
    exchange,
    ledger,
    replay,
    transcripts,
)
from poise_jax.discovery.proposer import grammar

_PATH = pathlib.Path(__file__).parents[1] / "llm" / "gemini.py"
_SPEC = importlib.util.spec_from_file_location("gemini", _PATH)
gemini = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gemini)

KEY = "AIza-secret-key-0123456789"
PRICES = {"m": ledger.Price(2.0, 12.0, 0.2)}
SETTINGS = asking.Settings(
    model="m",
    max_output_tokens=1000,
    tries=6,
    repairs=3,
    first_wait=0.001,
    longest_wait=0.01,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
  for name in list(os.environ):
    if name.lower().endswith("_proxy") or name.startswith(("GOOGLE", "GEMINI")):
      monkeypatch.delenv(name)
  monkeypatch.setenv("GEMINI_API_KEY", KEY)


def _packed(slope):
  slopes = np.full((1, 2, 1, 2, 2), slope, np.float32)
  return fingerprint.to_bytes(fingerprint.Fingerprint("s", ("mixed",), slopes))


def _check(source):
  if source != "good":
    finding = findings.contract("scope", "refused", "mend it")
    return verification.Verdict(False, (finding,))
  return verification.Verdict(True, (), fingerprint=_packed(1.0))


def _context(index):
  parent = context.Parent("c-000", "grpo", "HPARAMS = {}\n")
  return context.Context(f"{index:03d}", index, parent)


def _told(proposal):
  """A proposal as an archive holds it."""
  return json.dumps(
      [
          proposal.name,
          proposal.parents,
          proposal.source,
          proposal.rationale,
          proposal.prediction,
          proposal.falsifier,
          proposal.mechanisms,
          proposal.build.ok,
      ],
      sort_keys=True,
  )


def test_a_proposal_has_what_those_of_the_grammar_have():
  fields = {f.name for f in dataclasses.fields(grammar.Proposal)}
  own = {f.name for f in dataclasses.fields(team.Proposal)}
  assert fields - own == {"genome"}


def test_a_proposal_tells_where_it_is_from():
  proposal = team.propose(gemini.Agents().ask, _context(7), _check)
  assert proposal.name == "steady_clip-007" and proposal.parents == ("c-000",)
  assert proposal.source == "good" and proposal.build.ok
  assert proposal.mechanisms["prediction"] == {"overall": 1, "kl": -1}
  assert proposal.mechanisms["operator"] == proposal.operator == "agent"
  assert "a lone success weighs too little" in proposal.rationale
  (other,) = proposal.mechanisms["rejected_ideas"]
  assert other["name"] == "other_way"
  assert proposal.mechanisms["engineering"]["standing"] == "agrees"


def test_a_proposal_that_fails_is_evidence():
  bad = gemini.Agents(sources=["import os"])
  proposal = team.propose(bad.ask, _context(7), _check)
  assert not proposal.build.ok and not proposal.verdict.ok
  assert len(proposal.mechanisms["engineering"]["rounds"]) == 4


def test_nothing_worth_building_is_said():
  with pytest.raises(exchange.AnswerError, match="none of 2 ideas"):
    team.propose(
        gemini.Agents(screening=[gemini.marks(1, 2)]).ask, _context(7), _check
    )


def test_a_failing_model_is_replaced_visibly():
  notices = []

  def failing():
    raise exchange.BudgetError("no money")

  done = team.or_offline(
      failing, lambda: "offline", notices.append, what="candidate 7"
  )
  assert done == "offline"
  assert notices == [team.Notice("candidate 7", "BudgetError", "no money")]
  assert team.or_offline(lambda: 1, failing, notices.append, what="") == 1
  assert len(notices) == 1

  def missing():
    raise exchange.MissError("not there", "d", ())

  with pytest.raises(exchange.MissError):
    team.or_offline(missing, lambda: 1, notices.append, what="")

  def broken():
    raise TypeError("a fault of ours")

  with pytest.raises(TypeError):
    team.or_offline(broken, lambda: 1, notices.append, what="")


class Faulty:
  """Does wrong in 30 % of replies, by what was asked and how often."""

  FAULTS = (
      lambda good: (0.4, good),  # beyond the time that the client waits
      lambda good: gemini.error(429, "RESOURCE_EXHAUSTED"),
      lambda good: gemini.error(500, "INTERNAL", message=f"key {KEY}"),
      lambda good: gemini.CUT,
      lambda good: gemini.ok('{"ideas": ['),
      lambda good: gemini.ok('{"wrong": "schema"}'),
      lambda good: gemini.ok("", finish="MAX_TOKENS"),
      lambda good: (200, "<html>", {}),
      lambda good: gemini.ok(
          json.dumps({"source": f"open('{KEY}')", "notes": ""})
      ),
  )

  def __init__(self, seed, share=0.3):
    self.agents = gemini.Agents()
    self.seed, self.share = seed, share
    self.sent = collections.Counter()
    self.faults = 0

  def __call__(self, request, count):
    good = gemini.ok(json.dumps(self.agents(gemini.asked_for(request))))
    name = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).digest()
    self.sent[name] += 1
    rng = random.Random(f"{self.seed} {name.hex()} {self.sent[name]}")
    if rng.random() >= self.share:
      return good
    self.faults += 1
    return rng.choice(self.FAULTS)(good)


def _campaign(line_ask, count):
  """Proposals one after the other, or the notice that there is none."""
  told = []

  def one(index):
    return _told(team.propose(line_ask, _context(index), _check))

  for index in range(count):
    told.append(
        team.or_offline(
            functools.partial(one, index),
            lambda: "offline",
            told.append,
            what=f"candidate {index}",
        )
    )
  return told


def _open(url, path, budget=5.0, **options):
  endpoint = client.Endpoint(base_url=url, timeout_seconds=0.25)
  return team.live(
      endpoint, SETTINGS, path, budget=budget, prices=PRICES, **options
  )


@pytest.mark.parametrize("seed", [0, 1])
def test_a_faulty_model_a_record_and_its_replay(
    tmp_path, caplog, monkeypatch, seed
):
  caplog.set_level(logging.DEBUG)
  path, faulty = tmp_path / "t.jsonl", Faulty(seed)
  with gemini.Server(faulty).running() as server:
    archived = []
    with _open(server.url, path, note=archived.append) as line:
      told = _campaign(line.ask, 6)
      balance = line.ledger.balance
    received = len(server.requests)
  assert faulty.faults >= 5
  assert sum(isinstance(t, str) and t != "offline" for t in told) >= 4

  # The ledger is exact, and so is one that starts from the record.
  entries = transcripts.read(path)
  ended = [e for e in entries if e["kind"] == "ended"]
  sent = [e for e in entries if e["kind"] == "sent"]
  assert len(sent) == len(ended) == received == balance.calls
  usage = exchange.Usage(prompt=120, cached=0, output=80, thoughts=40)
  counted = [e for e in ended if e.get("reply", {}).get("usage")]
  assert balance.replies == len(counted)
  assert balance.spent == len(counted) * ledger.cost(PRICES["m"], usage)
  # Only what broke off, or came without a count, is uncertain.
  unclear = [
      s["reserved"]
      for s, e in zip(sent, ended, strict=True)
      if "failure" in e and e["failure"]["maybe_billed"]
  ]
  assert balance.uncertain == sum(unclear) and balance.reserved == 0
  assert ledger.tally(entries) == balance

  # No key anywhere.
  assert KEY not in path.read_text("utf-8") and KEY not in caplog.text
  assert KEY not in json.dumps([told, archived])

  # The record says it again, twice, without a network.
  def refuse(*_, **__):
    raise AssertionError("a replay opened a socket")

  monkeypatch.setattr(socket, "socket", refuse)
  monkeypatch.setattr(socket, "create_connection", refuse)
  monkeypatch.delenv("GEMINI_API_KEY")
  assert [a["exchange"] for a in archived] == [e["exchange"] for e in sent]
  for _ in range(2):
    again = []
    ask = team.replayed(path, SETTINGS, note=again.append)
    assert _campaign(ask, 6) == told and again == archived
  with pytest.raises(exchange.MissError, match="no 'research 006'"):
    _campaign(asking.asker(replay.load(path), SETTINGS), 7)


def test_a_record_goes_on_without_paying_again(tmp_path):
  path = tmp_path / "t.jsonl"
  with gemini.Server(gemini.Agents().answer).running() as server:
    with _open(server.url, path) as line:
      first = _campaign(line.ask, 2)
      paid = line.ledger.balance
    requests = len(server.requests)
    with _open(server.url, path) as line:
      assert line.ledger.balance == paid
      again = _campaign(line.ask, 3)
    assert again[:2] == first
    assert len(server.requests) == requests + requests // 2


def test_a_budget_ends_the_model_not_the_campaign(tmp_path):
  path = tmp_path / "t.jsonl"
  with gemini.Server(gemini.Agents().answer).running() as server:
    with _open(server.url, path, budget=0.08) as line:
      told = _campaign(line.ask, 6)
      balance = line.ledger.balance
  assert told[-1] == "offline" and told[0] != "offline"
  notice = next(t for t in told if isinstance(t, team.Notice))
  assert notice.kind == "BudgetError" and "$" in notice.message
  assert ledger.dollars(balance.committed) <= 0.08
  # The replay runs out of money at the same place.
  ask = asking.asker(replay.load(path), SETTINGS)
  assert _campaign(ask, 6) == told


def test_threads_never_spend_more_than_there_is(tmp_path):
  path = tmp_path / "t.jsonl"
  budget = 0.15
  answer = gemini.ok(json.dumps(gemini.PLAN), prompt=900, output=900)
  with gemini.Server(lambda *_: (0.01, answer)).running() as server:
    with _open(server.url, path, budget=budget) as line:

      def one(i):
        try:
          line.ask(
              asking.Prompt(f"plan {i}", "", f"{i} " + "x" * 600),
              team.engineering.Plan,
          )
          return True
        except exchange.BudgetError:
          return False

      with concurrent.futures.ThreadPoolExecutor(8) as pool:
        done = list(pool.map(one, range(30)))
      balance = line.ledger.balance
    # What the server would bill: 900 tokens in, 940 out each.
    bill = len(server.requests) * (900 * 2 + 940 * 12) / 1e6
  assert any(done) and not all(done)
  assert bill == pytest.approx(ledger.dollars(balance.spent))
  assert bill <= budget
  # And all was used but for what one call might have cost.
  assert budget - bill < 0.02


_KILLED = """
import json, sys
sys.path.insert(0, sys.argv[3])
import agents_test as t
with t._open(sys.argv[1], sys.argv[2]) as line:
  for told in t._campaign(line.ask, 3):
    print("told", flush=True)
"""


@pytest.mark.slow
def test_killed_and_continued_it_pays_only_for_what_was_in_flight(tmp_path):
  path = tmp_path / "t.jsonl"
  model = gemini.Agents()
  slow = lambda request, count: (0.1, model.answer(request, count))  # noqa: E731
  with gemini.Server(slow).running() as server:
    child = subprocess.Popen(
        [sys.executable, "-c", _KILLED, server.url, path, _PATH.parent],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )
    deadline = time.monotonic() + 120
    while len(server.requests) < 7 and time.monotonic() < deadline:
      time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    time.sleep(0.3)
    before = transcripts.read(path)
    with _open(server.url, path) as line:
      told = _campaign(line.ask, 3)
      balance = line.ledger.balance
    # Three candidates of five calls; one call was cut off and made again.
    assert len(server.requests) <= 16 and "offline" not in told
  entries = transcripts.read(path)
  assert entries[: len(before)] == before
  assert balance == ledger.tally(entries)
  ask = asking.asker(replay.load(path), SETTINGS)
  assert _campaign(ask, 3) == told


def test_a_plan_knows_what_it_may_cost():
  forecast = team.forecast(20)
  assert forecast.calls == 120
  price = ledger.PRICES["gemini-3-pro-preview"]
  assert forecast.dollars(price) == pytest.approx(120 * (0.018 + 0.084))


def test_the_price_must_be_known_before_anything_is_paid(tmp_path):
  with pytest.raises(ValueError, match="must hold the model 'other'"):
    with team.live(
        client.Endpoint(),
        dataclasses.replace(SETTINGS, model="other"),
        tmp_path / "t.jsonl",
        budget=1.0,
    ):
      pass
