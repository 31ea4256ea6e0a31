"""Frames survive the trip; what is no frame is refused."""

import io

import pytest

from poise_jax.candidates import wire


def test_round_trip():
  stream = io.BytesIO(wire.encode({"b": 1, "a": [None]}, b"\0body"))
  assert wire.decode(stream.read, max_body=5) == (
      {"a": [None], "b": 1},
      b"\0body",
  )


@pytest.mark.parametrize(
    "data",
    [
        wire.encode({}, b"123456"),
        b"\xff\xff\xff\xff\0\0\0\0",
        b"\0\0\0\x02\0\0\0\0[]",
        b"\0\0\0\x02\0\0\0\0{x",
        b"\0\0\xff\xff\0\0\0\0" + b"[" * 0xFFFF,
    ],
    ids=["body", "header", "array", "text", "nesting"],
)
def test_refuses_what_is_no_frame_within_bounds(data):
  with pytest.raises(wire.FrameError):
    wire.decode(io.BytesIO(data).read, max_body=5)
