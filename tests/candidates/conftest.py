"""One jail for all tests of the package: warming a child takes seconds."""

from collections.abc import Iterator

import pytest

from poise_jax.candidates import jail as jail_lib
from poise_jax.candidates import limits


@pytest.fixture(scope="session")
def jail() -> Iterator[jail_lib.Jail]:
  bounds = limits.Limits(cpu_seconds=3, memory_bytes=1024**3)
  with jail_lib.Jail(bounds) as ready:
    yield ready
