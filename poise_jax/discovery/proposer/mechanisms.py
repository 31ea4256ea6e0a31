"""All slots and what may stand in each, in the order in which they act.

The tables are in `slots`, one module a stage; each choice has its words, its
constants, its code and its type, that is what other slots must hold with it.
The first choice of a slot is the plain one, which goes with anything.

Papers: POISE https://arxiv.org/abs/2603.23951; for all others see the entry
of that name in `poise_jax.algorithms.catalog`.
"""

from collections.abc import Mapping

from poise_jax.discovery.proposer.slots import (
    groups,
    mechanism,
    policy,
    regularisers,
    rewards,
    sampling,
    statistics,
)

_TABLES = (
    rewards.SLOTS,
    statistics.SLOTS,
    groups.SLOTS,
    policy.SLOTS,
    sampling.SLOTS,
    regularisers.SLOTS,
)
_ORDER = (
    "signal format length subset baseline scale advantage_clip failures gating"
    " efficiency filter anchor ratio clip trust_region correction kl kl_control"
    " entropy aggregation"
).split()

_ALL = {slot: options for table in _TABLES for slot, options in table.items()}
BY_SLOT: mechanism.Slots = {slot: _ALL[slot] for slot in _ORDER}

MECHANISMS: Mapping[tuple[str, str], mechanism.Mechanism] = {
    (slot, choice): about
    for slot, options in BY_SLOT.items()
    for choice, about in options.items()
}


def plain(slot: str) -> str:
  """The choice that goes with anything: the first of its slot."""
  return next(iter(BY_SLOT[slot]))


def violations(choices: Mapping[str, str]) -> list[tuple[str, str]]:
  """Pairs (slot, other): the choice in `slot` does not go with that in other.

  Args:
    choices: one for each slot.

  Returns:
    In the order of the slots; empty if the whole has a meaning.
  """
  return [
      (slot, other)
      for slot, choice in choices.items()
      for other, allowed in BY_SLOT[slot][choice].needs.items()
      if choices[other] not in allowed
  ]


def legal(
    choices: Mapping[str, str], wanted: frozenset[str] = frozenset()
) -> dict[str, str]:
  """Changes as little as gives choices that go together.

  What does not go with a wanted choice is set to what that one needs; of two
  that are wanted, or are not, the one with the need gives way.

  Args:
    choices: one for each slot.
    wanted: slots whose choice should stay.

  Returns:
    Choices without `violations`.
  """
  made = dict(choices)
  given_up: set[str] = set()
  while pairs := violations(made):
    slot, other = min(pairs, key=lambda pair: pair[0] not in wanted)
    keeps = slot in wanted and slot not in given_up
    gives = other not in wanted or other in given_up
    if keeps and gives and other not in given_up:
      made[other] = BY_SLOT[slot][made[slot]].needs[other][0]
      given_up.add(other)
    else:
      made[slot] = plain(slot)
      given_up.add(slot)
  return made
