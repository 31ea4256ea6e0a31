import dataclasses
import datetime

import pytest

from poise_jax.archive import records


def test_canonical_json_is_one_text_for_equal_values():
  assert records.canonical_json({"b": [1, 2.5], "a": "é"}) == (
      '{"a":"\\u00e9","b":[1,2.5]}'
  )
  assert records.canonical_json({"a": 1, "b": 2}) == records.canonical_json(
      {"b": 2, "a": 1}
  )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_canonical_json_refuses_what_json_lacks(value):
  with pytest.raises(ValueError):
    records.canonical_json({"x": value})


def test_sha256_of_text_is_that_of_its_utf8():
  # The standard's test vector for "abc".
  expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
  assert records.sha256("abc") == expected
  assert records.sha256(b"abc") == expected
  assert records.sha256("é") == records.sha256(b"\xc3\xa9")


def test_now_is_utc():
  assert records.now().utcoffset() == datetime.timedelta(0)


def test_records_cannot_be_changed(make):
  with pytest.raises(dataclasses.FrozenInstanceError):
    make.campaign().name = "other"
