"""Money: exact sums, and a budget that threads cannot break."""

import concurrent.futures
import dataclasses
import random
import threading
import time

import pytest

from poise_jax.discovery.llm import exchange
from poise_jax.discovery.llm import ledger as ledger_lib

PRICE = ledger_lib.Price(2.0, 12.0, 0.2, 4.0, 18.0)
REQUEST = exchange.Request(
    label="research 001",
    model="m",
    system="",
    messages=(exchange.Message("user", "x" * 967),),
    schema={},
    temperature=1.0,
    max_output_tokens=1000,
)


def test_cost_by_hand():
  # 700 fresh at 2, 300 cached at 0.2, 50 + 150 out at 12 dollars a million.
  usage = exchange.Usage(prompt=1000, cached=300, output=50, thoughts=150)
  assert ledger_lib.cost(PRICE, usage) == (700 * 2 + 60 + 200 * 12) * 10**6
  assert ledger_lib.dollars(ledger_lib.cost(PRICE, usage)) == 0.00386
  # Beyond 200,000 tokens of prompt both prices are others.
  usage = exchange.Usage(prompt=200_001, output=1)
  assert ledger_lib.cost(PRICE, usage) == (200_001 * 4 + 18) * 10**6
  # A server that counts more cached than there is cannot make it negative.
  usage = exchange.Usage(prompt=10, cached=99)
  assert ledger_lib.cost(PRICE, usage) == 10 * 200_000


def test_prices_below_a_cent_are_exact():
  price = ledger_lib.Price(0.075, 0.30)
  paid = ledger_lib.cost(price, exchange.Usage(prompt=1))
  assert paid == 75_000 and 10**6 * paid == 75 * 10**9


def test_bound_by_hand():
  # "" and "{}" and 967 bytes, 16 around each: 969 + 48 tokens at most.
  assert ledger_lib.bound(PRICE, REQUEST) == (1017 * 2 + 1000 * 12) * 10**6
  umlaut = dataclasses.replace(
      REQUEST, messages=(exchange.Message("user", "ü" * 967),)
  )
  assert ledger_lib.bound(PRICE, umlaut) == (1984 * 2 + 12_000) * 10**6


@pytest.mark.parametrize("budget", [-1.0, float("nan"), float("inf")])
def test_a_budget_is_a_number(budget):
  with pytest.raises(ValueError, match="`budget` must be a number"):
    ledger_lib.Ledger(budget)


def test_a_model_without_a_price_is_an_error():
  ledger = ledger_lib.Ledger(1.0, prices={"n": PRICE})
  with pytest.raises(ValueError, match="must hold the model 'm', it holds n"):
    ledger.reserve(REQUEST)


def test_the_next_call_must_fit():
  most = ledger_lib.bound(PRICE, REQUEST)
  ledger = ledger_lib.Ledger(
      1.5 * ledger_lib.dollars(most), prices={"m": PRICE}
  )
  held = ledger.reserve(REQUEST)
  assert ledger.balance.reserved == held == most
  usage = exchange.Usage(prompt=1000, output=1000)
  ledger.settle(held, paid=ledger_lib.cost(PRICE, usage), usage=usage)
  assert ledger.balance == ledger_lib.Balance(
      spent=14 * 10**9, calls=1, replies=1, usage=usage
  )
  with pytest.raises(exchange.BudgetError, match=r"'research 001' may cost"):
    ledger.reserve(REQUEST)
  assert ledger.balance.calls == 1 and ledger.balance.reserved == 0


def test_no_money_means_no_call():
  ledger = ledger_lib.Ledger(0.0, prices={"m": PRICE})
  with pytest.raises(exchange.BudgetError):
    ledger.reserve(REQUEST)


def test_a_call_waits_for_what_others_give_back():
  most = ledger_lib.bound(PRICE, REQUEST)
  ledger = ledger_lib.Ledger(
      1.5 * ledger_lib.dollars(most), prices={"m": PRICE}
  )
  first = ledger.reserve(REQUEST)
  waiting = threading.Thread(target=ledger.reserve, args=(REQUEST,))
  waiting.start()
  time.sleep(0.05)
  assert waiting.is_alive() and ledger.balance.calls == 1
  ledger.settle(first)
  waiting.join(10)
  assert not waiting.is_alive() and ledger.balance.calls == 2


@pytest.mark.parametrize("seed", range(3))
def test_threads_never_break_the_budget(seed):
  rng = random.Random(seed)
  most = ledger_lib.bound(PRICE, REQUEST)
  ledger = ledger_lib.Ledger(
      12.3 * ledger_lib.dollars(most), prices={"m": PRICE}
  )
  plans = [(rng.random(), rng.random() < 0.2) for _ in range(80)]
  seen, refused = [], []

  def one(plan):
    share, uncertain = plan
    try:
      held = ledger.reserve(REQUEST)
    except exchange.BudgetError:
      refused.append(plan)
      return 0
    seen.append(ledger.balance.committed)
    time.sleep(0.001 * share)
    paid = int(share * most)
    if uncertain:
      ledger.settle(held, uncertain=held)
      return held
    ledger.settle(held, paid=paid, usage=exchange.Usage())
    return paid

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    total = sum(pool.map(one, plans))
  assert max(seen) <= ledger.budget and refused
  assert ledger.balance.committed == total <= ledger.budget
  # What is left would not have paid for one more.
  assert ledger.budget - total < most and ledger.balance.reserved == 0


def _sent(name, reserved):
  return {"kind": "sent", "exchange": name, "reserved": reserved}


def _ended(name, paid, uncertain=0, usage=None):
  entry = {"kind": "ended", "exchange": name, "paid": paid}
  reply = {"reply": {"usage": usage and usage._asdict()}}
  return entry | {"uncertain": uncertain} | reply


def test_a_transcript_tells_how_things_stand():
  usage = exchange.Usage(5, 0, 6, 7)
  entries = [
      _sent("a", 100),  # the machine died before it ended
      _sent("a", 100),
      _ended("a", 60, usage=usage),
      _sent("b", 50),
      _ended("b", 0, uncertain=50),
      {"kind": "refused", "exchange": "d", "message": "too dear"},
      _sent("c", 7),  # never ended
  ]
  balance = ledger_lib.tally(entries)
  assert balance == ledger_lib.Balance(60, 157, 0, 4, 1, usage)
  ledger = ledger_lib.Ledger(1.0, entries=entries)
  assert ledger.balance == balance


def test_a_forecast_is_a_product():
  forecast = ledger_lib.Forecast(10, 9_000, 7_000)
  assert forecast.dollars(PRICE) == pytest.approx(10 * (0.018 + 0.084))


def test_the_default_model_has_a_price():
  assert "gemini-3-pro-preview" in ledger_lib.PRICES
  for price in ledger_lib.PRICES.values():
    assert 0 < price.prompt < price.output
