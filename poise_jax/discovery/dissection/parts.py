"""What a candidate consists of, and the candidate without some of it.

Three ways to take a program apart: the mechanisms that it has and the root has
not, the constants at whose NEUTRAL its novelty vanishes, and the statements and
terms of its source (`source_parts`). All give the same thing, a
`Decomposition`, so that `ablation` need not know which it is.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
import dataclasses
from typing import NamedTuple

from poise_jax.discovery.dissection import source_text

Without = Callable[[Collection[str]], str]


class Part(NamedTuple):
  """Something that may be taken out of a program.

  Attributes:
    name: unique in the program.
    words: what it is, for people.
  """

  name: str
  words: str


@dataclasses.dataclass(frozen=True)
class Decomposition:
  """The parts of a program.

  Attributes:
    kind: what they are, in one word.
    parts: all that may be taken out, in order of the text.
    without: names of parts to the source of the program without them. Raises
      ValueError where there is no such program.
  """

  kind: str
  parts: tuple[Part, ...]
  without: Without

  @property
  def names(self) -> tuple[str, ...]:
    """Names of the parts, in order."""
    return tuple(part.name for part in self.parts)

  def only(self, names: Collection[str]) -> str:
    """Source of the program with these parts and no others."""
    return self.without([n for n in self.names if n not in names])


def mechanisms(
    slots: Sequence[str],
    without: Without,
    words: Mapping[str, str],
) -> Decomposition:
  """Takes a genome apart by the slots in which it differs from the root.

  With `genome` and `rendering`:

    slots = genomes.changed_slots(child, root)
    without = lambda s: rendering.render(genomes.without(child, s, root), ...)

  Args:
    slots: in which it differs.
    without: slots to set back, to the source of what is left.
    words: what the child has in each slot, for people; may miss some.
  """
  parts = tuple(Part(slot, words.get(slot, slot)) for slot in slots)
  return Decomposition("mechanism", parts, without)


def constants(source: str) -> Decomposition:
  """Takes a source apart by the constants that are not at their NEUTRAL.

  A part is taken out by setting its constant to that value.

  Args:
    source: that passed the syntax gate. There are no parts if it has no
      NEUTRAL, or one that is not written out in numbers.
  """
  values = source_text.constants(source, "HPARAMS")
  neutral = source_text.constants(source, "NEUTRAL")
  novel = {
      name: value
      for name, value in neutral.items()
      if name in values and values[name] != value
  }

  def without(names: Collection[str]) -> str:
    changes = {name: novel[name] for name in names}
    return source_text.with_constants(source, changes)

  parts = tuple(
      Part(name, f"{name} = {values[name]:g} instead of {value:g}")
      for name, value in novel.items()
  )
  return Decomposition("constant", parts, without)
