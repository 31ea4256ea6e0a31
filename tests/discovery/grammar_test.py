import json

import numpy as np
import pytest

from poise_jax.archive import records
from poise_jax.discovery import effects, grammar
from poise_jax.discovery import genome as genomes

GRPO = genomes.named("grpo")
ROOT = grammar.Parent("c-000", "grpo", GRPO)
OTHER = grammar.Parent("c-005", "vm_av", genomes.named("vm_av_grpo"))


def _campaign(count, seed=0, parents=(ROOT, OTHER)):
  rng = np.random.default_rng(seed)
  seen, made = set(), []
  for index in range(count):
    proposal = grammar.propose(rng, parents, seen, index=index)
    seen |= {
        genomes.identity(proposal.genome),
        records.sha256(proposal.source),
    }
    made.append(proposal)
  return made


def test_proposals_are_new_distinct_and_use_every_operator():
  made = _campaign(150)
  identities = {genomes.identity(p.genome) for p in made}
  assert len(identities) == 150
  assert identities.isdisjoint(
      genomes.identity(p.genome) for p in (ROOT, OTHER)
  )
  assert len({p.name for p in made}) == 150
  # Nothing can be taken out of the root.
  assert {p.operator for p in made} == {"mutate", "mutate_two", "tune", "cross"}


def test_removal_leads_back_to_the_root():
  made = _campaign(60, parents=(OTHER,))
  removed = [p for p in made if p.operator == "remove"]
  assert removed
  for proposal in removed:
    for slot in proposal.mechanisms["changed"]:
      assert getattr(proposal.genome, slot) == getattr(GRPO, slot)
  assert all(p.parents == ("c-005",) for p in made)


def test_a_cross_takes_every_slot_from_one_of_its_parents():
  crossed = [p for p in _campaign(80) if p.operator == "cross"]
  assert crossed
  for proposal in crossed:
    assert proposal.parents == ("c-000", "c-005")
    for slot, choice in proposal.genome.choices.items():
      assert choice in (getattr(GRPO, slot), getattr(OTHER.genome, slot))


def test_one_mutation_changes_one_slot_unless_another_falls_idle():
  for proposal in _campaign(60, parents=(ROOT,)):
    if proposal.operator in ("mutate", "tune"):
      assert len(proposal.mechanisms["changed"]) == 1
    assert not genomes.idle_choices(proposal.genome)


def test_deterministic_given_the_generator():
  assert _campaign(20, seed=3) == _campaign(20, seed=3)
  assert _campaign(5, seed=3) != _campaign(5, seed=4)


def test_source_and_record_carry_the_reasons():
  for proposal in _campaign(20):
    text = " ".join(proposal.source.split())
    for statement in (
        proposal.rationale,
        proposal.prediction,
        proposal.falsifier,
    ):
      assert statement in text
    stored = json.loads(records.canonical_json(proposal.mechanisms))
    assert genomes.from_json(stored["genome"]) == proposal.genome
    assert stored["operator"] == proposal.operator
    assert stored["changed"]
    assert set(stored["prediction"].values()) <= {-1, 1}


def test_never_repeats_even_when_all_choices_are_taken():
  # Refuse every genome that mutation can reach: only constants are left.
  grpo = GRPO
  taken = set()
  for slot, options in genomes.SLOTS.items():
    for choice in options:
      one = genomes.edited(grpo, {slot: choice})
      taken.add(genomes.identity(one))
      for other, more in genomes.SLOTS.items():
        for pick in more:
          two = genomes.edited(one, {other: pick})
          two = genomes.edited(two, genomes.idle_choices(two))
          taken.add(genomes.identity(two))
  rng = np.random.default_rng(0)
  for index in range(20):
    proposal = grammar.propose(rng, [ROOT], taken, index=index)
    assert proposal.operator == "tune"
    assert genomes.identity(proposal.genome) not in taken
    taken.add(genomes.identity(proposal.genome))


def test_falls_back_to_tuning_a_parent_without_constants(monkeypatch):
  monkeypatch.setattr(grammar, "_REDRAWS", 0)
  bare = genomes.edited(GRPO, {"clip": "none"})
  parent = grammar.Parent("c-1", "bare", bare)
  rng = np.random.default_rng(0)
  proposal = grammar.propose(rng, [parent], (), index=7)
  assert proposal.operator == "tune"
  assert proposal.genome.constants.keys() == {"advantage_limit"}


def test_needs_a_parent():
  with pytest.raises(ValueError, match="`parents` must hold at least one"):
    grammar.propose(np.random.default_rng(0), [], (), index=0)


def test_history_steers_mutation():
  dapo = genomes.named("dapo")
  history = [effects.Observation(dapo, GRPO, 30.0)] * 8
  rng = np.random.default_rng(0)
  names = [
      grammar.propose(rng, [ROOT], (), index=i, history=history).name
      for i in range(30)
  ]
  # Clip-higher in nearly all that mutate; without history about one in ten.
  assert sum("clip_higher" in name for name in names) >= 18


def test_standing_of_the_parent_is_told():
  parent = grammar.Parent("c-3", "dapo", genomes.named("dapo"), 61.26, 1.5)
  rng = np.random.default_rng(0)
  proposal = grammar.propose(rng, [parent], (), index=9)
  assert proposal.rationale.startswith(
      "dapo stood at Overall 61.3, +1.5 on its parent. "
  )


def test_neutral_constants_by_hand():
  bonus = genomes.edited(GRPO, {"entropy": "bonus"})
  assert grammar.neutral_constants(bonus, GRPO) == {"entropy_coef": 0.0}
  higher = genomes.edited(GRPO, {"clip": "clip_higher"})
  assert grammar.neutral_constants(higher, GRPO) == {"clip_eps_high": 0.2}
  tuned = genomes.edited(GRPO, constants={"clip_eps": 0.3})
  assert grammar.neutral_constants(tuned, GRPO) == {"clip_eps": 0.2}
  # No constant undoes another baseline, so nothing is claimed.
  both = genomes.edited(bonus, {"baseline": "batch_mean"})
  assert grammar.neutral_constants(both, GRPO) == {}
