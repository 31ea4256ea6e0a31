"""From the text of a directive to words of the lexicon, spelling mended."""

from collections.abc import Mapping, Sequence
import functools
import math
import re
from typing import NamedTuple
import unicodedata

from poise_jax.discovery.directives import (
    context,
    function_words,
    lexicon,
    numbers,
    spelling,
    unmeasured,
)
from poise_jax.discovery.directives import sets as sets_lib

LONGEST = 4000
_K = lexicon.Kind
_TOKEN = re.compile(
    r"[a-z]+(?:'[a-z]+)?"
    r"|(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?:e[+-]?\d+(?![a-z]))?"
    r"|<=|>=|==|[^\s]|\n",
    re.IGNORECASE,
)
_SIGNS = {
    "\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "`": "'",
    "\u2264": "<=", "\u2265": ">=", "\u00d7": "x", "\u2013": " - ",
    "\u2014": " - ", "_": " ", "\u2022": ",", "*": ",", "(": " ", ")": ",",
    "[": " ", "]": ",", "\r": "\n", "\u2026": ".",
}  # fmt: skip


class DirectiveError(ValueError):
  """A directive that cannot be read; names the clause and what can be."""


class Words(NamedTuple):
  """A directive cut into words.

  Attributes:
    text: normalised, what positions refer to.
    words: in their order.
    mended: what was misspelt -> how it was read.
  """

  text: str
  words: tuple[lexicon.Word, ...]
  mended: Mapping[str, str]


def _table() -> dict[tuple[str, ...], lexicon.Lexeme]:
  """Phrase, as its tokens, to what it says; the first meaning counts."""
  made: dict[tuple[str, ...], lexicon.Lexeme] = {}
  for source in (unmeasured.phrases, lexicon.phrases, function_words.phrases):
    for phrase, lexeme in source():
      key = (
          ("\n",)
          if phrase == "\n"
          else tuple(_bare(t) for t in _TOKEN.findall(phrase.lower()))
      )
      made.setdefault(key, lexeme)
  return made


def _bare(token: str) -> str:
  """A token without a possessive s."""
  return token[:-2] if token.endswith("'s") and len(token) > 2 else token


TABLE = _table()
_LONGEST_PHRASE = max(map(len, TABLE))
_STARTS = frozenset(key[0] for key in TABLE)
VOCABULARY = frozenset(
    word for key in TABLE for word in key if word[0].isalpha()
) | frozenset(numbers.WORDS)


def normalised(text: str) -> str:
  """A text in one alphabet of signs, hyphens as spaces."""
  plain = unicodedata.normalize("NFKC", text)
  plain = "".join(_SIGNS.get(c, c) for c in plain)
  plain = re.sub(r"(?<=[^\W_])-(?=[^\W_])", " ", plain)
  # A list's dash separates; `-20%` and `+5 %` are changes.
  plain = re.sub(r"(?:(?<=\s)|^)-(?=\s)", ",", plain)
  plain = re.sub(r"(?:(?<=[\s:])|^)-(?=\d{1,3} ?%)", "down by ", plain)
  return re.sub(r"(?:(?<=[\s:])|^)\+(?=\d{1,3} ?%)", "up by ", plain)


def read(text: str) -> Words:
  """Cuts a directive into words of the lexicon.

  Args:
    text: of any content.

  Raises:
    DirectiveError: if it is empty or too long, or a word of it is not known.
  """
  if len(text) > LONGEST:
    raise DirectiveError(
        f"`text` must have at most {LONGEST} characters, got {len(text)}; say"
        " it in fewer sentences"
    )
  plain = normalised(text)
  tokens = [
      (_bare(match.group().lower()), match.start(), match.end())
      for match in _TOKEN.finditer(plain)
  ]
  mended: dict[str, str] = {}
  for i, (token, start, end) in enumerate(tokens):
    right = _known(token, plain, start, end)
    if right != token:
      mended[token] = right
      tokens[i] = (right, start, end)
  made = context.settled(_words(tokens, plain))
  return Words(plain, tuple(made), mended)


def clause_at(text: str, start: int, end: int) -> str:
  """What stands around a place, up to the next signs that separate."""
  breaks = ";.!?\n"
  while start > 0 and text[start - 1] not in breaks:
    start -= 1
  while end < len(text) and text[end] not in breaks:
    end += 1
  return shown(text[start:end])


def shown(text: str) -> str:
  """A text on one line, cut off where it is long."""
  line = " ".join(text.split())
  return line if len(line) <= 160 else line[:157] + "..."


def _known(token: str, text: str, start: int, end: int) -> str:
  """The word of the lexicon that a token is, or is meant to be."""
  if not token[0].isalpha() or not token.isascii():
    if token in _STARTS or numbers.is_number(token):
      return token
    what = "character" if len(token) == 1 else "word"
    raise DirectiveError(
        f"the {what} {shown(token)!r} in {clause_at(text, start, end)!r} is not"
        " understood; leave it out or say it in plain words"
    )
  if token in VOCABULARY or token in numbers.SUFFIXES:
    return token
  found, near = _nearest(token)
  if found is not None:
    return found
  hint = spelling.hint(token)
  meant = f", did you mean {' or '.join(near)}?" if near else ""
  raise DirectiveError(
      f"{shown(token)!r} in {clause_at(text, start, end)!r} is nothing that can be"
      f" measured or understood{meant}{hint}"
  )


@functools.lru_cache(maxsize=256)
def _nearest(token: str) -> tuple[str | None, list[str]]:
  return spelling.nearest(token, VOCABULARY, _meaning)


@functools.lru_cache(maxsize=4096)
def _meaning(word: str) -> object:
  """What a word says on its own; the word itself if nothing."""
  return TABLE.get((word,), word)


def _words(
    tokens: Sequence[tuple[str, int, int]], text: str
) -> list[lexicon.Word]:
  """Takes the longest phrases, and joins numbers with their units."""
  made: list[lexicon.Word] = []
  i = 0
  while i < len(tokens):
    count, lexeme = _next(tokens, i, made)
    if lexeme is None:
      token, start, end = tokens[i]
      raise DirectiveError(
          f"{shown(token)!r} in {clause_at(text, start, end)!r} is not understood"
          f" on its own; say it in other words{spelling.hint(token)}"
      )
    start, end = tokens[i][1], tokens[i + count - 1][2]
    made.append(lexicon.Word(*lexeme, text[start:end], start, end))
    i += count
  return made


def _next(
    tokens: Sequence[tuple[str, int, int]], i: int, made: Sequence[lexicon.Word]
) -> tuple[int, lexicon.Lexeme | None]:
  """How many tokens the phrase at a place has, and what it says."""
  ahead = [token for token, _, _ in tokens[i : i + 12]]
  special, exponent = numbers.pass_at(ahead)
  if special:
    if exponent not in (1, sets_lib.TRIES):
      raise DirectiveError(
          f"pass@{exponent:g} is not measured: there are pass@1, and pass@k with"
          f" k = {sets_lib.TRIES}"
      )
    family = "pass_at_1" if exponent == 1 else "pass_at_k"
    return special, lexicon.Lexeme(_K.METRIC, lexicon.Noun(family))
  best = next(
      (
          n
          for n in range(min(_LONGEST_PHRASE, len(ahead)), 0, -1)
          if tuple(ahead[:n]) in TABLE
      ),
      0,
  )
  # A phrase such as `aime 24` or `three times` is more than its number.
  count, quantity = numbers.quantity(ahead)
  if quantity is not None and count >= best:
    if not math.isfinite(quantity.number):
      return 0, None
    return count, lexicon.Lexeme(_K.NUMBER, quantity)
  return best, TABLE[tuple(ahead[:best])] if best else None
