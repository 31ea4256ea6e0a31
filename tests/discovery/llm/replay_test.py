"""A record says the same again, and says what it lacks."""

import dataclasses
import socket

import pytest

from poise_jax.discovery.llm import (
    exchange,
    ledger,
    recording,
    replay,
    transcripts,
)

PRICES = {"m": ledger.Price(1.0, 10.0)}
REQUEST = exchange.Request(
    label="research 001",
    model="m",
    system="",
    messages=(exchange.Message("user", "x"),),
    schema={},
    temperature=1.0,
    max_output_tokens=1000,
)
SECOND = dataclasses.replace(REQUEST, attempt=1)
REPLY = exchange.Reply("{}", "STOP", exchange.Usage(1, 0, 1, 0), "m-1")


def _send(request):
  if request.attempt == 0:
    raise exchange.CallError("busy", code=429, transient=True)
  return REPLY


@pytest.fixture
def path(tmp_path):
  path = tmp_path / "t.jsonl"
  with transcripts.opened(path) as transcript:
    call = recording.recorded(
        _send, transcript.append, ledger.Ledger(1.0, prices=PRICES)
    )
    with pytest.raises(exchange.CallError):
      call(REQUEST)
    call(SECOND)
  return path


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
  def refuse(*_, **__):
    raise AssertionError("a replay opened a socket")

  monkeypatch.setattr(socket, "socket", refuse)
  monkeypatch.setattr(socket, "create_connection", refuse)


def test_failures_and_replies_come_again(path):
  for _ in range(2):
    send = replay.load(path)
    for _ in range(2):
      with pytest.raises(exchange.CallError, match="busy") as error:
        send(REQUEST)
      assert error.value.replayed and error.value.code == 429
      assert send(SECOND) == REPLY


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"temperature": 0.5},
        {"messages": (exchange.Message("user", "y"),)},
        {"attempt": 2},
        {"schema": {"type": "array"}},
    ],
)
def test_a_miss_says_what_is_missing(path, change):
  send = replay.load(path)
  asked = dataclasses.replace(SECOND, **change)
  with pytest.raises(exchange.MissError) as error:
    send(asked)
  assert error.value.digest == asked.digest
  assert error.value.differing == tuple(change)
  assert f"another {next(iter(change))};" in str(error.value)
  assert "'research 001'" in str(error.value)


def test_an_exchange_that_did_not_end_is_a_miss_of_its_own():
  entry = {
      "kind": "sent",
      "exchange": REQUEST.digest,
      "request": REQUEST.to_json(),
      "reserved": 1,
  }
  with pytest.raises(exchange.MissError, match="was sent, not what came"):
    replay.replay([entry])(REQUEST)


def test_an_empty_record_has_nothing():
  with pytest.raises(exchange.MissError, match="the record is empty"):
    replay.replay([])(REQUEST)


def test_lack_of_money_comes_again():
  entry = {
      "kind": "refused",
      "exchange": REQUEST.digest,
      "request": REQUEST.to_json(),
      "message": "too dear",
  }
  with pytest.raises(exchange.BudgetError, match="too dear"):
    replay.replay([entry])(REQUEST)


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(FileNotFoundError):
    replay.load(tmp_path / "none.jsonl")
