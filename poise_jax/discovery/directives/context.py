"""Words that mean one thing or another by what stands next to them."""

from collections.abc import Sequence
import itertools

from poise_jax.discovery.directives import lexicon

_K = lexicon.Kind
_LOSS = ("loss", "losses")
_ENDS = (_K.STOP, _K.BREAK, _K.AND, _K.OR)
_PREFERRING = ("prefer", "prefers", "preferring", "favour", "favor")
_EXTREMES = {
    "maximum": "<=", "maximal": "<=", "minimum": ">=", "minimal": ">=",
}  # fmt: skip
_MOTIVES = ("for", "in return", "in exchange for")
_SHORTER = lexicon.Quality("length", -1, True)
_FASTER = lexicon.Quality("speed", 1, True)
_ALONE = {
    **dict.fromkeys(
        ("more", "above", "higher", "greater", "over"), (_K.CHANGE, "more")
    ),
    "better": (_K.IMPROVE, None),
    "shorter": (_K.QUALITY, _SHORTER),
    "faster": (_K.QUALITY, _FASTER),
    "quicker": (_K.QUALITY, _FASTER),
}
# After these, `loss` is of a metric; elsewhere it is a function.
_LOSERS = (_K.METRIC, _K.SET, _K.NUMBER, _K.NOT, _K.COMPARE)


def settled(words: Sequence[lexicon.Word]) -> list[lexicon.Word]:
  """Decides for each word what it is where it stands.

  Args:
    words: with the first meaning that the lexicon has.

  Returns:
    As many or fewer: `more than 2` is a comparison, `weight 2` a weight.
  """
  made: list[lexicon.Word] = []
  words = _bounded(_preferred(words))
  given_up = motive = False
  i = 0
  while i < len(words):
    count, word = _counted(words[i : i + 3])
    if count == 1:
      word = _settled(word, made, words[i + 1 : i + 2])
    if word.kind in _ENDS:
      given_up = motive = False
    given_up = given_up or (word.kind is _K.HARM and word.value == "down")
    motive = motive or (given_up and word.text.lower() in _MOTIVES)
    # `don't give up accuracy for brevity` is about accuracy.
    made.append(word._replace(kind=_K.FILLER) if motive else word)
    made[-1:] = _unjoined(made)
    i += count
  return made


def _preferred(words: Sequence[lexicon.Word]) -> list[lexicon.Word]:
  """`prefer accuracy to brevity` ranks them, as `rather than` does."""
  made = list(words)
  asked = named = False
  for i, word in enumerate(words):
    if word.kind in _ENDS:
      asked = named = False
    elif word.text.lower() in _PREFERRING:
      asked, named = True, False
    elif asked and named and word.kind is _K.TO:
      made[i] = word._replace(kind=_K.IMPORTANT, value=2.0)
      asked = False
    named = named or word.kind in (_K.METRIC, _K.QUALITY)
  return made


def _bounded(words: Sequence[lexicon.Word]) -> list[lexicon.Word]:
  """`maximum length of 300`: a limit; without a number it is an aim."""
  made = list(words)
  for i, word in enumerate(words):
    op = _EXTREMES.get(word.text.lower())
    if op is None or word.kind is not _K.CHANGE:
      continue
    rest = itertools.takewhile(lambda w: w.kind not in _ENDS, words[i + 1 :])
    kinds = [w.kind for w in rest]
    if _K.NUMBER in kinds and _K.COMPARE not in kinds:
      made[i] = word._replace(kind=_K.COMPARE, value=op)
  return made


def _counted(words: Sequence[lexicon.Word]) -> tuple[int, lexicon.Word]:
  """How many words belong together before or with a number, as one."""
  first, kinds = words[0], [word.kind for word in words]
  if kinds == [_K.CHANGE, _K.THAN, _K.NUMBER]:
    if first.value in ("more", "less"):
      side = ">" if first.value == "more" else "<"
      return 2, _merged(words[:2], _K.COMPARE, side)
  if first.kind is _K.WEIGH:
    count = 3 if kinds[1:] == [_K.FILLER, _K.NUMBER] else 2
    last = words[count - 1] if len(words) >= count else first
    if last.kind is _K.NUMBER and not last.value.unit:
      factor = float(last.value.number)
      return count, _merged(words[:count], _K.WEIGHT, factor)
  return 1, first


def _settled(
    word: lexicon.Word,
    before: Sequence[lexicon.Word],
    after: Sequence[lexicon.Word],
) -> lexicon.Word:
  """One word as what it is between its neighbours."""
  if word.kind is _K.TOO:
    follows = after and after[0].kind in (_K.QUALITY, _K.CHANGE)
    return word if follows else word._replace(kind=_K.FILLER)
  if word.value in ("<", ">") and before and _is_part(before[-1]):
    # `5 % above the root` is a change, `above 5 %` a limit.
    change = "more" if word.value == ">" else "less"
    return word._replace(kind=_K.CHANGE, value=change)
  if word.text.lower() == "up to" and _is_raised(before):
    return word._replace(kind=_K.CHANGE, value=1)
  if word.text.lower() in _LOSS and _is_of_metric(before):
    return word._replace(kind=_K.HARM, value="down")
  return word


def _unjoined(made: Sequence[lexicon.Word]) -> list[lexicon.Word]:
  """The last word; `or less` is two of them where no number comes before."""
  word = made[-1]
  head, _, rest = word.text.lower().partition(" ")
  counted = any(w.kind is _K.NUMBER for w in made[-6:])
  if word.kind is not _K.COMPARE or head != "or" or counted:
    return [word]
  kind, value = _ALONE.get(rest, (_K.CHANGE, "less"))
  at = word.start + word.text.lower().index(rest)
  joined = word._replace(kind=_K.OR, value=None, text=head, end=at)
  return [joined, word._replace(kind=kind, value=value, text=rest, start=at)]


def _is_of_metric(before: Sequence[lexicon.Word]) -> bool:
  """Whether a loss is a loss of something measured."""
  said = [word for word in before[-3:] if word.kind is not _K.FILLER]
  if not said:
    return False
  low = said[-1].kind is _K.CHANGE and said[-1].value in ("low", "less")
  return said[-1].kind in _LOSERS or low


def _is_part(word: lexicon.Word) -> bool:
  """Whether a word is a percentage."""
  return word.kind is _K.NUMBER and word.value.unit == lexicon.Unit("%")


def _is_raised(before: Sequence[lexicon.Word]) -> bool:
  """Whether `up to` is where a rise ends, as in `bring X up to 1`."""
  verbs = ("bring", "brings", "bringing", "get", "push", "drive", "drives")
  return (
      bool(before)
      and before[-1].kind in (_K.METRIC, _K.SET)
      and any(w.text.lower() in verbs for w in before[-5:])
  )


def _merged(
    words: Sequence[lexicon.Word], kind: lexicon.Kind, value: object
) -> lexicon.Word:
  """Several words as one."""
  text = " ".join(word.text for word in words)
  return lexicon.Word(kind, value, text, words[0].start, words[-1].end)
