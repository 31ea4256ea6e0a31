"""What clauses that are joined share, filled in.

`reduce length and KL by 30%` are two clauses, of which each borrows what it
lacks from its neighbour. Only words are copied; nothing is interpreted here.
"""

from collections.abc import Sequence

from poise_jax.discovery.directives import clauses, lexicon

_K = lexicon.Kind
_ACTIONS, _TARGETS = clauses.ACTIONS, clauses.TARGETS
_LISTS = (_K.AND, _K.OR)


def completed(made: Sequence[clauses.Clause]) -> list[clauses.Clause]:
  """Clauses with what they take over from their neighbours.

  Args:
    made: from `clauses.split`.
  """
  done: list[clauses.Clause] = []
  acting = _acting(made)
  for i, clause in enumerate(made):
    before = done[-1] if done and clause.link is not _K.STOP else None
    after = made[i + 1] if i + 1 < len(made) else None
    if before is not None:
      clause = _from_before(clause, before)
    if after is not None and after.link in _LISTS:
      clause = _from_after(clause, after, acting[i + 1])
    done.append(clause)
  return done


def _of(clause: clauses.Clause, *kinds: lexicon.Kind) -> list[lexicon.Word]:
  return [word for word in clause.words if word.kind in kinds]


def _from_before(
    clause: clauses.Clause, before: clauses.Clause
) -> clauses.Clause:
  """What a clause takes over from the one that it is joined to."""
  if clause.has(_K.IMPORTANT) and _lacks_subject(clause):
    return clause.plus(_of(before, _K.METRIC, _K.SET))
  added: list[lexicon.Word] = []
  own_noun = clause.has(_K.METRIC, _K.MECHANISM)
  if clause.has(_K.SET) and not own_noun and clause.link is not _K.BREAK:
    added += _of(before, _K.METRIC)
  if clause.link in _LISTS:
    added += _listed(clause, before)
  elif clause.has(_K.NOT) and not clause.acts:
    added += _contrasted(clause, before)
  amount = clauses.spends(_of(clause, _K.NUMBER)) or _bare(clause)
  if not amount and not clause.has(_K.OBJECT, *_TARGETS, _K.QUALITY):
    # `may go up or down`, `is raised or held`: more about the same subject.
    added += _of(before, _K.METRIC, _K.SET, _K.OBJECT)
  return clause.plus(added)


def _bare(clause: clauses.Clause) -> bool:
  """Whether it is a number of which nothing is said: `but 1 % is fine`."""
  said = (_K.COMPARE, _K.WITHIN, _K.BY, _K.TO, _K.ROOT, *_ACTIONS)
  return clause.has(_K.NUMBER) and not clause.has(*said)


def _contrasted(
    clause: clauses.Clause, before: clauses.Clause
) -> list[lexicon.Word]:
  """`raise accuracy but not length`: what is not to be done to it."""
  if clause.has(_K.METRIC) and not clause.has(_K.COMPARE, _K.MECHANISM):
    return _of(before, _K.CHANGE, _K.IMPROVE)
  return []


def _listed(
    clause: clauses.Clause, before: clauses.Clause
) -> list[lexicon.Word]:
  """What a list has in common: its verb, its negation, its object."""
  if clause.has(_K.MECHANISM) and before.has(_K.MECHANISM):
    own = clause.has(_K.NOT, _K.USE, *_ACTIONS)
    return [] if own else _of(before, _K.NOT)
  if clause.has(_K.NOT) and not clause.acts:
    return _contrasted(clause, before)
  if not clause.acts and not clause.has(_K.COMPARE, _K.WITHIN):
    return _shared(clause, before) if clause.has(_K.METRIC, _K.SET) else []
  if _is_denied_too(clause, before):
    return _of(before, _K.NOT, _K.HOLD)
  if not clause.has(_K.OBJECT, *_TARGETS) and clause.has(_K.QUALITY):
    return _same_object(clause, before)
  return []


def _is_denied_too(clause: clauses.Clause, before: clauses.Clause) -> bool:
  """Whether the negation of the first reaches to this one.

  `don't A or B`, `without losing A and raising B`, `keep A from falling and B
  from rising`, `avoid A collapse and B explosion`.
  """
  if clause.has(_K.NOT, _K.HOLD) or not before.has(_K.NOT, _K.HOLD):
    return False
  if before.has(_K.NOT):
    if clause.link is _K.OR or clause.has(_K.COLLAPSE, _K.EXPLODE):
      return True
    if _participle(clause) and _participle(before):
      return True
  return clause.says("from") and before.says("from")


def _same_object(
    clause: clauses.Clause, before: clauses.Clause
) -> list[lexicon.Word]:
  """`keep answers short and accurate`: the answers, and to keep them so."""
  if not before.has(_K.QUALITY, _K.OBJECT):
    return []
  added = _of(before, _K.OBJECT)
  if not clause.has(_K.HOLD) and not before.has(_K.NUMBER, _K.METRIC):
    added += _of(before, _K.HOLD)
  return added


def _lacks_subject(clause: clauses.Clause) -> bool:
  """Whether nothing stands before `twice the weight of`."""
  for word in clause.words:
    if word.kind is _K.IMPORTANT:
      return word.text.lower().endswith((" as", " of", " than"))
    if word.kind in (*_TARGETS, _K.QUALITY):
      return False
  return False


def _shared(
    clause: clauses.Clause, before: clauses.Clause
) -> list[lexicon.Word]:
  """The action, and the limit unless the clause brings its own."""
  kinds: tuple[lexicon.Kind, ...] = (
      _K.CHANGE, _K.IMPROVE, _K.HARM, _K.HOLD, _K.STEADY, _K.NOT,
      _K.COLLAPSE, _K.EXPLODE, _K.STRICT, _K.BY, _K.TO, _K.COMPARE,
      _K.WITHIN, _K.FREE, _K.TIMES, _K.ROOT,
  )  # fmt: skip
  if not clause.has(_K.NUMBER):
    kinds = (*kinds, _K.NUMBER)
  made = _of(before, *kinds)
  if not clause.has(_K.WEIGHT) and before.words[0].kind is _K.WEIGHT:
    # `mainly A and B` is of both; `A first, then B` is not.
    made += _of(before, _K.WEIGHT)
  return made


def _from_after(
    clause: clauses.Clause, after: clauses.Clause, acting: clauses.Clause | None
) -> clauses.Clause:
  """What a clause takes over from those that follow.

  `AIME24 and AIME25 accuracy`, `accuracy and entropy should rise`, `shorter
  and simpler code`.
  """
  added: list[lexicon.Word] = []
  if clause.has(_K.SET) and not clause.has(_K.METRIC) and not after.acts:
    if after.has(_K.SET):
      added += _of(after, _K.METRIC)
  if clause.has(_K.METRIC, _K.SET) and not (
      clause.acts or clause.has(_K.COMPARE, _K.NUMBER, _K.WITHIN, _K.NOT)
  ):
    if acting is not None and _subject_first(acting):
      added += [
          w
          for w in _of(
              acting, _K.NOT, *_ACTIONS, _K.STRICT, _K.BY, _K.COMPARE,
              _K.NUMBER, _K.WITHIN, _K.MAY, _K.ROOT,
          )
          if w.kind is not _K.IMPORTANT
      ]  # fmt: skip
  elif clause.has(_K.QUALITY) and not clause.has(_K.OBJECT, *_TARGETS):
    if after.has(_K.QUALITY):
      added += _of(after, _K.OBJECT)
  return clause.plus(added)


def _acting(made: Sequence[clauses.Clause]) -> list[clauses.Clause | None]:
  """For each clause, the first of its list from there on that says what to do.

  A list is joined by `and` and `or`; None where it ends before.
  """
  found: list[clauses.Clause | None] = [None] * len(made)
  for i in reversed(range(len(made))):
    if made[i].acts or made[i].has(_K.COMPARE, _K.NOT, _K.WITHIN):
      found[i] = made[i]
    elif i + 1 < len(made) and made[i + 1].link in (_K.AND, _K.OR):
      found[i] = found[i + 1]
  return found


def _subject_first(clause: clauses.Clause) -> bool:
  """Whether a clause names its subject before it says anything of it."""
  said = (*_ACTIONS, _K.COMPARE, _K.NOT, _K.WITHIN, _K.NUMBER)
  for word in clause.words:
    if word.kind in (_K.METRIC, _K.SET):
      return True
    if word.kind in said:
      return False
  return False


def _participle(clause: clauses.Clause) -> bool:
  """Whether its verb ends as in `losing`."""
  verbs = _of(clause, _K.CHANGE, _K.HARM, _K.IMPROVE, _K.QUALITY, _K.STEADY)
  return any(verb.text.lower().endswith("ing") for verb in verbs)
