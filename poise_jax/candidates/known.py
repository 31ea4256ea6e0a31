"""Fingerprints of all known algorithms, to compare others with.

Taking them compiles the whole catalogue, so they are shipped with the package,
under a key of all that they depend on. Of jax that is what it takes for the
derivative where there is none, not its version.
"""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import inspect
import io
import os
import pathlib
import tempfile
import zipfile

import jax
import jax.numpy as jnp
import numpy as np

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.candidates import fingerprint, probes, scope

# Made anew by `library(SHIPPED)` when the catalogue, its atoms or the probes
# have changed.
SHIPPED = pathlib.Path(__file__).with_name("catalogue.npz")


@dataclasses.dataclass(frozen=True)
class Library:
  """Fingerprints of the catalogue on one suite of probes."""

  known: dict[str, fingerprint.Fingerprint]

  @property
  def suite(self) -> str:
    """Hash of the probes."""
    return next(iter(self.known.values())).suite


@functools.cache
def ready() -> Library | None:
  """As `catalogue`, if they need not be taken; else None.

  They need not if those that are shipped, or were kept, are of this catalogue.
  """
  key = _key(probes.suite())
  found = (_read(file, key) for file in (SHIPPED, _kept()))
  return next((library for library in found if library is not None), None)


@functools.cache
def catalogue() -> Library:
  """Fingerprints of the catalogue on the usual probes, read or taken.

  They are shipped. Should they be those of another catalogue, they are taken
  once, which lasts a minute, and kept in the user's cache directory. Whoever
  cannot wait asks for those that are `ready`.
  """
  if (found := ready()) is not None:
    return found
  batches = probes.suite()
  try:
    return library(_kept(), batches)
  except OSError:  # Nowhere to keep it.
    return library(None, batches)


def library(
    cache: pathlib.Path | None = None,
    batches: Mapping[str, types.RolloutBatch] | None = None,
) -> Library:
  """Takes the fingerprints of all members, or reads them.

  Taking them compiles every member: some 0.2 s each. A cache is used if it was
  written with the same catalogue, probes and jax, and written anew otherwise.

  Args:
    cache: a file; nothing is kept if left out.
    batches: the probes; `probes.suite()` if left out.
  """
  batches = probes.suite() if batches is None else batches
  key = _key(batches)
  if cache is not None and (found := _read(cache, key)) is not None:
    return found
  known = {n: fingerprint.of(catalog.make(n), batches) for n in catalog.names()}
  if cache is not None:
    _store(cache, key, known)
  return Library(known)


def _kept() -> pathlib.Path:
  """Where fingerprints are kept that are not shipped."""
  caches = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(caches) / "poise_jax" / SHIPPED.name


def _key(batches: Mapping[str, types.RolloutBatch]) -> str:
  """Hash of all that the fingerprints depend on."""
  digest = hashlib.sha256(fingerprint.suite_hash(batches).encode())
  digest.update(_chosen())
  for name in catalog.names():
    entry = catalog.describe(name)
    digest.update(f"{name} {sorted(entry.defaults.items())}".encode())
    digest.update(inspect.getsource(entry.loss).encode())
    digest.update(inspect.getsource(entry.init).encode())
  for module, functions in scope.atoms().items():
    digest.update(module.encode())
    for function in functions.values():
      digest.update(inspect.getsource(function).encode())
  return digest.hexdigest()


@functools.cache
def _chosen() -> bytes:
  """The derivatives that this jax chooses where there are none."""
  return np.asarray(jax.jit(jax.jacfwd(_kinks))(0.0)).tobytes()


def _kinks(x: jax.Array) -> jax.Array:
  """Functions without a derivative at 0, for which jax chooses one."""
  pair = jnp.stack([x, 2.0 * x])
  return jnp.stack(
      [
          jnp.maximum(x, 0.0),
          jnp.minimum(x, 0.0),
          jnp.clip(x, 0.0, 1.0),
          jax.lax.clamp(0.0, x, 1.0),
          jnp.abs(x),
          jax.nn.relu(x),
          jax.nn.leaky_relu(x),
          jnp.max(pair),
          jnp.min(pair),
          *jnp.sort(pair),
          jnp.where(x > 0.0, x, 3.0 * x),
          jnp.sqrt(jnp.maximum(x, 1e-6)),
      ]
  )


def _read(cache: pathlib.Path, key: str) -> Library | None:
  """Reads a cache; None if it is not there, damaged or of another key."""
  try:
    with np.load(io.BytesIO(cache.read_bytes()), allow_pickle=False) as parts:
      if str(parts["key"]) != key:
        return None
      suite = str(parts["suite"])
      probe_names = tuple(str(n) for n in parts["probes"])
      return Library(
          {
              str(name): fingerprint.Fingerprint(suite, probe_names, slopes)
              for name, slopes in zip(
                  parts["names"], parts["slopes"], strict=True
              )
          }
      )
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
    return None


def _store(
    cache: pathlib.Path, key: str, known: Mapping[str, fingerprint.Fingerprint]
) -> None:
  """Writes a cache, whole or not at all."""
  first = next(iter(known.values()))
  stream = io.BytesIO()
  np.savez_compressed(
      stream,
      key=np.array(key),
      suite=np.array(first.suite),
      probes=np.array(first.names),
      names=np.array(list(known)),
      slopes=np.stack([f.slopes for f in known.values()]),
  )
  cache.parent.mkdir(parents=True, exist_ok=True)
  handle, path = tempfile.mkstemp(dir=cache.parent, prefix=cache.name)
  with os.fdopen(handle, "wb") as file:
    file.write(stream.getvalue())
  os.chmod(path, 0o644)
  os.replace(path, cache)
