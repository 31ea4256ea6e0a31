"""What went wrong in a call to a model, without a trace of the key.

Kinds are told by their names: the library chooses among several HTTP clients,
whose exceptions are called alike. What broke off after the request was sent may
have been paid for.
"""

from collections.abc import Callable
import re
from typing import Any
import urllib.parse

from poise_jax.discovery.llm import exchange

_LONGEST_MESSAGE = 300
# After these nobody knows whether the model did its work.
_MAYBE_BILLED = (408, 499, 504)
_TRANSIENT = (408, 409, 425, 429, 499)
# The last are of answers that are not what the protocol says.
_BROKEN = (
    ("no answer in time", {"TimeoutException", "Timeout", "TimeoutError"}),
    ("the connection broke", {"TransportError", "ConnectionError"}),
    (
        "the answer cannot be read",
        {"ValueError", "TypeError", "AttributeError", "LookupError"},
    ),
)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
_SECONDS = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s?")
# A shorter one is a placeholder.
_SHORTEST_KEY = 5


def scrubber(key: str) -> Callable[[str], str]:
  """Makes texts that may be kept: without the key, storable everywhere."""
  secrets = {key, urllib.parse.quote(key, safe="")}
  hidden = secrets if len(key) >= _SHORTEST_KEY else set()

  def scrub(text: str) -> str:
    for secret in hidden:
      text = text.replace(secret, "[key]")
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return whole.replace("\x00", "\ufffd")

  return scrub


def sorted_out(
    error: Exception, scrub: Callable[[str], str]
) -> exchange.CallError:
  """Says what went wrong and what it means; keeps no reference to it.

  Args:
    error: whatever the library raised.
    scrub: from `scrubber`.
  """
  kinds = {kind.__name__ for kind in type(error).__mro__}
  if "APIError" in kinds:
    return _answered(error, scrub)
  named = type(error).__name__
  if "GoogleAuthError" in kinds:
    return exchange.CallError(
        f"the credentials of this machine do not work ({named}); log in with"
        " `gcloud auth application-default login`, or use a key"
    )
  if kinds & {"ConnectError", "ConnectTimeout", "ConnectionRefusedError"}:
    return exchange.CallError(
        f"the server cannot be reached ({named})", transient=True
    )
  for words, known in _BROKEN:
    if kinds & known:
      return exchange.CallError(
          f"{words} ({named})", transient=True, maybe_billed=True
      )
  return exchange.CallError(f"the call failed ({named})", maybe_billed=True)


def _answered(error: Any, scrub: Callable[[str], str]) -> exchange.CallError:
  """An answer that says that something is wrong."""
  code = error.code if isinstance(error.code, int) else 0
  said = printable(scrub(f"{error.status or ''}: {error.message or ''}"))
  return exchange.CallError(
      f"the server answered {code} {said[:_LONGEST_MESSAGE]}".rstrip(": "),
      code=code,
      transient=code in _TRANSIENT or code >= 500,
      maybe_billed=code in _MAYBE_BILLED,
      retry_after=_retry_after(error),
  )


def _retry_after(error: Any) -> float:
  """Seconds that the server asks to wait: in its details, or in a header."""
  asked = []
  details = error.details if isinstance(error.details, dict) else {}
  inner = details.get("error")
  listed = inner.get("details") if isinstance(inner, dict) else None
  for item in listed if isinstance(listed, list) else []:
    if isinstance(item, dict):
      asked.append(item.get("retryDelay"))
  headers = getattr(error.response, "headers", None) or {}
  asked.append(headers.get("retry-after"))
  found = [_SECONDS.fullmatch(a) for a in asked if isinstance(a, str)]
  return max((float(m[1]) for m in found if m), default=0.0)


def printable(text: str) -> str:
  """A text on one line, for people."""
  return _UNPRINTABLE.sub(" ", text)
