import json

import numpy as np
import pytest

from poise_jax.archive import records
from poise_jax.discovery.proposer import (
    effects,
    grammar,
    idle,
    mechanisms,
    negative_memory,
)
from poise_jax.discovery.proposer import genome as genomes

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
  made = _campaign(40)
  identities = {genomes.identity(p.genome) for p in made}
  assert len(identities) == 40
  assert identities.isdisjoint(
      genomes.identity(p.genome) for p in (ROOT, OTHER)
  )
  assert len({p.name for p in made}) == 40
  # Nothing can be taken out of the root.
  assert {p.operator for p in made} == {"mutate", "mutate_two", "tune", "cross"}


def test_removal_leads_back_to_the_root():
  made = _campaign(20, parents=(OTHER,))
  removed = [p for p in made if p.operator == "remove"]
  assert removed
  for proposal in removed:
    slots = proposal.mechanisms["changed"]
    own = {s for s in slots if getattr(OTHER.genome, s) != getattr(GRPO, s)}
    # One goes back; what depended on it gives way.
    assert any(getattr(proposal.genome, s) == getattr(GRPO, s) for s in own)
  assert all(p.parents == ("c-005",) for p in made)


def test_a_cross_takes_every_slot_from_one_of_its_parents():
  crossed = [p for p in _campaign(20) if p.operator == "cross"]
  assert crossed
  for proposal in crossed:
    assert proposal.parents == ("c-000", "c-005")
    for slot, choice in proposal.genome.choices.items():
      allowed = {getattr(GRPO, slot), getattr(OTHER.genome, slot)}
      assert choice in allowed | {mechanisms.plain(slot)}


def test_proposals_hold_nothing_idle():
  for proposal in _campaign(12, parents=(ROOT,)):
    assert not idle.idle_choices(proposal.genome)
    if proposal.operator == "tune":
      assert len(proposal.mechanisms["changed"]) == 1


def test_deterministic_given_the_generator():
  assert _campaign(6, seed=3) == _campaign(6, seed=3)
  assert _campaign(5, seed=3) != _campaign(5, seed=4)


def test_source_and_record_carry_the_reasons():
  for proposal in _campaign(8):
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


def test_never_repeats_even_when_all_changes_are_refused(monkeypatch):
  # Only the fall-back is left.
  monkeypatch.setattr(grammar, "_REDRAWS", 0)
  made = _campaign(8, parents=(ROOT,))
  assert {p.operator for p in made} == {"tune"}
  assert len({genomes.identity(p.genome) for p in made}) == 8


def test_falls_back_to_tuning_a_parent_without_constants(monkeypatch):
  monkeypatch.setattr(grammar, "_REDRAWS", 0)
  bare = genomes.edited(GRPO, {"clip": "none", "scale": "none"})
  parent = grammar.Parent("c-1", "bare", bare)
  rng = np.random.default_rng(0)
  proposal = grammar.propose(rng, [parent], (), index=7)
  assert proposal.operator == "tune"
  assert proposal.genome.constants.keys() == {"advantage_limit"}
  assert proposal.genome.constants["advantage_limit"] != 2.0


def test_needs_a_parent():
  with pytest.raises(ValueError, match="`parents` must hold at least one"):
    grammar.propose(np.random.default_rng(0), [], (), index=0)


def test_history_steers_mutation():
  dapo = genomes.named("dapo")
  history = [effects.Observation(dapo, GRPO, 8.0)] * 8
  rng = np.random.default_rng(0)
  made = [
      grammar.propose(rng, [ROOT], (), index=i, history=history)
      for i in range(16)
  ]
  mutated = [p for p in made if p.operator.startswith("mutate")]
  # Without history about one in a hundred.
  tried = sum(p.genome.clip == "clip_higher" for p in mutated)
  assert tried >= len(mutated) / 2


def test_what_failed_is_not_repeated_and_its_neighbours_hardly():
  failed = genomes.edited(GRPO, {"entropy": "bonus"})
  history = [effects.Observation(failed, GRPO, 20.0, 1.0)] * 8
  failures = [negative_memory.Failure(failed)]
  near = 0
  for seed in range(6):
    rng = np.random.default_rng(seed)
    proposal = grammar.propose(
        rng, [ROOT], (), index=0, history=history, failures=failures
    )
    assert genomes.identity(proposal.genome) != genomes.identity(failed)
    near += genomes.distance(proposal.genome, failed) * len(genomes.SLOTS) < 0.5
  assert near <= 2


def test_a_failure_without_a_score_lowers_its_mechanism():
  failed = genomes.edited(GRPO, {"entropy": "bonus"})
  failures = [negative_memory.Failure(failed, GRPO)] * 20
  for seed in range(8):
    rng = np.random.default_rng(seed)
    proposal = grammar.propose(rng, [ROOT], (), index=0, failures=failures)
    assert proposal.genome.entropy != "bonus"


def test_standing_of_the_parent_is_told():
  parent = grammar.Parent("c-3", "dapo", genomes.named("dapo"), 61.26, 1.5)
  rng = np.random.default_rng(0)
  proposal = grammar.propose(rng, [parent], (), index=9)
  assert proposal.rationale.startswith(
      "dapo stood at Overall 61.3, +1.5 on its parent. "
  )


def test_a_wish_for_shorter_answers_steers_what_is_tried():
  def share(wanted):
    count = 0
    for seed in range(60):
      rng = np.random.default_rng(seed)
      made = grammar.propose(rng, [ROOT], (), index=seed, wanted=wanted)
      signs = made.mechanisms["prediction"]
      count += signs.get("response_length", 0) < 0
    return count / 60

  plain, steered = share({}), share({"response_length": -1.0})
  assert steered > 0.4 and steered > 2 * plain
