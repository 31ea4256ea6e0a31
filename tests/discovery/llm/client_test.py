"""The client against a server on this machine: replies, faults, no key.

The key is looked for wherever it could have gone.
"""

import concurrent.futures
import gc
import importlib.util
import logging
import multiprocessing
import os
import pathlib
import time
import traceback

import pytest

from poise_jax.candidates import child as child_lib
from poise_jax.discovery.llm import client, exchange

_PATH = pathlib.Path(__file__).with_name("gemini.py")
_SPEC = importlib.util.spec_from_file_location("gemini", _PATH)
gemini = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(gemini)

KEY = "AIza-secret/key+with=signs-0123456789"
REQUEST = exchange.Request(
    label="research 001",
    model="gemini-test",
    system="be brief",
    messages=(
        exchange.Message("user", "why?"),
        exchange.Message("model", "so"),
        exchange.Message("user", "and?"),
    ),
    schema={"type": "object", "properties": {"a": {"type": "string"}}},
    temperature=0.5,
    max_output_tokens=99,
)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
  for name in list(os.environ):
    if name.lower().endswith("_proxy") or name.startswith(("GOOGLE", "GEMINI")):
      monkeypatch.delenv(name)
  monkeypatch.setenv("GEMINI_API_KEY", KEY)


def _call(answer, request=REQUEST, **options):
  with gemini.Server(answer).running() as server:
    endpoint = client.Endpoint(base_url=server.url, **options)
    with client.connected(endpoint) as send:
      return send(request), server


def _failure(answer, **options):
  with pytest.raises(exchange.CallError) as caught:
    _call(answer, **options)
  return caught.value


def test_a_call_and_its_reply():
  reply, server = _call(lambda *_: gemini.ok('{"a": "ü"}', cached=20))
  assert reply == exchange.Reply(
      '{"a": "ü"}',
      "STOP",
      exchange.Usage(prompt=120, cached=20, output=80, thoughts=40),
      "gemini-test-001",
  )
  (sent,) = server.requests
  (path,) = server.paths
  assert path.endswith("/models/gemini-test:generateContent")
  assert [c["role"] for c in sent["contents"]] == ["user", "model", "user"]
  assert gemini.texts(sent) == ["why?", "and?"]
  assert sent["systemInstruction"]["parts"][0]["text"] == "be brief"
  assert sent["generationConfig"]["responseJsonSchema"] == REQUEST.schema
  assert sent["generationConfig"]["responseMimeType"] == "application/json"
  assert sent["generationConfig"]["maxOutputTokens"] == 99
  assert sent["generationConfig"]["temperature"] == 0.5
  # The key goes to the server, in the header that is for it.
  assert server.headers[0]["x-goog-api-key"] == KEY
  assert KEY not in path


def _without(part):
  body = gemini.body("{}")
  del body[part]
  return 200, gemini.json.dumps(body), {}


@pytest.mark.parametrize(
    ("answer", "text", "finish", "counted"),
    [
        (gemini.ok("{", finish="MAX_TOKENS"), "{", "MAX_TOKENS", True),
        (gemini.ok("", finish="SAFETY"), "", "SAFETY", True),
        (_without("candidates"), "", "NOTHING", True),
        (_without("usageMetadata"), "{}", "STOP", False),
        ((200, "{}", {}), "", "NOTHING", False),
    ],
)
def test_replies_that_lack_something(answer, text, finish, counted):
  reply, _ = _call(lambda *_: answer)
  assert (reply.text, reply.finish) == (text, finish)
  assert (reply.usage is not None) == counted


def test_thoughts_are_no_part_of_the_text():
  body = gemini.body("{}")
  body["candidates"][0]["content"]["parts"].insert(
      0, {"text": "hm", "thought": True}
  )
  reply, _ = _call(lambda *_: (200, gemini.json.dumps(body), {}))
  assert reply.text == "{}"


@pytest.mark.parametrize(
    ("code", "transient", "billed"),
    [
        (400, False, False),
        (401, False, False),
        (403, False, False),
        (404, False, False),
        (408, True, True),
        (429, True, False),
        (500, True, False),
        (503, True, False),
        (504, True, True),
        (302, False, False),
    ],
)
def test_errors_say_whether_to_try_again(code, transient, billed):
  failure = _failure(lambda *_: gemini.error(code, "SOME_STATUS"))
  assert failure.code == code and failure.transient == transient
  assert failure.maybe_billed == billed
  assert str(failure) == f"the server answered {code} SOME_STATUS: not now"


def test_one_call_is_one_request():
  count = []

  def answer(*_):
    count.append(1)
    return gemini.error(503, "UNAVAILABLE")

  _failure(answer)
  assert len(count) == 1


@pytest.mark.parametrize(
    ("details", "headers", "seconds"),
    [
        ([{"@type": "RetryInfo", "retryDelay": "34s"}], {}, 34.0),
        ([{"retryDelay": "1.5s"}, "x", {"retryDelay": 7}], {}, 1.5),
        ([], {"retry-after": "12"}, 12.0),
        ([], {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0),
        ([{"retryDelay": "-3s"}], {}, 0.0),
    ],
)
def test_the_wait_that_a_server_asks_for(details, headers, seconds):
  answer = gemini.error(
      429, "RESOURCE_EXHAUSTED", details=details, headers=headers
  )
  assert _failure(lambda *_: answer).retry_after == seconds


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (gemini.CUT, "the connection broke"),
        ((200, '{"candidates": [', {}), "the answer cannot be read"),
        ((200, '{"candidates": 7}', {}), "the answer cannot be read"),
        ((200, "<html>", {}), "the answer cannot be read"),
        ((0.6, gemini.ok("{}")), "no answer in time"),
    ],
)
def test_what_may_have_been_paid_for(answer, words):
  failure = _failure(lambda *_: answer, timeout_seconds=0.2)
  assert words in str(failure)
  assert failure.transient and failure.maybe_billed


def test_nobody_there():
  with gemini.Server(None).running() as server:
    url = server.url
  with client.connected(client.Endpoint(base_url=url)) as send:
    with pytest.raises(exchange.CallError, match="cannot be reached") as e:
      send(REQUEST)
  assert e.value.transient and not e.value.maybe_billed


def test_a_redirect_does_not_take_the_key_along():
  with gemini.Server(lambda *_: gemini.ok("{}")).running() as other:
    answer = (307, "{}", {"location": other.url + "/elsewhere"})
    failure = _failure(lambda *_: answer)
    assert failure.code == 307 and not other.requests


def test_calls_at_the_same_time_are_bounded():
  with gemini.Server(lambda *_: (0.05, gemini.ok("{}"))).running() as server:
    endpoint = client.Endpoint(base_url=server.url, at_once=3)
    with (
        client.connected(endpoint) as send,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
      list(pool.map(lambda _: send(REQUEST), range(9)))
    assert len(server.requests) == 9 and 1 <= server.most_at_once <= 3


@pytest.mark.parametrize(
    "answer",
    [
        gemini.error(401, "UNAUTHENTICATED", message=f"bad key {KEY}!"),
        gemini.error(400, f"{KEY}", message="\x00 \ud800"),
        gemini.error(
            500,
            "X",
            message="AIza-secret%2Fkey%2Bwith%3Dsigns-0123456789",
        ),
        (200, f"<html>{KEY}", {}),
        gemini.CUT,
        (0.6, gemini.ok("{}")),
    ],
)
def test_no_failure_holds_the_key(answer, caplog):
  caplog.set_level(logging.DEBUG)
  failure = _failure(lambda *_: answer, timeout_seconds=0.2)
  words = "".join(traceback.format_exception(failure))
  for text in (words, repr(failure), str(vars(failure)), caplog.text):
    assert KEY not in text and "secret%2F" not in text
  # Nor does anything that a tool could find on it.
  assert failure.__cause__ is None and failure.__context__ is None
  frames = [f for f, _ in traceback.walk_tb(failure.__traceback__)]
  own = [f for f in frames if f.f_code.co_filename.endswith("/llm/client.py")]
  assert own and not any(
      isinstance(value, str) and KEY in value
      for frame in own
      for name, value in frame.f_locals.items()
  )


def test_no_reply_holds_the_key():
  reply, _ = _call(lambda *_: gemini.ok(f'{{"a": "{KEY}\x00"}}'))
  assert KEY not in repr(reply) and "[key]" in reply.text
  assert "\x00" not in reply.text


def test_a_key_is_asked_for(monkeypatch):
  monkeypatch.delenv("GEMINI_API_KEY")
  with pytest.raises(exchange.CallError, match="set GEMINI_API_KEY"):
    with client.connected(client.Endpoint()):
      pass
  # A server of one's own may need none.
  reply, server = _call(lambda *_: gemini.ok("{}"))
  assert reply.text == "{}" and server.headers[0]["x-goog-api-key"] == "none"
  monkeypatch.setenv("GOOGLE_API_KEY", "other-key")
  _, server = _call(lambda *_: gemini.ok("{}"))
  assert server.headers[0]["x-goog-api-key"] == "other-key"


def test_vertex_ai_needs_credentials(monkeypatch, tmp_path):
  monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none"))
  endpoint = client.Endpoint(project="p", location="europe-west4")
  with pytest.raises(exchange.CallError, match="gcloud auth") as error:
    with client.connected(endpoint) as send:
      send(REQUEST)
  assert not error.value.transient


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base_url": "http://example.org"}, "must start with https://"),
        ({"base_url": "file:///etc"}, "must start with https://"),
        ({"base_url": "https://u:p@example.org"}, "must not hold a password"),
        ({"base_url": "https://example.org?key=1"}, "must not hold a password"),
        ({"timeout_seconds": 0.0}, "`timeout_seconds` must be above 0"),
        ({"at_once": 0}, "`at_once` must be at least 1"),
    ],
)
def test_endpoints_that_are_refused(changes, words):
  with pytest.raises(ValueError, match=words):
    client.Endpoint(**changes)


def test_a_server_that_the_environment_names_is_checked_too(monkeypatch):
  with gemini.Server(lambda *_: gemini.ok("{}")).running() as server:
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url)
    with client.connected(client.Endpoint()) as send:
      send(REQUEST)
    assert len(server.requests) == 1
  monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", "http://example.org")
  with (
      pytest.raises(ValueError, match="must start with https"),
      client.connected(client.Endpoint()),
  ):
    pass
  assert os.environ["GEMINI_API_KEY"] == KEY


def test_children_of_the_jail_get_no_key():
  assert not any("KEY" in n or "GOOGLE" in n for n in child_lib._ENVIRONMENT)


def test_while_connected_no_child_inherits_the_key(monkeypatch):
  monkeypatch.setenv("GOOGLE_API_KEY", "another-key")
  with gemini.Server(lambda *_: gemini.ok("{}")).running() as server:
    endpoint = client.Endpoint(base_url=server.url)
    with (
        client.connected(endpoint) as send,
        client.connected(endpoint) as second,
    ):
      assert not set(client.KEYS) & os.environ.keys()
      context = multiprocessing.get_context("spawn")
      with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        shown = list(pool.map(os.getenv, [*client.KEYS, "PATH"], timeout=60))
      assert shown == [None, None, os.environ["PATH"]]
      send(REQUEST)
      second(REQUEST)
    assert [h["x-goog-api-key"] for h in server.headers] == [KEY, KEY]
  assert os.environ["GEMINI_API_KEY"] == KEY
  assert os.environ["GOOGLE_API_KEY"] == "another-key"
  with pytest.raises(ZeroDivisionError), client.connected(client.Endpoint()):
    raise ZeroDivisionError
  assert os.environ["GEMINI_API_KEY"] == KEY


def test_only_this_module_reads_keys_or_talks():
  root = pathlib.Path(client.__file__).parents[2]
  for path in root.rglob("*.py"):
    text = path.read_text("utf-8")
    if path != pathlib.Path(client.__file__):
      assert "google.genai" not in text and "from google" not in text, path
      assert "API_KEY" not in text, path


def test_nothing_is_left_open():
  before = time.monotonic()
  _call(lambda *_: gemini.ok("{}"))
  gc.collect()  # a socket that is left open is a warning, hence an error
  assert time.monotonic() - before < 60
