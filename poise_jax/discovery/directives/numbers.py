"""Numbers and quantities in words: `1.5k tokens`, `half an hour`, `$5`."""

from collections.abc import Mapping, Sequence
import math
import re

from poise_jax.discovery.directives import function_words, lexicon

_UNITS: Mapping[str, lexicon.Unit] = {
    name: unit
    for unit, names in function_words.UNITS.items()
    for name in names.split("|")
}
_LONGEST_UNIT = max(len(name.split()) for name in _UNITS)
_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve"
    " thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_VALUES: Mapping[str, float] = {
    **{word: float(i) for i, word in enumerate(_SMALL)},
    **{word: 10.0 * (i + 2) for i, word in enumerate(_TENS)},
    "dozen": 12.0,
}
_SCALES = function_words.SCALES | {"hundred": 100.0}
SUFFIXES = frozenset({"k", "m", "x", "h", "s"})
WORDS = (
    frozenset(_VALUES)
    | frozenset(_SCALES)
    | frozenset(
        word for name in _UNITS for word in name.split() if word[0].isalpha()
    )
)
_DIGITS = re.compile(r"[\d.]")


def is_number(token: str) -> bool:
  """Whether a token is made of digits, or a sign that belongs to one."""
  return bool(_DIGITS.match(token)) or token in ("%", "$", "@")


def pass_at(ahead: Sequence[str]) -> tuple[int, float]:
  """Length and k of `pass@32` or `pass at 8`; 0 if it is none."""
  if len(ahead) > 2 and ahead[0] == "pass" and ahead[1] in ("@", "at"):
    if ahead[2].isdecimal() and int(ahead[2][:9]) > 0:
      return 3, _float(ahead[2])
  return 0, 0.0


def quantity(
    ahead: Sequence[str],
) -> tuple[int, lexicon.Quantity | None]:
  """Reads a number, with the unit that goes with it.

  Args:
    ahead: the next tokens.

  Returns:
    How many of them it is made of, and its value; 0 and None if the next one
    begins no number.
  """
  if ahead[0] == "$" and len(ahead) > 1:
    count, value = _number(ahead[1:])
    if count:
      return count + 1, lexicon.Quantity(value, lexicon.Unit("dollars"))
  count, value = _number(ahead)
  if not count:
    return 0, None
  words = ahead[count:]
  if ahead[0] in ("a", "an", "half") and words[:1] in (["a"], ["an"]):
    words, count = words[1:], count + 1
  for n in range(min(_LONGEST_UNIT, len(words)), 0, -1):
    unit = _UNITS.get(" ".join(words[:n]))
    if unit is not None:
      scaled = lexicon.Quantity(value * unit.factor, lexicon.Unit(*unit[:1]))
      return count + n, scaled
  if ahead[0] in ("a", "an", "half"):
    return 0, None
  return count, lexicon.Quantity(value, None)


def _number(ahead: Sequence[str]) -> tuple[int, float]:
  """Length and value of a number in digits or words; 0 if there is none."""
  first = ahead[0]
  if first in ("a", "an", "half"):
    follows = ahead[1:2] if first != "half" else ahead[2:3]
    if follows == ["dozen"]:
      return (2, 12.0) if first != "half" else (3, 6.0)
    timed = follows and _UNITS.get(follows[0])
    if timed and timed.dimension == "seconds" and len(follows[0]) > 2:
      return 1, 0.5 if first == "half" else 1.0
    return 0, 0.0
  if first[0].isdecimal() or (first[0] == "." and len(first) > 1):
    count, value = 1, _float(first.replace(",", ""))
  elif first in _VALUES:
    count, value = 1, _VALUES[first]
    if first in _TENS and len(ahead) > 1 and ahead[1] in _SMALL[1:10]:
      count, value = 2, value + _VALUES[ahead[1]]
  else:
    return 0, 0.0
  while count < len(ahead) and ahead[count] in _SCALES:
    # `30m` could as well be minutes.
    value, count = value * _SCALES[ahead[count]], count + 1
  return count, value


def _float(digits: str) -> float:
  """A number, infinite where it is too large for one."""
  try:
    return float(digits)
  except (ValueError, OverflowError):
    return math.inf
