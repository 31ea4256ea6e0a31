"""Calls to a model that are paid for once, and kept.

Each attempt leaves two entries, one before it is sent and one when it ended:

    sent     exchange, request, reserved
    ended    exchange, reply or failure, paid, uncertain

and one that the budget did not allow leaves

    refused  exchange, request, message

for a replay to come to the same end. `exchange` is the name of the request; money is in picodollars. What was
answered once is not asked again: a search that was killed goes on from its
record. A failure that may pass is found again too, and leads to the attempt
that followed it; one that is final is tried again, as somebody may have mended
its cause.
"""

from collections.abc import Callable, Iterable, Mapping
import threading
from typing import Any

from poise_jax.archive import records
from poise_jax.discovery.llm import exchange as exchange_lib
from poise_jax.discovery.llm import ledger as ledger_lib

Keep = Callable[[Mapping[str, Any]], None]


def recorded(
    send: exchange_lib.Send,
    keep: Keep,
    ledger: ledger_lib.Ledger,
    *,
    entries: Iterable[Mapping[str, Any]] = (),
) -> exchange_lib.Send:
  """Makes calls that are kept and counted.

  Args:
    send: makes one call, such as that of `client.connected`.
    keep: stores an entry for good before it returns; what it raises ends the
      call.
    ledger: of the campaign, which knows of `entries` already.
    entries: what was kept before.

  Returns:
    The same calls, for any number of threads.
  """
  known = ended(entries)
  locks: dict[str, threading.Lock] = {}
  guard = threading.Lock()

  def call(request: exchange_lib.Request) -> exchange_lib.Reply:
    with guard:
      lock = locks.setdefault(request.digest, threading.Lock())
    with lock:  # equal requests at the same time are one
      entry = known.get(request.digest)
      if entry is None or _is_final_failure(entry):
        entry = _exchange(send, keep, ledger, request)
        known[request.digest] = entry
        if "failure" in entry:
          raise _fresh(entry)
    return outcome(entry)

  return call


def witnessed(send: exchange_lib.Send, note: Keep) -> exchange_lib.Send:
  """Tells of every exchange before its outcome is used; for an archive.

  Args:
    send: live and recorded, or replayed: what is told is the same.
    note: is given `exchange`, `request` and one of `reply`, `failure` and
      `refused`, without any reading of a clock; once for each exchange, and
      again when a search that was cut off comes by it again.

  Returns:
    The same calls.
  """
  told: set[str] = set()

  def call(request: exchange_lib.Request) -> exchange_lib.Reply:
    caught: exchange_lib.LlmError | None = None
    reply: exchange_lib.Reply | None = None
    said: dict[str, Any]
    try:
      reply = send(request)
      said = {"reply": reply.to_json()}
    except exchange_lib.CallError as error:
      caught, said = error, {"failure": error.to_json()}
    except exchange_lib.BudgetError as error:
      caught, said = error, {"refused": str(error)}
    if request.digest not in told:
      exchange = {"exchange": request.digest, "request": request.to_json()}
      note(exchange | said)
      told.add(request.digest)
    if caught is not None:
      raise caught
    return reply

  return call


def ended(
    entries: Iterable[Mapping[str, Any]],
) -> dict[str, Mapping[str, Any]]:
  """Name of a request -> how it ended last."""
  return {e["exchange"]: e for e in entries if e["kind"] == "ended"}


def outcome(entry: Mapping[str, Any]) -> exchange_lib.Reply:
  """Gives the reply of an exchange that ended.

  Raises:
    exchange.CallError: the failure, if it ended with one.
  """
  if "failure" in entry:
    raise exchange_lib.failure_from_json(entry["failure"])
  return exchange_lib.reply_from_json(entry["reply"])


def _is_final_failure(entry: Mapping[str, Any]) -> bool:
  return "failure" in entry and not entry["failure"]["transient"]


def _fresh(entry: Mapping[str, Any]) -> exchange_lib.CallError:
  """A failure that just happened: whoever tries again should wait."""
  error = exchange_lib.failure_from_json(entry["failure"])
  error.replayed = False
  return error


def _exchange(
    send: exchange_lib.Send,
    keep: Keep,
    ledger: ledger_lib.Ledger,
    request: exchange_lib.Request,
) -> dict[str, Any]:
  """Makes one call and keeps what came of it."""
  reserved = _reserve(keep, ledger, request)
  paid, uncertain, usage = 0, reserved, None
  try:
    keep(
        {
            "kind": "sent",
            "exchange": request.digest,
            "request": request.to_json(),
            "reserved": reserved,
            "sent_at": records.now().isoformat(),
        }
    )
    try:
      reply = send(request)
    except exchange_lib.CallError as error:
      uncertain = reserved if error.maybe_billed else 0
      said = {"failure": error.to_json()}
    else:
      usage = reply.usage
      if usage is not None:
        paid = ledger_lib.cost(ledger.price(request.model), usage)
        uncertain = 0
      said = {"reply": reply.to_json()}
    entry = {
        "kind": "ended",
        "exchange": request.digest,
        **said,
        "paid": paid,
        "uncertain": uncertain,
        "ended_at": records.now().isoformat(),
    }
    keep(entry)
    return entry
  finally:
    ledger.settle(reserved, paid=paid, uncertain=uncertain, usage=usage)


def _reserve(
    keep: Keep, ledger: ledger_lib.Ledger, request: exchange_lib.Request
) -> int:
  """Sets money aside; keeps that there is too little."""
  try:
    return ledger.reserve(request)
  except exchange_lib.BudgetError as error:
    keep(
        {
            "kind": "refused",
            "exchange": request.digest,
            "request": request.to_json(),
            "message": str(error),
            "refused_at": records.now().isoformat(),
        }
    )
    raise
