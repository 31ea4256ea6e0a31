"""One choice in one slot: what it does, why it might help, and its code."""

from collections.abc import Mapping
from typing import NamedTuple

Effects = Mapping[str, int]
# Slot -> the choices there that go with a mechanism, the usual one first.
Needs = Mapping[str, tuple[str, ...]]

_NO_NEEDS: Needs = {}


class Mechanism(NamedTuple):
  """One choice in one slot.

  The statements are hypotheses. Their predicted signs are what reflection
  holds against the outcome.

  Attributes:
    words: what it does, as a phrase that follows "it" or a slot name.
    bottleneck: the weakness it answers.
    hypothesis: how it changes advantages or gradients, and why that helps.
    effects: metric -> +1 or -1, the expected change against the parent.
    falsifier: what would show that the hypothesis is wrong.
    source: where the idea is described, empty if common practice.
    constants: names of the constants that it reads.
    needs: the type of the choice: what other slots must hold for it to have a
      meaning. A slot that is not named may hold anything.
    code: its statements, in terms of the variables that `rendering` defines
      before; `{...}` is filled in there.
  """

  words: str
  bottleneck: str
  hypothesis: str
  effects: Effects
  falsifier: str
  source: str = ""
  constants: tuple[str, ...] = ()
  needs: Needs = _NO_NEEDS
  code: str = ""


Slots = Mapping[str, Mapping[str, Mechanism]]
