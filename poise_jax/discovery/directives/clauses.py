"""Words to clauses: where one thought ends and the next begins.

Nothing is interpreted here; what clauses share is for `sharing`.
"""

from collections.abc import Sequence
import dataclasses
from typing import Any

from poise_jax.discovery.directives import lexicon, words

_K = lexicon.Kind
_LINKS = (_K.BREAK, _K.IF, _K.AND, _K.OR, _K.STOP)
# What a campaign may be given an amount of.
BUDGETS = ("seconds", "candidates", "dollars")
# How far a clause is looked through for what it is about.
_AHEAD = 40
# What makes a clause say more than what it is about.
ACTIONS = (
    _K.QUALITY, _K.CHANGE, _K.IMPROVE, _K.HARM, _K.HOLD, _K.STEADY,
    _K.COLLAPSE, _K.EXPLODE, _K.FREE, _K.TIMES, _K.IMPORTANT,
)  # fmt: skip
TARGETS = (_K.METRIC, _K.SET, _K.MECHANISM)
# What may begin a second thought without a word that joins.
_STARTERS = (_K.CHANGE, _K.IMPROVE, _K.HARM, _K.HOLD, _K.STEADY, _K.QUALITY)


@dataclasses.dataclass(frozen=True)
class Clause:
  """The words between two that separate, and how they are joined on.

  Attributes:
    words: without those that separate, fillers included.
    link: what stood before.
    text: as it was written.
  """

  words: tuple[lexicon.Word, ...]
  link: lexicon.Kind
  text: str

  def all(self, kind: lexicon.Kind) -> list[Any]:
    """The values of all words of a kind."""
    return [word.value for word in self.words if word.kind is kind]

  def has(self, *kinds: lexicon.Kind) -> bool:
    """Whether there is a word of one of the kinds."""
    return any(word.kind in kinds for word in self.words)

  def says(self, text: str) -> bool:
    """Whether a word is in it as written."""
    return any(word.text.lower() == text for word in self.words)

  @property
  def acts(self) -> bool:
    """Whether it says what to do, and not only with what."""
    return self.has(*ACTIONS)

  @property
  def silent(self) -> bool:
    """Whether it says nothing at all."""
    return all(w.kind in (_K.FILLER, _K.THAN) for w in self.words)

  def plus(self, added: Sequence[lexicon.Word]) -> "Clause":
    """A clause that says more, in front."""
    return dataclasses.replace(self, words=(*added, *self.words))


def split(read: words.Words) -> list[Clause]:
  """The clauses of a directive; those that say nothing are left out.

  Args:
    read: its words.
  """
  made: list[Clause] = []
  current: list[lexicon.Word] = []
  link = _K.STOP

  def close(next_link: lexicon.Kind) -> None:
    nonlocal link
    if current:
      text = read.text[current[0].start : current[-1].end]
      made.append(Clause(tuple(current), link, words.shown(text)))
      current.clear()
      link = next_link
    elif next_link is not _K.AND or link is _K.STOP:
      # `, but` separates as `but` does; `; and` as `;` does.
      link = link if link is _K.STOP and made else next_link

  for i, word in enumerate(read.words):
    if word.kind in _LINKS:
      close(_K.BREAK if word.kind is _K.IF else word.kind)
      if word.kind is _K.IF:
        current.append(word)
      elif word.value == "may":
        current.append(word._replace(kind=_K.MAY))
      continue
    if _turns(current, read.words[i : i + _AHEAD]):
      close(_K.BREAK)
    current.append(word)
  close(_K.STOP)
  spoken = [clause for clause in made if not clause.silent]
  return _joined(spoken)


def _turns(
    current: Sequence[lexicon.Word], ahead: Sequence[lexicon.Word]
) -> bool:
  """Whether a new thought begins here although no word separates it.

  `higher accuracy at lower KL` does both before `lower`; `keep KL low` not.
  """
  if spends(ahead) and current:
    acts = any(w.kind in ACTIONS for w in current)
    about = any(w.kind in (*TARGETS, _K.QUALITY) for w in current)
    return acts and about and not any(_timed(w) for w in current)
  if ahead[0].text.lower() == "without":
    return any(w.kind in (*TARGETS, _K.QUALITY) for w in current)
  starts = ahead[0].kind in _STARTERS or ahead[0].kind is _K.NOT
  if not starts or not any(w.kind in TARGETS for w in current):
    quality = any(w.kind is _K.QUALITY for w in current)
    thing = any(w.kind is _K.OBJECT for w in current)
    if not (starts and quality and thing and ahead[0].kind is not _K.QUALITY):
      return False
  if not any(w.kind in (*ACTIONS, _K.NUMBER) for w in current):
    return False
  if ahead[0].kind is _K.NOT:
    return _follows(ahead[1:], (*TARGETS, _K.QUALITY))
  if current[-1].kind in (_K.NUMBER, _K.THAN, _K.NOT, _K.COMPARE):
    return False
  return _follows(ahead[1:], TARGETS)


def spends(ahead: Sequence[lexicon.Word]) -> bool:
  """Whether a limit of time, candidates or money begins here."""
  if not ahead or ahead[0].kind not in (_K.COMPARE, _K.WITHIN, _K.NUMBER):
    return False
  for word in ahead[:3]:
    if word.kind is _K.NUMBER:
      unit = word.value.unit
      return unit is not None and unit.dimension in BUDGETS
    if word.kind not in (_K.COMPARE, _K.WITHIN, _K.FILLER):
      return False
  return False


def _timed(word: lexicon.Word) -> bool:
  """Whether a word is about how long training takes."""
  if word.kind is _K.METRIC:
    return word.value.metric == "train_seconds"
  if word.kind is _K.QUALITY:
    return word.value.name in ("speed", "length", "size")
  return word.kind in (_K.COMPARE, _K.WITHIN) or word.value == "training"


def _follows(
    ahead: Sequence[lexicon.Word], kinds: tuple[lexicon.Kind, ...]
) -> bool:
  """Whether one of the kinds comes before the clause ends."""
  for word in ahead:
    if word.kind in _LINKS:
      return False
    if word.kind in kinds:
      return True
  return False


def _joined(made: Sequence[Clause]) -> list[Clause]:
  """Clauses of mere subjects go to the one that says something of them.

  `answers that are shorter`: the object goes to what follows.
  """
  done: list[Clause] = []
  carried: tuple[lexicon.Word, ...] = ()
  for i, clause in enumerate(made):
    bare = not clause.has(
        *ACTIONS, *TARGETS, _K.NUMBER, _K.COMPARE, _K.NOT
    ) and clause.has(_K.OBJECT, _K.WEIGHT, _K.STRICT, _K.MAY)
    following = i + 1 < len(made) and made[i + 1].link is not _K.STOP
    if bare and following and _lists_things(clause, made[i + 1]):
      done.append(clause.plus([*carried, *_described(made[i + 1])]))
      carried = ()
    elif bare and following:
      carried = (*carried, *clause.words)
    elif bare and done and _lists_things(clause, done[-1], clause.link):
      done.append(clause.plus(_described(done[-1])))
    elif bare and done and clause.link is not _K.STOP:
      done[-1] = dataclasses.replace(
          done[-1], words=(*done[-1].words, *clause.words)
      )
    else:
      done.append(clause.plus(carried))
      carried = ()
  return done


def _lists_things(
    clause: Clause, other: Clause, link: lexicon.Kind | None = None
) -> bool:
  """Whether two things are described at once: `shorter code and answers`."""
  joined = (link or other.link) in (_K.AND, _K.OR)
  both = clause.has(_K.OBJECT) and other.has(_K.OBJECT)
  return joined and both


def _described(clause: Clause) -> list[lexicon.Word]:
  """What a clause says of its object."""
  return [w for w in clause.words if w.kind not in (_K.OBJECT, _K.FILLER)]
