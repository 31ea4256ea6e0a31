from poise_jax.algorithms import catalog
from poise_jax.candidates import fingerprint, known
from poise_jax.discovery.proposer import preview


def test_finds_what_the_gate_finds():
  found = preview.fingerprint_of(catalog.source("dapo"))
  assert fingerprint.twins(found, known.catalogue().known["dapo"])


def test_what_cannot_be_run_is_left_to_the_gate():
  assert preview.fingerprint_of("HPARAMS = {}\n") is None
