"""The shipped fingerprints are those of this catalogue; caches are mended."""

import jax
import numpy as np
import pytest

from poise_jax.algorithms import catalog
from poise_jax.candidates import fingerprint, known, probes

_NAMES = ("grpo", "dapo")


@pytest.fixture(scope="module")
def suite():
  return probes.suite()


def test_shipped_fingerprints_are_of_this_catalogue(suite):
  found = known._read(known.SHIPPED, known._key(suite))
  assert found is not None, (
      "catalogue, atoms or probes have changed; run python -c 'from"
      " poise_jax.candidates import known; known.library(known.SHIPPED)'"
  )
  assert list(found.known) == list(catalog.names())
  assert found.suite == fingerprint.suite_hash(suite)
  taken = fingerprint.of(catalog.make("bn_grpo"), suite)
  assert fingerprint.worst(found.known["bn_grpo"], taken)[1] < 1e-4


def test_without_shipped_ones_they_are_taken_and_kept(
    monkeypatch, tmp_path, suite
):
  shipped = known.catalogue().known
  monkeypatch.setattr(known, "SHIPPED", tmp_path / "none.npz")
  monkeypatch.setattr(known.catalog, "names", lambda: _NAMES)
  monkeypatch.setattr(
      known.fingerprint, "of", lambda a, batches: shipped[a.name]
  )
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  monkeypatch.setattr(known, "ready", known.ready.__wrapped__)
  take = known.catalogue.__wrapped__
  assert list(take().known) == list(_NAMES)
  (kept,) = (tmp_path / "cache" / "poise_jax").iterdir()
  assert kept.name == "none.npz"
  monkeypatch.setattr(known.fingerprint, "of", None)
  np.testing.assert_array_equal(
      take().known["grpo"].slopes, shipped["grpo"].slopes
  )
  # A home that cannot be written to is no reason to fail.
  monkeypatch.setattr(
      known.fingerprint, "of", lambda a, batches: shipped[a.name]
  )
  (tmp_path / "file").write_text("")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
  assert list(take().known) == list(_NAMES)


def test_cache_is_read_back_and_mended(monkeypatch, tmp_path, suite):
  taken, shipped = [], known.catalogue().known

  def of(algorithm, batches):
    taken.append(algorithm.name)
    return shipped[algorithm.name]

  monkeypatch.setattr(known.catalog, "names", lambda: _NAMES)
  monkeypatch.setattr(known.fingerprint, "of", of)
  cache = tmp_path / "new" / "library.npz"
  first = known.library(cache, suite)
  assert taken == list(_NAMES)
  second = known.library(cache, suite)
  assert taken == list(_NAMES) and list(second.known) == list(_NAMES)
  for name in _NAMES:
    assert fingerprint.worst(first.known[name], second.known[name])[1] == 0.0
  assert [p.name for p in cache.parent.iterdir()] == ["library.npz"]
  cache.write_bytes(cache.read_bytes()[:500])
  known.library(cache, suite)
  assert taken == 2 * list(_NAMES)
  # Other probes, other fingerprints.
  fewer = {n: suite[n] for n in ("mixed", "padded")}
  known.library(cache, fewer)
  assert taken == 3 * list(_NAMES)


def test_only_what_jax_chooses_counts_not_its_version(monkeypatch, suite):
  key = known._key(suite)
  monkeypatch.setattr(jax, "__version__", "0.99.1")
  assert known._key(suite) == key
  # By hand: half of a tie; nothing at the end of a clamp.
  at = np.asarray(jax.jacfwd(known._kinks)(0.0))
  assert (at[0], at[1], at[2], at[3]) == (0.5, 0.5, 0.5, 0.0)
  monkeypatch.setattr(known, "_chosen", lambda: (at + 0.5).tobytes())
  assert known._key(suite) != key


def test_nobody_waits_for_those_that_are_ready(monkeypatch, tmp_path):
  taken = []
  monkeypatch.setattr(known, "SHIPPED", tmp_path / "none.npz")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  monkeypatch.setattr(known.fingerprint, "of", taken.append)
  assert known.ready.__wrapped__() is None and not taken
