"""Batches by hand, and what devices do in vain."""

import itertools

import pytest

from poise_jax.evaluation import batching


def test_batches_are_of_one_width():
  found = list(batching.batches([3, 90, 4, 70, 5, 16], 2))
  assert found == [(0, 2), (4, 5), (1, 3)]
  assert list(batching.batches([], 2)) == []


@pytest.mark.parametrize(
    ("count", "most", "samples", "parts", "expected"),
    [
        (3, 64, 1, 1, (4, 1)),
        (1, 2, 32, 1, (1, 1)),
        # 64 completions of two problems on eight devices: eight on each.
        (2, 2, 32, 8, (2, 4)),
        (1, 2, 32, 8, (1, 8)),
        (6, 6, 4, 8, (6, 4)),
        # Three samples, or one, cannot be shared by four devices.
        (2, 2, 3, 4, (4, 1)),
        (5, 64, 1, 8, (8, 1)),
        (9, 64, 1, 8, (16, 1)),
    ],
)
def test_spread(count, most, samples, parts, expected):
  assert batching.spread(count, most, samples, parts) == expected


def test_all_devices_get_as_many():
  for most, samples, parts in itertools.product(
      (1, 2, 3, 8, 64), (1, 2, 3, 32), (1, 2, 3, 8)
  ):
    for count in range(1, most + 1):
      size, rows = batching.spread(count, most, samples, parts)
      assert size >= count and size * rows % parts == 0
      assert samples % rows == 0
      # Samples that are shared cost nothing more than on one device.
      if not samples % parts:
        assert size <= 2 * count
