import numpy as np

from poise_jax.discovery.proposer import constants, mechanisms, wording
from poise_jax.discovery.proposer import genome as genomes


def test_every_choice_is_described_and_nothing_else():
  choices = {(s, c) for s, options in genomes.SLOTS.items() for c in options}
  assert set(mechanisms.MECHANISMS) == choices
  assert set(genomes.Genome().choices) == set(mechanisms.BY_SLOT)


def test_types_name_choices_that_exist_and_plain_ones_need_nothing():
  for slot, options in mechanisms.BY_SLOT.items():
    assert not options[mechanisms.plain(slot)].needs
    for choice, about in options.items():
      for other, allowed in about.needs.items():
        assert other != slot
        assert set(allowed) <= set(mechanisms.BY_SLOT[other]), (slot, choice)


def test_any_choices_are_made_legal_and_a_wanted_one_stays():
  rng = np.random.default_rng(0)
  kept = 0
  for _ in range(200):
    choices = {
        slot: str(rng.choice(list(options)))
        for slot, options in mechanisms.BY_SLOT.items()
    }
    wanted = str(rng.choice(list(choices)))
    made = mechanisms.legal(choices, frozenset({wanted}))
    assert not mechanisms.violations(made)
    kept += made[wanted] == choices[wanted]
    assert mechanisms.legal(made) == made
  assert kept >= 190


def test_what_goes_along_with_a_wanted_choice():
  choices = genomes.named("scalerl").choices
  made = mechanisms.legal(
      choices | {"correction": "icepop"}, frozenset({"correction"})
  )
  # The ratio to the sampler would correct twice.
  assert made["anchor"] == "old"
  assert {s for s in made if made[s] != choices[s]} == {"anchor", "correction"}


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
