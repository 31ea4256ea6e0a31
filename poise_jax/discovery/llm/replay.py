"""A recorded conversation with a model, said again without one.

Nothing here can reach a network. A request that is not in the record is an
error that says what is missing, never a guess.
"""

from collections.abc import Iterable, Mapping
import os
from typing import Any

from poise_jax.discovery.llm import exchange, recording, transcripts


def replay(entries: Iterable[Mapping[str, Any]]) -> exchange.Send:
  """Answers from a record.

  Args:
    entries: of a transcript.

  Returns:
    Gives for each request what came of it then, failures and lack of money
    included.

    It raises `exchange.MissError` for any other request.
  """
  entries = list(entries)
  known = recording.ended(entries)
  refused = {
      e["exchange"]: e["message"] for e in entries if e["kind"] == "refused"
  }
  requests = {e["exchange"]: e["request"] for e in entries if "request" in e}

  def send(request: exchange.Request) -> exchange.Reply:
    digest = request.digest
    if digest not in known and digest in refused:
      raise exchange.BudgetError(refused[digest])
    if digest not in known:
      raise _miss(request, digest, requests)
    return recording.outcome(known[digest])

  return send


def load(path: str | os.PathLike[str]) -> exchange.Send:
  """Answers from the transcript in a file; see `replay`.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is no transcript.
  """
  return replay(transcripts.read(path))


def _miss(
    request: exchange.Request,
    digest: str,
    requests: Mapping[str, Mapping[str, Any]],
) -> exchange.MissError:
  """Says what is missing, and how the closest one that is there differs."""
  about = f"{request.label!r}, attempt {request.attempt}, {digest[:12]}"
  if digest in requests:
    return exchange.MissError(
        f"the record says that {about} was sent, not what came back: it ends"
        " there; continue the recording to replay further",
        digest,
        (),
    )
  asked = request.to_json()
  apart = [
      tuple(k for k in asked if known.get(k) != asked[k])
      for known in requests.values()
  ]
  if not apart:
    return exchange.MissError(
        f"the record is empty, it has no {about}", digest, ()
    )
  differing = min(apart, key=lambda names: ("label" in names, len(names)))
  return exchange.MissError(
      f"the record has no {about}, the closest in it has another"
      f" {', '.join(differing)}; replay with the configuration and the version"
      " that recorded it, or record again",
      digest,
      differing,
  )
