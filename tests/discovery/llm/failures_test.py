"""Kinds of failures by their names, and texts without the key.

What a real client raises is in `client_test`.
"""

import pytest

from poise_jax.discovery.llm import failures

KEY = "a/secret+key"


def _named(name, *bases):
  return type(name, bases or (Exception,), {})(f"about {KEY}")


@pytest.mark.parametrize(
    ("error", "words", "transient", "billed"),
    [
        (_named("ConnectError"), "cannot be reached", True, False),
        (ConnectionRefusedError(), "cannot be reached", True, False),
        (TimeoutError(), "no answer in time", True, True),
        (ConnectionResetError(), "the connection broke", True, True),
        (_named("DecodeError", ValueError), "cannot be read", True, True),
        (KeyError(KEY), "cannot be read", True, True),
        (_named("GoogleAuthError"), "credentials", False, False),
        (_named("Odd"), "the call failed (Odd)", False, True),
    ],
)
def test_kinds(error, words, transient, billed):
  failure = failures.sorted_out(error, failures.scrubber(KEY))
  assert words in str(failure) and "secret" not in str(failure)
  assert (failure.transient, failure.maybe_billed) == (transient, billed)
  assert failure.__cause__ is None and failure.code == 0


def test_texts_lose_the_key_and_what_cannot_be_stored():
  scrub = failures.scrubber(KEY)
  assert scrub(f"x{KEY}y a%2Fsecret%2Bkey") == "x[key]y [key]"
  assert scrub("a\x00b\ud800c") == "a\ufffdb?c"
  assert failures.scrubber("none")("none of it") == "none of it"
  assert failures.printable("a\n\x1b[2Jb") == "a [2Jb"
