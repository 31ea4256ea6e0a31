"""What a model wrote against the bans of the objective, as far as can be told.

Two things are known of a source without reading it: what its author says that
it acts on, and whether it does just what a known algorithm does, of which the
mechanisms are known. What is neither declared nor the same as a known algorithm
as a whole is not found: a banned mechanism under another name, in new company,
or kept from the parent.
"""

from collections.abc import Collection, Sequence
import functools
import re

from poise_jax.candidates import findings as findings_lib
from poise_jax.candidates import rediscovery
from poise_jax.discovery.directives import bans as bans_lib
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import mechanisms
from poise_jax.discovery.proposer.slots import named

_WORD = re.compile(r"[a-z]+|[0-9]+")


def findings(
    objective: objectives.Objective,
    tags: Sequence[str],
    nearest: Sequence[rediscovery.Match],
) -> tuple[findings_lib.Finding, ...]:
  """Why a candidate may not be trained; empty if no ban is seen to be broken.

  Args:
    objective: its bans count here.
    tags: of the idea, in the words of its author. Case, spaces and underscores
      do not matter, nor which of its usual names a mechanism has. A tag that
      stands for several mechanisms breaks a ban if all of them are banned.
    nearest: known algorithms beside the source. Of several that it equals, one
      without a banned mechanism clears it.
  """
  broken = [
      f"{ban} (it says: {tag})"
      for tag in tags
      for ban in _declared(tag, objective.bans)
  ]
  equal = [m for m in nearest if m.equal and m.name in named.NAMED]
  used = {
      m.name: objectives.breaches(
          objective, objectives.mechanism_names(genomes.named(m.name).choices)
      )
      for m in equal
  }
  if used and all(used.values()):
    name, known = next(iter(used.items()))
    broken.append(f"{', '.join(known)} (it equals {name})")
  if not broken:
    return ()
  return (
      findings_lib.contract(
          "banned",
          f"it uses what the objective bans: {'; '.join(broken)}",
          "leave that mechanism out, by any name",
      ),
  )


def _declared(tag: str, bans: Collection[str]) -> tuple[str, ...]:
  """The bans that a tag breaks."""
  for names in _meanings().get(_plain(tag), ()):
    covering = [_covering(name, bans) for name in names]
    if all(covering):
      return tuple(dict.fromkeys(ban for ban in covering if ban))
  return ()


def _covering(name: str, bans: Collection[str]) -> str:
  """The ban that a mechanism falls under; empty if none."""
  slot, _, choice = name.partition("=")
  if name in bans:
    return name
  return slot if slot in bans and choice != mechanisms.plain(slot) else ""


@functools.cache
def _meanings() -> dict[str, list[tuple[str, ...]]]:
  """Words of a tag -> what it may stand for."""
  made: dict[str, list[tuple[str, ...]]] = {}
  for name in bans_lib.names():
    made.setdefault(_plain(name), []).append((name,))
  for phrase, names in bans_lib.phrases().items():
    made.setdefault(_plain(phrase), []).append(names)
  return made


def _plain(text: str) -> str:
  """Words in lower case, digits apart from letters."""
  return " ".join(_WORD.findall(text.lower()))
