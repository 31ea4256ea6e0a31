r"""One way to write an answer, and numbers in plain notation.

Answers are written in many ways that mean the same: ``\dfrac12``, ``\frac 12``,
``1/2``, ``.5``; ``10,\!080``, ``10,080``, ``\$10080``; ``30^\circ``, ``30``
``\text{ degrees}``. `normal` removes such differences from LaTeX, `number` reads
what is a plain number. Units, currency signs and degree signs are dropped: of
public graders none holds an answer wrong for them. Two exceptions: a letter that
stands right behind a number is a variable (``6m``), and `units_differ` tells
``3 cm`` from ``3 km``.
"""

import fractions
import math
import re
from typing import NamedTuple
import unicodedata

LONGEST = 1000  # symbols of an answer that are looked at
_LARGEST_EXPONENT = 400

_UNICODE = str.maketrans({
    "−": "-", "–": "-", "—": "-", "×": r"\times ", "÷": "/", "·": r"\cdot ",
    "π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ", "≤": r"\le ",
    "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "±": r"\pm ", "²": "^2", "³": "^3", "⁴": "^4", "½": r"\frac{1}{2}",
    "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "θ": r"\theta ",
    "∅": r"\emptyset ", "′": "'", "’": "'", "⁻": "^-", "¹": "^1",
    "\u200b": "", "\ufeff": "",
})  # fmt: skip
_ROOT_SIGN = re.compile(r"√\s*(?:\(([^()]*)\)|(\w+))")
_SUBSTITUTIONS = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"\\(?:boxed|fbox)(?![a-zA-Z])", ""),
        (r"\\(?:display|text|script)style(?![a-zA-Z])", ""),
        (r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![a-zA-Z])\s*\.?", ""),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\!\s*", ""),
        (r"\\(?:[,;:>]|q?quad(?![a-zA-Z])|thinspace(?![a-zA-Z]))", " "),
        (r"(?<!\\)\\\s", " "),
        (r"~", " "),
        (r"\{\s*,\s*\}", ","),
        (r"\\lbrace(?![a-zA-Z])", r"\\{"),
        (r"\\rbrace(?![a-zA-Z])", r"\\}"),
        (r"\\lbrack(?![a-zA-Z])", "["),
        (r"\\rbrack(?![a-zA-Z])", "]"),
        (r"\\[lr]vert(?![a-zA-Z])", "|"),
        (r"\\leqs?(?:lant)?(?![a-zA-Z])|<=", r"\\le "),
        (r"\\geqs?(?:lant)?(?![a-zA-Z])|>=", r"\\ge "),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\neq(?![a-zA-Z])", r"\\ne "),
        (r"\\(?:varnothing|O)(?![a-zA-Z])", r"\\emptyset "),
        (r"\\(?:mbox|textnormal|textbf|textit|textrm|mathrm|mathbf|mathit"
         r"|mathsf|mathtt|operatorname\*?)(?=\s*\{)", r"\\text"),
        (r"\{\s*\\(?:rm|bf|it)(?![a-zA-Z])\s*([^{}]*)\}", r"\\text{\1}"),
        (r"\\text\s*\{\s*\}", " "),
        (r",?\s*\\text\s*\{\s*,?\s*(?:and|or)\s*\}", ","),
        (r",?\s+(?:and|or)\s+", ","),
        (r"\^\s*\{?\s*\\(?:circ|degree)(?![a-zA-Z])\s*\}?", " "),
        (r"\\degree(?![a-zA-Z])", " "),
        (r"\\(?:bmod|pmod)(?![a-zA-Z])", r"\\mod "),
        (r"\b(?:np|math|numpy|sp|sympy)\.(?=[a-z])", ""),
        (r"\*\*", "^"),
        (r"(?<![a-zA-Z\\])(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot"
         r"|sec|csc|log|ln|exp|pi|infty)(?![a-zA-Z])", r"\\\1 "),
        (r"(?<![a-zA-Z\\])(?:infinity|inf|oo)(?![a-zA-Z])", r"\\infty "),
        (r"(?<![a-zA-Z\\])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(?<![a-zA-Z\\])sqrt(?=\s*[\d{])", r"\\sqrt"),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"(\\frac\s*\{[^{}]*\})\s*(\d)", r"\1{\2}"),
        (r"\\sqrt\s*(\d)", r"\\sqrt{\1}"),
        (r"(?<![\w.])\.(?=\d)", "0."),
        (r"(\d)[eE]([-+]?\d+)(?!\w|\.\d)", r"\1 \\times 10^{\2}"),
        (r"\s+", " "),
    )
)  # fmt: skip
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_TRAILING_TEXT = re.compile(
    r"(?<=[\w}).%])\s*\\text\s*\{[^{}]*\}\s*(?:\^\s*\{?-?\d\}?)?"
    r"(?:\s*/\s*\\text\s*\{[^{}]*\}(?:\s*\^\s*\{?-?\d\}?)?)?\s*\Z"
)
_TRAILING_WORDS = re.compile(
    r"(?<=[\d}).% ])\s*(?<![a-zA-Z\\])"
    r"(?:[a-zA-Z]{3,}|in|of|ft|cm|mm|km|kg|lb|mg|ml|hr)"
    r"(?:[ -](?:[a-zA-Z]{3,}|of|in|to|a|per|ft|cm|mm|km))*"
    r"(?:\s*/\s*[a-zA-Z]+)?(?:\s*\^\s*\{?-?\d\}?)?\s*\Z"
)
# One letter counts only behind a space: 6m may be six times m.
_SHORT_UNIT = re.compile(
    r"(?<=[\d}).])(?:\s+(?:[mghslLJNWVAK])|\s*(?:[kcm]m|kg|ms|hr|hrs|mi|yd|ft|in"
    r"|lbs?|oz|m[lL]|k[JNWVA]|k?Pa|Hz|eV)|\s*(?:k?m|mi|ft)/(?:s|h))"
    r"(?:\s*\^\s*\{?-?\d\}?)?\Z"
)
# Ways to write a unit, the first of which stands for all.
_UNITS = {
    name: names.split()[0]
    for names in (
        "mm millimeter millimeters millimetre millimetres",
        "cm centimeter centimeters centimetre centimetres",
        "m meter meters metre metres",
        "km kilometer kilometers kilometre kilometres kms",
        "in inch inches",
        "ft foot feet",
        "yd yard yards yds",
        "mi mile miles",
        "mg milligram milligrams",
        "g gram grams",
        "kg kilogram kilograms kgs",
        "oz ounce ounces",
        "lb lbs pound pounds",
        "ton tons tonne tonnes",
        "ml mL milliliter milliliters millilitre millilitres",
        "l L liter liters litre litres",
        "gal gallon gallons",
        "ms millisecond milliseconds",
        "s sec secs second seconds",
        "min mins minute minutes",
        "h hr hrs hour hours",
        "day days",
        "week weeks",
        "month months",
        "year years",
        "cent cents",
        "dollar dollars",
        "degree degrees deg",
        "rad radian radians",
        "J joule joules",
        "kJ kilojoule kilojoules",
        "N newton newtons",
        "W watt watts",
        "kW kilowatt kilowatts",
        "V volt volts",
        "kV kilovolt kilovolts",
        "A amp amps ampere amperes",
        "K kelvin kelvins",
        "Pa pascal pascals",
        "kPa kilopascal kilopascals",
        "Hz hertz",
        "eV",
    )
    for name in names.split()
}
_TEXT_COMMAND = re.compile(r"\\text(?![a-zA-Z])")
_CURRENCY = re.compile(
    r"\A([-+]?)\s*(?:\\?\$|[€£¥₹]|US\$|USD)\s*([-+]?)\s*(?=[\d.])"
)
_PERCENT = re.compile(
    r"\s*(?:\\?%|\\text\s*\{\s*(?:percent|%|\\%)\s*\}|percent)\s*\Z"
)

_UNSIGNED = (
    r"(?:\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d{1,3}(?: \d{3})+|\d+\.?\d*|\.\d+)"
)
_PLAIN = re.compile(rf"([-+]?) ?({_UNSIGNED})")
_POWER = re.compile(
    rf"([-+]?) ?(?:({_UNSIGNED}) ?(?:\\times|\\cdot|\*|x) ?)?"
    r"10 ?\^ ?(?:\{ ?([-+]?\d+) ?\}|\( ?([-+]?\d+) ?\)|([-+]?\d+))"
)
_FRACTION = re.compile(
    rf"([-+]?) ?(?:\\frac ?\{{ ?([-+]?) ?({_UNSIGNED}) ?\}} ?"
    rf"\{{ ?([-+]?) ?({_UNSIGNED}) ?\}}"
    rf"|({_UNSIGNED}) ?/ ?([-+]?)({_UNSIGNED}))"
)
_MIXED = re.compile(
    r"([-+]?) ?(\d+) ?(?:\\frac ?\{ ?(\d+) ?\} ?\{ ?(\d+) ?\}|(?<= )(\d+)/(\d+))"
)


class Number(NamedTuple):
  """A plain number.

  Attributes:
    value: exactly as written, without the percent sign.
    percent: whether a percent sign was there.
    exact: without a decimal point or a power of ten.
    scientific: written with a power of ten.
  """

  value: fractions.Fraction
  percent: bool
  exact: bool
  scientific: bool


def normal(text: str) -> str:
  r"""Writes an answer in one way; may be empty, stays LaTeX.

  Args:
    text: an answer, with or without dollar signs around it.
  """
  text = text.strip().rstrip("\\ ").strip()
  text = _ROOT_SIGN.sub(lambda m: rf"\sqrt{{{m.group(1) or m.group(2)}}}", text)
  text = unicodedata.normalize("NFKC", text.translate(_UNICODE))
  if "matrix" not in text and "array" not in text:
    text = re.sub(r"\\\\(?=[a-zA-Z])", r"\\", text)
  text = re.sub(r"\\[()]|(?<!\\)\\[\[\]]", " ", text)
  text = re.sub(r"\\?\$", " ", text).strip()
  text = re.sub(r"\*\*(?=\s*\Z)|\A\*\*", "", text)
  text = text.replace(r"\%", "%").replace('"', "")
  for pattern, new in _SUBSTITUTIONS:
    text = pattern.sub(new, text)
  text = text.strip().rstrip(".,;:").strip()
  while len(text) > 1 and text[0] == "{" and _closes_at_end(text):
    text = text[1:-1].strip()
  return text


def _closes_at_end(text: str) -> bool:
  """Whether the first brace is closed by the last symbol."""
  depth = 0
  for symbol in re.finditer(r"\\.|[{}]", text):
    depth += {"{": 1, "}": -1}.get(symbol.group(), 0)
    if not depth:
      return symbol.end() == len(text)
  return False


def without_units(text: str) -> str:
  """A normal text without the unit or the words that follow its value."""
  stripped = _CURRENCY.sub(r"\1\2", text)
  stripped = _TRAILING_TEXT.sub("", stripped).strip()
  if re.search(r"[\d}]", stripped) and not re.search(r"=|\\text", stripped):
    words = _TRAILING_WORDS.sub("", stripped).strip()
    if re.search(r"[\d})]\s*%?\Z", words):
      stripped = words
  short = _SHORT_UNIT.sub("", stripped).strip()
  if short != stripped and _read(short) is not None:
    stripped = short
  return stripped or text


def units(text: str) -> tuple[str, ...]:
  """Known units behind the value of a normal text, in one way to write them.

  Of ``5 square feet per hour``, feet and hours: other words and powers are left
  out. Empty if there are none.
  """
  value = without_units(text)
  if not text.startswith(value):
    return ()
  words = re.findall(r"[a-zA-Z]+", _TEXT_COMMAND.sub(" ", text[len(value) :]))
  found = (_UNITS.get(w) or _UNITS.get(w.lower()) for w in words)
  return tuple(unit for unit in found if unit)


def units_differ(gold: str, answer: str) -> bool:
  """Whether each of two normal texts names a unit that the other does not.

  Nothing is converted: 60 minutes are not 1 hour. An answer without a unit, or
  with a part of it, is in that of the gold answer, and the other way round.
  """
  left, right = set(units(gold)), set(units(answer))
  return not (left <= right or right <= left)


def compact(text: str) -> str:
  r"""A normal text without what does not matter: spaces, ``\text``, case.

  Single letters keep their case, since x and X are two variables.
  """
  text = _TEXT.sub(r"\1", text)
  text = re.sub(r"(?<=[_^])\{(\w)\}", r"\1", text)
  text = re.sub(r"\s+", "", text)
  return text if "\\" in text or len(text) < 2 else _fold(text)


def _fold(text: str) -> str:
  """Lower case for words, not for variables."""
  return re.sub(r"[a-zA-Z]{3,}", lambda m: m.group().lower(), text)


def _unsigned(text: str) -> fractions.Fraction:
  text = text.replace(",", "").replace(" ", "")
  return fractions.Fraction(text.rstrip(".") if text != "." else "0")


def _read(text: str) -> tuple[fractions.Fraction, bool, bool] | None:
  """Value, exactness, whether in scientific notation."""
  if len(text) > _LARGEST_EXPONENT:
    return None
  sign = lambda symbol: -1 if symbol == "-" else 1
  if m := _PLAIN.fullmatch(text):
    return sign(m[1]) * _unsigned(m[2]), "." not in m[2], False
  if m := _POWER.fullmatch(text):
    exponent = m[3] or m[4] or m[5]
    if len(exponent) > 4 or abs(int(exponent)) > _LARGEST_EXPONENT:
      return None
    mantissa = _unsigned(m[2] or "1")
    power = fractions.Fraction(10) ** int(exponent)
    exact = "." not in (m[2] or "1") and int(exponent) >= 0
    return sign(m[1]) * mantissa * power, exact, True
  if m := _FRACTION.fullmatch(text):
    top, bottom = _unsigned(m[3] or m[6]), _unsigned(m[5] or m[8])
    if not bottom:
      return None
    signs = sign(m[1]) * sign(m[2]) * sign(m[4] or m[7])
    exact = top.denominator == bottom.denominator == 1
    return signs * top / bottom, exact, False
  if m := _MIXED.fullmatch(text):
    top, bottom = int(m[3] or m[5]), int(m[4] or m[6])
    if not bottom:
      return None
    return (
        sign(m[1]) * (int(m[2]) + fractions.Fraction(top, bottom)),
        True,
        False,
    )
  return None


def number(text: str) -> Number | None:
  """Reads a normal text that is a plain number; None if it is not."""
  stripped = _PERCENT.sub("", text)
  percent = stripped != text
  stripped = without_units(stripped)
  while stripped[:1] == "(" and stripped[-1:] == ")" and "," not in stripped:
    stripped = stripped[1:-1].strip()
  read = _read(stripped)
  if read is None:
    return None
  value, exact, scientific = read
  return Number(value, percent, exact, scientific)


def close(
    gold: float | fractions.Fraction,
    answer: float | fractions.Fraction,
    scientific: bool,
) -> bool:
  """Whether two numbers are equal, at least one being a decimal.

  Six decimal places for ordinary numbers, as math-verify has it. A relative
  tolerance of 1e-4 for those in scientific notation and those below 0.001,
  which are measurements as a rule: six places would make all of the tiny ones
  equal.
  """
  try:
    difference, size = abs(gold - answer), abs(gold)
    if math.isinf(size) or math.isinf(difference):
      return gold == answer
    if scientific or 0 < size < 1e-3:
      return difference <= size / 10_000
    return difference <= fractions.Fraction(5, 10_000_000)
  except (OverflowError, ValueError):
    return False


def same_number(gold: Number, answer: Number) -> bool:
  """Whether two plain numbers are the same.

  With a percent sign on one side only, 8% is both 8 and 0.08: problems that
  ask for a per cent figure are answered either way.
  """
  hundredth = fractions.Fraction(1, 100)
  values = [(gold.value, answer.value)]
  if gold.percent and not answer.percent:
    values.append((gold.value * hundredth, answer.value))
  if answer.percent and not gold.percent:
    values.append((gold.value, answer.value * hundredth))
  if gold.exact and answer.exact:
    return any(g == a for g, a in values)
  scientific = gold.scientific or answer.scientific
  return any(g == a or close(g, a, scientific) for g, a in values)
