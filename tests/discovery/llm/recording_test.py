"""Calls that are paid for once: on the record before they are used."""

import concurrent.futures
import dataclasses
import threading

import pytest

from poise_jax.discovery.llm import exchange, recording
from poise_jax.discovery.llm import ledger as ledger_lib

PRICES = {"m": ledger_lib.Price(1.0, 10.0)}
USAGE = exchange.Usage(100, 0, 50, 50)
REQUEST = exchange.Request(
    label="research 001",
    model="m",
    system="",
    messages=(exchange.Message("user", "x"),),
    schema={},
    temperature=1.0,
    max_output_tokens=1000,
)
REPLY = exchange.Reply("{}", "STOP", USAGE)


def _recorded(send, entries=(), budget=1.0):
  kept = list(entries)
  ledger = ledger_lib.Ledger(budget, prices=PRICES, entries=kept)
  call = recording.recorded(send, kept.append, ledger, entries=tuple(kept))
  return call, kept, ledger


def _failing(*errors):
  left = list(errors)

  def send(request):
    if left:
      raise left.pop(0)
    return REPLY

  return send


def test_a_call_is_kept_before_and_after():
  seen = []
  call, kept, ledger = _recorded(
      lambda request: seen.append((request, [*kept])) or REPLY
  )
  assert call(REQUEST) == REPLY
  ((sent_request, on_record),) = seen
  assert sent_request == REQUEST
  assert [e["kind"] for e in on_record] == ["sent"]
  assert on_record[0]["request"] == REQUEST.to_json()
  assert [e["kind"] for e in kept] == ["sent", "ended"]
  assert kept[1]["reply"] == REPLY.to_json()
  # 100 at 1 and 100 at 10 dollars a million.
  assert kept[1]["paid"] == ledger.balance.spent == 1100 * 10**6
  assert ledger.balance.reserved == 0 and ledger.balance.usage == USAGE


def test_what_was_answered_is_not_paid_for_again():
  count = []
  call, kept, _ = _recorded(lambda r: count.append(r) or REPLY)
  assert call(REQUEST) == call(REQUEST) == REPLY
  again, also_kept, ledger = _recorded(_never, kept)
  assert again(REQUEST) == REPLY
  assert len(count) == 1 and also_kept == kept
  assert ledger.balance.spent == 1100 * 10**6


def _never(request):
  raise AssertionError(f"sent {request.label}")


def test_a_failure_that_passes_is_found_again():
  busy = exchange.CallError("busy", code=429, transient=True)
  call, kept, ledger = _recorded(_failing(busy))
  with pytest.raises(exchange.CallError) as first:
    call(REQUEST)
  assert not first.value.replayed
  assert ledger.balance.committed == 0  # nobody pays for a refusal
  again, _, _ = _recorded(_never, kept)
  with pytest.raises(exchange.CallError, match="busy") as second:
    again(REQUEST)
  assert second.value.replayed
  assert call(dataclasses.replace(REQUEST, attempt=1)) == REPLY


def test_a_final_failure_is_tried_again():
  call, kept, _ = _recorded(_failing(exchange.CallError("bad key")))
  with pytest.raises(exchange.CallError, match="bad key"):
    call(REQUEST)
  again, _, _ = _recorded(_failing(), kept)
  assert again(REQUEST) == REPLY


def test_a_call_whose_end_is_unknown_counts_in_full():
  cut = exchange.CallError("cut", transient=True, maybe_billed=True)
  call, kept, ledger = _recorded(_failing(cut))
  with pytest.raises(exchange.CallError):
    call(REQUEST)
  most = ledger_lib.bound(PRICES["m"], REQUEST)
  assert ledger.balance.uncertain == kept[1]["uncertain"] == most
  assert ledger_lib.tally(kept) == ledger.balance
  # So does a reply without a count of tokens.
  uncounted = dataclasses.replace(REPLY, usage=None)
  call, kept, ledger = _recorded(lambda r: uncounted)
  assert call(REQUEST) == uncounted
  assert ledger.balance.uncertain == most and ledger.balance.spent == 0
  assert ledger_lib.tally(kept) == ledger.balance


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_call_counts_in_full(error):
  def send(request):
    raise error

  call, kept, ledger = _recorded(send)
  with pytest.raises(error):
    call(REQUEST)
  assert [e["kind"] for e in kept] == ["sent"]
  assert ledger.balance.reserved == 0
  assert ledger.balance.uncertain == ledger_lib.bound(PRICES["m"], REQUEST)
  assert ledger_lib.tally(kept) == ledger.balance


def test_nothing_is_sent_that_could_not_be_kept():
  def keep(entry):
    raise OSError("disk full")

  ledger = ledger_lib.Ledger(1.0, prices=PRICES)
  call = recording.recorded(_never, keep, ledger)
  with pytest.raises(OSError, match="disk full"):
    call(REQUEST)
  assert ledger.balance.reserved == 0


def test_too_little_money_is_kept_too():
  call, kept, ledger = _recorded(_never, budget=0.0)
  with pytest.raises(exchange.BudgetError) as error:
    call(REQUEST)
  assert [e["kind"] for e in kept] == ["refused"]
  assert kept[0]["message"] == str(error.value)
  assert ledger_lib.tally(kept) == ledger.balance == ledger_lib.Balance()
  again, _, _ = _recorded(_failing(), kept, budget=1.0)
  assert again(REQUEST) == REPLY  # with more money it is made


def test_equal_requests_at_the_same_time_are_one():
  count, gate = [], threading.Barrier(4)

  def send(request):
    count.append(request)
    return dataclasses.replace(REPLY, text=str(len(count)))

  call, kept, _ = _recorded(send)

  def one(_):
    gate.wait()
    return call(REQUEST)

  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    replies = set(pool.map(one, range(4)))
  assert len(count) == 1 and len(replies) == 1 and len(kept) == 2


def test_an_archive_is_told_once_and_before_use():
  busy = exchange.CallError("busy", transient=True)
  broke = exchange.BudgetError("no money")
  order = []
  call = recording.witnessed(_failing(busy, broke), order.append)
  requests = [dataclasses.replace(REQUEST, attempt=i) for i in range(3)]
  for request, kind in zip(requests, (type(busy), type(broke)), strict=False):
    with pytest.raises(kind):
      call(request)
  assert call(requests[2]) == call(requests[2]) == REPLY
  assert [e["exchange"] for e in order] == [r.digest for r in requests]
  assert order[0]["failure"]["message"] == "busy"
  assert order[1]["refused"] == "no money"
  assert order[2]["reply"] == REPLY.to_json()
  assert order[2]["request"] == requests[2].to_json()

  def full(entry):
    raise OSError("disk full")

  with pytest.raises(OSError, match="disk full"):
    recording.witnessed(lambda r: REPLY, full)(REQUEST)
