from poise_jax.discovery import constants, mechanisms, wording
from poise_jax.discovery import genome as genomes


def test_every_choice_is_described_and_nothing_else():
  choices = {(s, c) for s, options in genomes.SLOTS.items() for c in options}
  assert set(mechanisms.MECHANISMS) == choices


def test_every_constant_belongs_to_exactly_one_slot():
  owners = {}
  for slot, options in genomes.SLOTS.items():
    for names in options.values():
      for name in names:
        owners.setdefault(name, set()).add(slot)
  assert set(owners) == set(constants.CONSTANTS)
  assert all(len(slots) == 1 for slots in owners.values())


def test_predictions_are_signs_of_measured_metrics():
  tables = [m.effects for m in mechanisms.MECHANISMS.values()]
  tables += [c.larger for c in constants.CONSTANTS.values()]
  for effects in tables:
    assert effects
    assert set(effects) <= set(wording.SIGNALS)
    assert set(effects.values()) <= {-1, 1}


def test_statements_are_clauses():
  for key, about in mechanisms.MECHANISMS.items():
    for clause in (about.words, about.bottleneck, about.hypothesis):
      assert clause == clause.strip() and not clause.endswith("."), key
    assert about.falsifier and not about.falsifier.endswith("."), key
