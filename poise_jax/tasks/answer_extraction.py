r"""Finds the answer in a completion.

In order of precedence, the first that is there:

1. the last ``\boxed{}`` or ``\fbox{}``. Boxes with only a comma, "and" or "or"
   between them are one list, ``\boxed{1}`` or ``\boxed{2}`` being ``1,2``: one
   cannot hedge. A last box that is never closed is read as far as it goes, and
   is not valid;
2. what stands behind the last phrase that announces it: "the answer is ..",
   "Answer: ..", "#### ..";
3. the whole text, if there is no prose in it;
4. the last formula or number, of a formula what stands behind its last equals
   sign. This is a deliberate choice: a text that ends without an announcement
   mostly ends with its result, and a grader of answers should not fail a right
   one for its form. Form is what the validity flag is for.
"""

import re
from typing import NamedTuple

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BETWEEN_BOXES = re.compile(
    r"[\s$.]*(?:\\[()\[\]])?[\s$]*(?:,|;|\band\b|\bor\b|,\s*and\b|,\s*or\b)"
    r"[\s$]*(?:\\[()\[\]])?[\s$]*(?:[a-zA-Z](?:_\{?\w\}?)?\s*=\s*)?"
)
_PHRASE = re.compile(
    r"####|\banswer(?:\s+(?:to|for)\s+[^.\n]{1,80}?)?"
    r"\s*(?:\*\*)?\s*(?:\b(?:is|are|was|be|equals)\b\s*:?|:|=)\s*(?:\*\*)?",
    re.IGNORECASE,
)
_FORMULA = re.compile(
    r"\$\$([^$]+)\$\$|(?<!\\)\$((?:[^$\\\n]|\\.)+)\$"
    r"|\\\(((?:[^\\]|\\[^()])*)\\\)|\\\[((?:[^\\]|\\[^\[\]])*)\\\]"
)
_CURRENCY = re.compile(
    r"\$(?=\d[\d,.]*(?:[^\d,.$\\^_+*/=<>{}-]*$|\s[a-z]{2,}))"
)
_NUMBER = re.compile(
    r"[-+]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:\.\d+|(?<=\d))"
    r"(?:[eE][-+]?\d+)?(?:\s*/\s*\d+(?:\.\d+)?)?(?:\s?\\?%)?"
)
_COMMAND = re.compile(
    r"\\[a-zA-Z]+\s*(?:\{[^{}\\]*\})?|(?<![a-zA-Z])[a-zA-Z]+\s*\("
)
_WORD = re.compile(r"[a-zA-Z]{2,}")
_SENTENCE_END = re.compile(r"[.!?;](?=\s+[A-Z*]|\s*\Z)|\n")
_MARKUP = re.compile(r"\*\*|__|`|\A#+\s|\A>\s")
_EXPRESSION_WORDS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan log ln exp sqrt pi inf max"
    " min mod gcd lcm infinity np math and or".split()
)
_SPACE = re.compile(r"\s{2,}")
_LONGEST = 20_000  # symbols at the end of a completion that are looked at
_LONGEST_BETWEEN = 80  # symbols between two boxes of one list


class Extraction(NamedTuple):
  r"""An answer and how it was given.

  Attributes:
    answer: its text, without surrounding space; None if there is none.
    closed_box: whether it stood in a ``\boxed{}`` that is closed, not empty.
  """

  answer: str | None
  closed_box: bool


def _squeeze(text: str) -> str:
  """Runs of white space as one space or, if there is one in it, a new line.

  Several patterns try every way to share out a run between their parts, which
  takes the square of its length or more.
  """
  return _SPACE.sub(lambda m: "\n" if "\n" in m[0] else " ", text)


def _joins(between: str) -> bool:
  """Whether what stands between two boxes makes them one list."""
  # The pattern takes the cube of the length where it fails.
  if len(between) > _LONGEST_BETWEEN:
    return False
  return _BETWEEN_BOXES.fullmatch(between) is not None


def _close(text: str, start: int) -> int | None:
  """Where the brace that opens at `start` is closed; None if it is not."""
  depth = 0
  # A backslash and what it escapes are one symbol, so \{ is no brace.
  for symbol in _BRACE.finditer(text, start):
    depth += {"{": 1, "}": -1}.get(symbol.group(), 0)
    if not depth:
      return symbol.start()
  return None


class _Box(NamedTuple):
  """A box: where its command starts and it ends, contents, whether closed."""

  start: int
  end: int
  contents: str
  closed: bool


def _box(text: str, match: re.Match[str]) -> _Box:
  """Reads the box whose command is given."""
  start = match.end()
  if text[start : start + 1] == "{":
    end = _close(text, start)
    if end is not None:
      contents = text[start + 1 : end].strip()
      return _Box(match.start(), end + 1, contents, bool(contents))
    rest = text[start + 1 :]
    contents = re.split(r"\n|(?<!\\)\$|\\\]|\\\)", rest, maxsplit=1)[0]
    return _Box(match.start(), len(text), contents.strip(), False)
  # \boxed 5$: TeX would box one symbol, writers mean all up to the dollar.
  contents, dollar, _ = text[start:].partition("$")
  contents = contents.split("\n")[0].strip() if not dollar else contents
  end = start + len(contents)
  closed = bool(dollar) and bool(contents.strip())
  return _Box(match.start(), end, contents.strip(), closed)


def _boxes(text: str) -> Extraction | None:
  """The last box, and those that belong to it; None if there is none."""
  commands = list(_BOX.finditer(text))[-16:]
  if not commands:
    return None
  last = _box(text, commands[-1])
  contents = [last.contents]
  start = last.start
  for command in reversed(commands[:-1]):
    box = _box(text, command)
    if box.end > start:  # the later one stands within it
      if box.closed and last.closed and box.end >= last.end:
        contents = [_BOX.sub("", box.contents)]
        start = box.start
      continue
    if not box.closed or not _joins(text[box.end : start]):
      break
    if box.contents not in contents:
      contents.insert(0, box.contents)
    start = box.start
  return Extraction(",".join(contents) or None, last.closed)


def _is_prose(text: str) -> bool:
  """Whether there are words in it that are no part of a formula."""
  words = _WORD.findall(_COMMAND.sub(" ", text))
  return any(len(w) > 2 and w.lower() not in _EXPRESSION_WORDS for w in words)


def _math(text: str) -> list[re.Match[str]]:
  """Formulas between dollar signs or brackets, in order."""
  return list(_FORMULA.finditer(text))


def _inside(match: re.Match[str]) -> str:
  """What a formula says."""
  return next(group for group in match.groups() if group is not None).strip()


def _announced(text: str) -> str | None:
  """What stands behind the last announcement of an answer."""
  for phrase in reversed(list(_PHRASE.finditer(text))):
    rest = text[phrase.end() :].lstrip(" :*\t\n")
    if not rest:
      continue
    formulas = _math(rest[:1000])
    if formulas and len(rest[: formulas[0].start()].strip()) == 0:
      joined = [_inside(formulas[0])]
      end = formulas[0].end()
      for formula in formulas[1:]:
        if not _joins(rest[end : formula.start()]):
          break
        joined.append(_inside(formula))
        end = formula.end()
      # A unit or a percent sign may stand outside of the formula.
      after = re.match(r"\s*\\?%", rest[end:])
      return ",".join(joined) + ("%" if after else "")
    stop = _SENTENCE_END.search(rest)
    line = rest[: stop.start()] if stop else rest
    line = _MARKUP.sub("", line).strip()
    if formulas and formulas[0].end() <= len(rest[:1000]) and _is_prose(line):
      inside = [f for f in formulas if f.end() <= len(line) + 2]
      if inside:
        return _inside(inside[-1])
    if line:
      return line
  return None


def _last_expression(text: str) -> str | None:
  """The last formula or number of a text."""
  formulas = _math(text)
  numbers = [n for n in _NUMBER.finditer(text) if n.group().strip("+-")]
  formula = formulas[-1] if formulas else None
  number = numbers[-1] if numbers else None
  if formula and (number is None or number.start() < formula.end()):
    inside = _inside(formula)
    if "," not in inside:
      inside = re.split(r"(?<![<>!\\:])=", inside)[-1]
    return inside.strip() or None
  return number.group().strip() if number else None


def extract(completion: str) -> Extraction:
  """Finds the answer of a completion.

  Args:
    completion: decoded text; only the last 20,000 symbols are read. Runs of
      white space count as one.

  Returns:
    The answer by the order of precedence that the module describes. Never
    raises; with nothing that looks like an answer, `(None, False)`.
  """
  text = _squeeze(completion[-_LONGEST:])
  if (found := _boxes(text)) is not None:
    return found
  if (answer := _announced(text)) is not None:
    return Extraction(answer, False)
  whole = text.strip()
  if whole and "\n" not in whole and not _is_prose(whole):
    return Extraction(whole, False)
  answer = _last_expression(_CURRENCY.sub("", text))
  if answer is None and whole and len(whole.split()) <= 3:
    answer = whole.strip(" .*")
  return Extraction(answer, False)


def unwrap(answer: str) -> str:
  """An answer that may be given in a sentence or a box: the answer itself."""
  answer = _squeeze(answer)
  if _BOX.search(answer) or _PHRASE.search(answer):
    return extract(answer).answer or answer
  formulas = _math(answer)
  if formulas and _is_prose(_FORMULA.sub(" ", answer)):
    return extract(answer).answer or answer
  return answer
