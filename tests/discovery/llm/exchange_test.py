"""Names of requests, and values that survive being stored."""

import dataclasses
import json

from poise_jax.discovery.llm import exchange

REQUEST = exchange.Request(
    label="research 001",
    model="m",
    system="be brief",
    messages=(exchange.Message("user", "why ü?"),),
    schema={"type": "object"},
    temperature=1.0,
    max_output_tokens=10,
)


def test_the_name_tells_apart_all_that_a_reply_depends_on():
  changes = {
      "model": "n",
      "system": "",
      "messages": (exchange.Message("user", "why u?"),),
      "schema": {"type": "array"},
      "temperature": 0.0,
      "max_output_tokens": 11,
      "thinking_level": "low",
      "attempt": 1,
      "label": "research 002",
  }
  assert changes.keys() == {
      f.name for f in dataclasses.fields(exchange.Request)
  }
  digests = {
      dataclasses.replace(REQUEST, **{k: v}).digest for k, v in changes.items()
  }
  assert len(digests) == len(changes) and REQUEST.digest not in digests
  assert dataclasses.replace(REQUEST).digest == REQUEST.digest


def test_values_survive_json():
  def stored(value):
    return json.loads(json.dumps(value))

  assert stored(REQUEST.to_json()) == REQUEST.to_json()
  for usage in (exchange.Usage(4, 1, 2, 3), None):
    reply = exchange.Reply("{}", "STOP", usage, "m-001")
    assert exchange.reply_from_json(stored(reply.to_json())) == reply


def test_a_failure_that_is_read_back_counts_as_replayed():
  error = exchange.CallError(
      "busy", code=429, transient=True, maybe_billed=False, retry_after=3.5
  )
  again = exchange.failure_from_json(json.loads(json.dumps(error.to_json())))
  assert (str(again), again.code, again.transient) == ("busy", 429, True)
  assert (again.maybe_billed, again.retry_after) == (False, 3.5)
  assert again.replayed and not error.replayed
