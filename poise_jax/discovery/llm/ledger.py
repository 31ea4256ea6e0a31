"""What calls to a model cost, and a budget that they cannot break.

Money is counted in whole picodollars, so sums are exact: a price of d dollars
for a million tokens is 10⁶ d picodollars for a token. Before a call is made the
most that it can cost is set aside,

    bound = bytes of the request · input price + longest reply · output price,

as no token is shorter than a byte and servers stop at the limit on the reply.
A call is made only if what was spent, what is set aside for calls in flight
and its own bound fit the budget together; it waits while others in flight may
still give back.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import threading
from typing import Any, NamedTuple

from poise_jax.archive import records
from poise_jax.discovery.llm import exchange

_PER_DOLLAR = 10**12
# Longer prompts have a price of their own.
_LONG_PROMPT = 200_000
# What the server adds to the text: roles, ends of turns.
_FRAMING = 16


class Price(NamedTuple):
  """Dollars for a million tokens.

  Attributes:
    prompt: of the request.
    output: of reply and thoughts.
    cached: of the request, where the server knew it already; as `prompt` if
      None.
    long_prompt: as `prompt`, for requests of more than 200,000 tokens.
    long_output: as `output`, for these.
  """

  prompt: float
  output: float
  cached: float | None = None
  long_prompt: float | None = None
  long_output: float | None = None


# List prices as known in March 2026; they change, so a configuration may name
# others.
PRICES: Mapping[str, Price] = {
    "gemini-3-pro-preview": Price(2.0, 12.0, None, 4.0, 18.0),
    "gemini-2.5-pro": Price(1.25, 10.0, None, 2.5, 15.0),
    "gemini-2.5-flash": Price(0.30, 2.50),
    "gemini-2.5-flash-lite": Price(0.10, 0.40),
}


class Balance(NamedTuple):
  """What was paid, in picodollars, and for what.

  Attributes:
    spent: for replies, by the tokens that the server counted.
    uncertain: at most, for calls whose end was not seen.
    reserved: set aside for calls in flight.
    calls: that were sent.
    replies: that came.
    usage: tokens of all replies.
  """

  spent: int = 0
  uncertain: int = 0
  reserved: int = 0
  calls: int = 0
  replies: int = 0
  usage: exchange.Usage = exchange.Usage()

  @property
  def committed(self) -> int:
    """What the budget must cover."""
    return self.spent + self.uncertain + self.reserved


def dollars(picodollars: int) -> float:
  """Money for people."""
  return picodollars / _PER_DOLLAR


def cost(price: Price, usage: exchange.Usage) -> int:
  """What a reply costs, in picodollars."""
  is_long = usage.prompt > _LONG_PROMPT
  prompt, output = _rates(price, is_long)
  cached = prompt if price.cached is None else _rate(price.cached)
  known = min(usage.cached, usage.prompt)
  return (
      (usage.prompt - known) * prompt
      + known * cached
      + (usage.output + usage.thoughts) * output
  )


def bound(price: Price, request: exchange.Request) -> int:
  """The most that a call can cost, in picodollars."""
  texts = [request.system, records.canonical_json(dict(request.schema))]
  texts += [message.text for message in request.messages]
  tokens = sum(len(t.encode("utf-8", "replace")) + _FRAMING for t in texts)
  prompt, output = _rates(price, tokens > _LONG_PROMPT)
  return tokens * prompt + request.max_output_tokens * output


def _rates(price: Price, is_long: bool) -> tuple[int, int]:
  """Picodollars for a token of prompt, of output."""
  prompt, output = price.prompt, price.output
  if is_long:
    prompt = prompt if price.long_prompt is None else price.long_prompt
    output = output if price.long_output is None else price.long_output
  return _rate(prompt), _rate(output)


def _rate(per_million: float) -> int:
  return round(per_million * _PER_DOLLAR / 10**6)


class Ledger:
  """Counts tokens and money; for any number of threads."""

  def __init__(
      self,
      budget: float,
      *,
      prices: Mapping[str, Price] = PRICES,
      entries: Iterable[Mapping[str, Any]] = (),
  ) -> None:
    """Goes on from what a transcript says.

    Args:
      budget: dollars for the whole campaign, those of `entries` included.
      prices: by name of the model.
      entries: of a transcript; a call without an end counts with its bound.

    Raises:
      ValueError: if the budget is not a number from 0.
    """
    if not 0 <= budget < float("inf"):
      raise ValueError(
          f"`budget` must be a number of dollars from 0, got {budget}"
      )
    self.budget = round(budget * _PER_DOLLAR)
    self._prices = prices
    self._balance = tally(entries)
    self._changed = threading.Condition()

  @property
  def balance(self) -> Balance:
    """How things stand."""
    with self._changed:
      return self._balance

  def price(self, model: str) -> Price:
    """The price of a model.

    Raises:
      ValueError: if it is not known.
    """
    if model not in self._prices:
      raise ValueError(
          f"`prices` must hold the model {model!r}, it holds"
          f" {', '.join(sorted(self._prices))}; without a price no budget can"
          " be kept: name one in the configuration (0 for a server of your own)"
      )
    return self._prices[model]

  def reserve(self, request: exchange.Request) -> int:
    """Sets aside what a call can cost, once it fits.

    Returns:
      What was set aside, to be handed to `settle`.

    Raises:
      exchange.BudgetError: if it does not fit although nothing is in
        flight.
    """
    most = bound(self.price(request.model), request)
    with self._changed:
      self._changed.wait_for(
          lambda: self._fits(most) or not self._balance.reserved
      )
      if not self._fits(most):
        raise exchange.BudgetError(
            f"the call {request.label!r} may cost ${dollars(most):.4f}, and"
            f" ${dollars(self.budget - self._balance.committed):.4f} of"
            f" ${dollars(self.budget):.2f} are left; raise the budget, or lower"
            " `max_output_tokens`"
        )
      held = self._balance
      self._balance = held._replace(
          reserved=held.reserved + most, calls=held.calls + 1
      )
    return most

  def _fits(self, most: int) -> bool:
    return self._balance.committed + most <= self.budget

  def settle(
      self,
      reserved: int,
      *,
      paid: int = 0,
      uncertain: int = 0,
      usage: exchange.Usage | None = None,
  ) -> None:
    """Ends a call: gives back what was set aside, counts what it cost."""
    with self._changed:
      held = self._balance
      self._balance = held._replace(
          spent=held.spent + paid,
          uncertain=held.uncertain + uncertain,
          reserved=held.reserved - reserved,
          replies=held.replies + (usage is not None),
          usage=_sum(held.usage, usage or exchange.Usage()),
      )
      self._changed.notify_all()


def tally(entries: Iterable[Mapping[str, Any]]) -> Balance:
  """Sums up a transcript; see `recording` for its entries."""
  balance = Balance()
  unended: dict[str, list[int]] = {}
  for entry in entries:
    name = entry["exchange"]
    if entry["kind"] == "refused":
      continue
    if entry["kind"] == "sent":
      unended.setdefault(name, []).append(entry["reserved"])
      balance = balance._replace(calls=balance.calls + 1)
      continue
    # The last one sent is the one that ended: earlier ones were cut off.
    if unended.get(name):
      unended[name].pop()
    usage = (entry.get("reply") or {}).get("usage")
    balance = balance._replace(
        spent=balance.spent + entry["paid"],
        uncertain=balance.uncertain + entry["uncertain"],
        replies=balance.replies + (usage is not None),
        usage=_sum(balance.usage, exchange.Usage(**(usage or {}))),
    )
  lost = sum(sum(bounds) for bounds in unended.values())
  return balance._replace(uncertain=balance.uncertain + lost)


def _sum(one: exchange.Usage, other: exchange.Usage) -> exchange.Usage:
  return exchange.Usage(*map(sum, zip(one, other, strict=True)))


@dataclasses.dataclass(frozen=True)
class Forecast:
  """Tokens that a campaign is expected to use, for its plan.

  Attributes:
    calls: to the model.
    prompt_tokens: of a call.
    output_tokens: of a call, thoughts included.
  """

  calls: int
  prompt_tokens: int
  output_tokens: int

  def dollars(self, price: Price) -> float:
    """What it would cost."""
    usage = exchange.Usage(self.prompt_tokens, 0, self.output_tokens)
    return dollars(self.calls * cost(price, usage))
