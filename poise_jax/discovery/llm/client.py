"""The only place that talks to a network, and the only one that knows a key.

One call is one request over HTTP, without retries of its own; what goes wrong
is a `CallError` that says whether trying again may help and whether it may be
paid for. The key comes from the environment; it is in no message, log, value
or exception that leaves this module.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import os
import threading
from typing import Any
import urllib.parse

from poise_jax.discovery.llm import exchange, failures

# Looked up in this order.
KEYS = ("GEMINI_API_KEY", "GOOGLE_API_KEY")

# What google-genai takes for `base_url` where none is given.
_BASE_URLS = {
    False: "GOOGLE_GEMINI_BASE_URL",
    True: "GOOGLE_VERTEX_BASE_URL",
}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")

# Keys that are out of the environment while somebody is connected.
_hidden: dict[str, str] = {}
_connections = 0
_lock = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Endpoint:
  """Where the model is.

  Attributes:
    base_url: of a server that speaks the Gemini protocol; empty for Google's.
      Must be https unless it is this machine.
    project: of Google Cloud, to use Vertex AI with the credentials of this
      machine; empty to use the Gemini API with a key.
    location: of Vertex AI.
    timeout_seconds: without a byte of an answer.
    at_once: calls at the same time.
  """

  base_url: str = ""
  project: str = ""
  location: str = "global"
  timeout_seconds: float = 300.0
  at_once: int = 4

  def __post_init__(self):
    """Refuses what would send a key in the clear, and empty limits."""
    url = urllib.parse.urlsplit(self.base_url)
    safe = url.scheme == "https" or url.hostname in _LOOPBACK
    if self.base_url and not (safe and url.scheme in ("http", "https")):
      raise ValueError(
          "`base_url` must start with https://, or be of this machine, as the"
          f" key is sent to it, got {url.scheme}://{url.hostname}"
      )
    if url.username or url.password or url.query:
      raise ValueError(
          "`base_url` must not hold a password or a query, as it is stored; set"
          f" {KEYS[0]} instead"
      )
    if not self.timeout_seconds > 0:
      raise ValueError(
          "`timeout_seconds` must be above 0, got" f" {self.timeout_seconds}"
      )
    if self.at_once < 1:
      raise ValueError(f"`at_once` must be at least 1, got {self.at_once}")


@contextlib.contextmanager
def connected(endpoint: Endpoint) -> Iterator[exchange.Send]:
  """Connects to a model.

  While connected, the keys are not in the environment of this process, so that
  no child that it starts inherits them; they are put back afterwards.

  Args:
    endpoint: where it is.

  Yields:
    Makes one call; from any number of threads, `endpoint.at_once` of them at
    the same time, others wait.

  Raises:
    exchange.CallError: if there is no key, or no credentials.
    ValueError: if the environment names a server that a key must not be sent
      to.
  """
  if not endpoint.base_url:
    named = os.environ.get(_BASE_URLS[bool(endpoint.project)], "")
    endpoint = dataclasses.replace(endpoint, base_url=named)
  with hidden_keys():
    key = "" if endpoint.project else _key(endpoint)
    yield from _connected(endpoint, key)


def _connected(endpoint: Endpoint, key: str) -> Iterator[exchange.Send]:
  """Connects with a key."""
  # Seconds to import, and a search without a model needs none of it.
  from google import genai
  from google.genai import types as genai_types

  scrub = failures.scrubber(key)
  options = genai_types.HttpOptions(
      base_url=endpoint.base_url or None,
      timeout=max(round(1000 * endpoint.timeout_seconds), 1),
      retry_options=genai_types.HttpRetryOptions(attempts=1),
      # A redirect would carry the key elsewhere.
      client_args={"follow_redirects": False},
  )
  if endpoint.project:
    account: dict[str, Any] = {
        "vertexai": True,
        "project": endpoint.project,
        "location": endpoint.location,
    }
  else:
    account = {"vertexai": False, "api_key": key}
  client, failure = None, None
  try:
    client = genai.Client(**account, http_options=options)
  except Exception as error:
    failure = failures.sorted_out(error, scrub)
  if failure is not None:
    # Outside the handler: what was caught may hold the key.
    raise failure
  slots = threading.BoundedSemaphore(endpoint.at_once)

  def send(request: exchange.Request) -> exchange.Reply:
    contents = [
        genai_types.Content(role=m.role, parts=[genai_types.Part(text=m.text)])
        for m in request.messages
    ]
    failure = None
    with slots:
      try:
        response = client.models.generate_content(
            model=request.model,
            contents=contents,
            config=_config(request, genai_types),
        )
        return _reply(response, scrub)
      except Exception as error:
        failure = failures.sorted_out(error, scrub)
    raise failure

  try:
    yield send
  finally:
    client.close()


@contextlib.contextmanager
def hidden_keys() -> Iterator[None]:
  """Takes the keys out of the environment; the last one out puts them back.

  No child that is started meanwhile inherits them; `connected` knows them.
  """
  global _connections
  with _lock:
    _connections += 1
    for name in KEYS:
      if name in os.environ:
        _hidden[name] = os.environ.pop(name)
  try:
    yield
  finally:
    with _lock:
      _connections -= 1
      if not _connections:
        os.environ.update(_hidden)
        _hidden.clear()


def _key(endpoint: Endpoint) -> str:
  """The key; a placeholder for a server of one's own that needs none."""
  for name in KEYS:
    if key := _hidden.get(name, "").strip():
      return key
  if endpoint.base_url:
    return "none"
  raise exchange.CallError(
      f"no key: set {KEYS[0]} in the environment, or `project` for Vertex AI,"
      " or go on without a model (agent=offline)"
  )


def _config(request: exchange.Request, genai_types: Any) -> Any:
  """The parameters of a request, in the words of the library."""
  thinking = None
  if request.thinking_level:
    thinking = genai_types.ThinkingConfig(thinking_level=request.thinking_level)
  return genai_types.GenerateContentConfig(
      system_instruction=request.system or None,
      temperature=request.temperature,
      max_output_tokens=request.max_output_tokens,
      response_mime_type="application/json",
      response_json_schema=dict(request.schema),
      thinking_config=thinking,
      candidate_count=1,
  )


def _reply(response: Any, scrub: Callable[[str], str]) -> exchange.Reply:
  """Reads an answer that may lack any part."""
  candidate = (response.candidates or [None])[0]
  parts = (candidate and candidate.content and candidate.content.parts) or []
  text = "".join(p.text for p in parts if p.text and not p.thought)
  blocked = response.prompt_feedback and response.prompt_feedback.block_reason
  reason = (candidate and candidate.finish_reason) or blocked
  finish = getattr(reason, "name", None) or str(reason or "NOTHING")
  counts = response.usage_metadata
  usage = None
  if counts is not None and counts.prompt_token_count is not None:
    tools = counts.tool_use_prompt_token_count
    usage = exchange.Usage(
        prompt=_count(counts.prompt_token_count) + _count(tools),
        cached=_count(counts.cached_content_token_count),
        output=_count(counts.candidates_token_count),
        thoughts=_count(counts.thoughts_token_count),
    )
  return exchange.Reply(
      text=scrub(text),
      finish=failures.printable(scrub(finish)),
      usage=usage,
      served_by=failures.printable(scrub(response.model_version or "")),
  )


def _count(tokens: int | None) -> int:
  return max(int(tokens or 0), 0)
