from poise_jax.algorithms import catalog
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer.slots import named

CANARIES = {"zero_gradient", "sign_flipped"}


def test_every_member_but_the_alarms_has_a_genome():
  assert set(named.NAMED) == set(catalog.names()) - CANARIES


def test_genomes_hold_what_the_table_says():
  for name, (choices, constants) in named.NAMED.items():
    genome = genomes.named(name)
    assert {s: getattr(genome, s) for s in choices} == choices, name
    assert constants.items() <= genome.constants.items(), name
