"""The frames that parent and child exchange: a small header and raw bytes.

A frame is two big-endian 32-bit lengths, a JSON header, and a body. Nothing
is ever unpickled, and whoever reads names the largest frame it accepts.
"""

from collections.abc import Callable
import json
import struct
from typing import Any

_LENGTHS = struct.Struct(">II")
MAX_HEADER = 64 * 1024


class FrameError(ValueError):
  """What arrived is not a frame within its bounds."""


def encode(header: dict[str, Any], body: bytes = b"") -> bytes:
  """Packs one frame."""
  text = json.dumps(header, sort_keys=True).encode("utf-8")
  return _LENGTHS.pack(len(text), len(body)) + text + body


def decode(
    read: Callable[[int], bytes], *, max_body: int
) -> tuple[dict[str, Any], bytes]:
  """Reads one frame.

  Args:
    read: returns exactly as many bytes as it is asked for, or raises.
    max_body: the largest body to accept, in bytes.

  Raises:
    FrameError: if a length is beyond its bound, or the header is not a JSON
      object.
  """
  header_bytes, body_bytes = _LENGTHS.unpack(read(_LENGTHS.size))
  if header_bytes > MAX_HEADER or body_bytes > max_body:
    raise FrameError("frame exceeds its bounds")
  try:
    header = json.loads(read(header_bytes))
  except (ValueError, RecursionError) as error:
    raise FrameError("header is not JSON") from error
  if not isinstance(header, dict):
    raise FrameError("header is not a JSON object")
  return header, read(body_bytes)
