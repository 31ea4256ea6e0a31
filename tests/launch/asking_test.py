"""Flags of asking to settings."""

from absl.testing import flagsaver
import asking
import pytest

from poise_jax import sharding
from poise_jax.tasks import arithmetic, grading_pool


@pytest.fixture(autouse=True)
def parsed():
  flags = asking.SUITE._flagvalues
  if not flags.is_parsed():
    flags.mark_as_parsed()
  with flagsaver.flagsaver():
    yield flags


def test_settings_are_what_the_flags_say(parsed):
  assert asking.settings().mesh == sharding.MeshConfig()
  parsed["mesh.data"].value, parsed["mesh.tensor"].value = 4, 2
  parsed["seed"].value, parsed["dtype"].value = 3, "bfloat16"
  found = asking.settings()
  assert found.mesh == sharding.MeshConfig(data=4, tensor=2)
  assert (found.seed, found.dtype, found.batch) == (3, "bfloat16", 64)


def test_errors_name_the_flags_there_are(parsed):
  parsed["mesh.fsdp"].value = 0
  with pytest.raises(ValueError) as caught:
    asking.settings()
  assert asking.of_mesh(caught.value).endswith("set --mesh.fsdp")


def test_sources(parsed, tmp_path):
  parsed["data"].value, parsed["split"].value = str(tmp_path), "sealed"
  with grading_pool.GradingPool(1) as pool:
    found = asking.sources(pool)
  assert found == (tmp_path, arithmetic.Split.SEALED, pool)
