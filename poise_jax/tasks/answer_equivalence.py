r"""Whether two answers mean the same, given how to compare two formulas.

What an answer is made of is compared piece by piece: lists and sets in any
order, tuples in theirs, intervals with the kind of their brackets, unions,
matrices, ``\pm`` as two values, ``x = 5`` as 5. `quick` decides plain numbers,
words, letters of a choice and equal texts; only other pieces are formulas,
which `answer_algebra.same` compares in a process of its own.
"""

from collections.abc import Callable, Sequence
import re
from typing import NamedTuple

from poise_jax.tasks import answer_extraction, answer_notation

# Compares two formulas; None if it is not known.
Leaf = Callable[[str, str], bool | None]

_LONGEST_SET = 40
_CHOICE = re.compile(r"\(?([A-Ja-j])\)?")
_CHOSEN = re.compile(
    r"(?:(?:option|choice|answer)\s*)?(?:\(([A-Ja-j])\)|([A-Ja-j])(?=\s*[).:]|\Z))"
    r"\s*[).:]*(?:\s.*|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_WORDS = re.compile(r"[a-zA-Z][a-zA-Z' -]*[a-zA-Z]")
_SENTENCE = re.compile(r"(?=.*[a-zA-Z]{3})[a-zA-Z]+(?: [a-zA-Z]+)*")
_BASED = re.compile(r"\(?([0-9A-Z]+)\)?_\{?(\w+)\}?")
_NAME = re.compile(
    r"(?:\([\w, \\]+\)|\\?[a-zA-Z])[\w\\{}^', ]*(?:\([\w\\, {}]*\))?\s*"
)
_EQUALS = re.compile(r"(?<![<>!\\:])=(?!=)")
_MEMBER = re.compile(r"\A\(?[a-zA-Z](?:_\{?\w\}?)?\)?\s*\\in(?![a-zA-Z])\s*")
_MATRIX = re.compile(
    r"\\begin\s*\{([pbvVB]?matrix|array)\}(?:\s*\{[clr|]*\})?(.*)\\end\s*\{\1\}",
    re.DOTALL,
)
_TOKEN = re.compile(r"\\[{}]|\\[a-zA-Z]+|\\.|.", re.DOTALL)
_OPEN = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", r"\begin": r"\end"}
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-zA-Z])")
_PLUS_INFINITY = re.compile(r"\+\s*(?=\\infty)")
_SET_OF = re.compile(r"\\(?:mid|colon)(?![a-zA-Z])|\|")


class _Group(NamedTuple):
  """Brackets, empty where there are none, and what they hold."""

  opening: str
  items: tuple[str, ...]
  closing: str


def _split(text: str, separators: Sequence[str]) -> list[str]:
  """Splits at separators outside of all brackets."""
  parts, depth, start = [], 0, 0
  for token in _TOKEN.finditer(text):
    symbol = token.group()
    if symbol in _OPEN:
      depth += 1
    elif symbol in (")", "]", "}", r"\}", r"\end"):
      depth -= 1
    elif depth <= 0 and symbol in separators:
      parts.append(text[start : token.start()].strip())
      start = token.end()
  parts.append(text[start:].strip())
  return [part for part in parts if part]


def _group(text: str) -> _Group:
  """Reads a list, set, tuple or interval; a formula is a list of one."""
  for opening in (r"\{", "(", "["):
    if text.startswith(opening):
      depth = 0
      for token in _TOKEN.finditer(text):
        symbol = token.group()
        depth += (symbol in _OPEN) - (symbol in (")", "]", "}", r"\}", r"\end"))
        if not depth:
          break
      if not depth and token.end() == len(text):
        inside = text[len(opening) : token.start()].strip()
        items = _split(inside, (",", ";"))
        return _Group(opening, tuple(items), token.group())
  return _Group("", tuple(_split(text, (",", ";"))), "")


def _signs(text: str) -> list[str]:
  r"""A formula with ``\pm`` as its two values."""
  if not _PLUS_MINUS.search(text):
    return [text]
  upper = _PLUS_MINUS.sub(lambda m: "+" if m[1] == "pm" else "-", text)
  lower = _PLUS_MINUS.sub(lambda m: "-" if m[1] == "pm" else "+", text)
  return [re.sub(r"\A\s*\+\s*", "", upper), lower]


def _sides(text: str) -> list[str]:
  """The sides of an equation or a chain of them."""
  return [side.strip() for side in _EQUALS.split(text)]


def _without_names(gold: str, answer: str) -> tuple[str, str]:
  """Drops `x =` where only one of the two has it, or both have the same."""
  if any(len(_split(text, (",", ";"))) > 1 for text in (gold, answer)):
    return gold, answer
  golds, answers = _sides(gold), _sides(answer)
  if not all(golds) or not all(answers):
    return gold, answer
  named = len(golds) > 1 and _NAME.fullmatch(golds[0] + " ")
  if len(answers) == 1:
    return (golds[-1] if named else gold), answer
  if len(golds) == 1:
    return gold, answers[-1]
  same = answer_notation.compact(golds[0]) == answer_notation.compact(
      answers[0]
  )
  if named and same:
    return golds[-1], answers[-1]
  return gold, answer


def _choice(gold: str, answer: str) -> bool | None:
  """Compares letters of a multiple choice; None if gold is not one."""
  plain = lambda text: re.sub(r"\\text\s*\{([^{}]*)\}", r"\1 ", text).strip()
  gold, answer = plain(gold), plain(answer)
  if not (wanted := _CHOICE.fullmatch(gold)):
    return None
  if not gold.strip("()").isupper() and "(" not in gold:
    return None
  if not (chosen := _CHOSEN.fullmatch(answer)):
    return None
  return wanted[1].lower() == (chosen[1] or chosen[2]).lower()


def _words(gold: str, answer: str) -> bool | None:
  """Compares words; None if either is not made of words."""
  plain = lambda text: re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text).strip()
  gold, answer = plain(gold), plain(answer)
  if not _WORDS.fullmatch(gold) or not _WORDS.fullmatch(answer):
    return None
  bare = lambda text: re.sub(r"[^a-z]", "", text.lower())
  if bare(gold) == bare(answer):
    return True
  # Letters that are multiplied may stand in any order: that is algebra.
  short = max(len(gold), len(answer)) <= 3
  return None if short else False


def _numerals(gold: str, answer: str) -> bool | None:
  """Compares numerals with their base, 40_9; None if neither is one."""
  g, a = _BASED.fullmatch(gold), _BASED.fullmatch(answer)
  if g and a and g.groups() == a.groups():
    return True
  # A letter with an index is a variable.
  return False if (n := g or a) and n[1][0].isdigit() else None


def quick(gold: str, answer: str) -> bool | None:
  """Compares normal texts without algebra; None if it takes algebra."""
  if not gold or not answer or answer_notation.units_differ(gold, answer):
    return False
  compact = answer_notation.compact
  if compact(gold) == compact(answer):
    return True
  bare = answer_notation.without_units
  if compact(bare(gold)) == compact(bare(answer)):
    return True
  numbers = answer_notation.number(gold), answer_notation.number(answer)
  if numbers[0] and numbers[1]:
    if answer_notation.same_number(*numbers):
      return True
    return None if "," in gold + answer else False
  for value, other in zip(numbers, (answer, gold), strict=True):
    if value and _SENTENCE.fullmatch(other):
      return False
  for decide in (_choice, _words):
    if (decision := decide(gold, answer)) is not None:
      return decision
  return _numerals(gold, answer)


def _matrix(text: str) -> list[list[str]] | None:
  """Rows of cells; None if it is not a matrix."""
  if not (match := _MATRIX.fullmatch(text.strip("()[] "))):
    return None
  rows = re.split(r"\\\\(?:\[[^\]]*\])?|\\cr(?![a-z])", match[2])
  cells = [[c.strip() for c in row.split("&")] for row in rows if row.strip()]
  return cells


def _all(decisions: Sequence[bool | None]) -> bool | None:
  """True if all are; False if one is; None if that is not known."""
  if any(d is False for d in decisions):
    return False
  return None if any(d is None for d in decisions) else True


def _unordered(
    golds: Sequence[str], answers: Sequence[str], leaf: Leaf
) -> bool | None:
  """Whether each gold has an answer of its own."""
  rest = list(answers)
  unknown = False
  for gold in golds:
    decisions = []
    for answer in rest:
      decisions.append(_compare(gold, answer, leaf))
      if decisions[-1]:
        rest.remove(answer)
        break
    else:
      if all(d is False for d in decisions):
        return False
      unknown = True
  return None if unknown else True


def _items(gold: _Group, answer: _Group, leaf: Leaf) -> bool | None:
  """Compares what brackets hold."""
  loose = ("", r"\{")
  expand = lambda group: [s for item in group.items for s in _signs(item)]
  if gold.opening in loose and answer.opening in loose:
    golds, answers = expand(gold), expand(answer)
    if len(golds) != len(answers) or len(golds) > _LONGEST_SET:
      return False if len(golds) != len(answers) else None
    return _unordered(golds, answers, leaf)
  both = bool(gold.opening and answer.opening)
  if both and gold[::2] != answer[::2]:
    return False
  if len(gold.items) != len(answer.items):
    return False
  pairs = zip(gold.items, answer.items, strict=True)
  return _all([_compare(g, a, leaf) for g, a in pairs])


def _compare(gold: str, answer: str, leaf: Leaf) -> bool | None:
  """Compares normal texts, piece by piece."""
  if (decision := quick(gold, answer)) is not None:
    return decision
  gold, answer = _without_names(gold, answer)
  gold, answer = _MEMBER.sub("", gold), _MEMBER.sub("", answer)
  if (decision := quick(gold, answer)) is not None:
    return decision
  matrices = _matrix(gold), _matrix(answer)
  if matrices[0] is not None and matrices[1] is not None:
    if [len(r) for r in matrices[0]] != [len(r) for r in matrices[1]]:
      return False
    cells = [[c for row in m for c in row] for m in matrices]
    return _all([_compare(g, a, leaf) for g, a in zip(*cells, strict=True)])
  unions = _split(gold, (r"\cup",)), _split(answer, (r"\cup",))
  if len(unions[0]) == len(unions[1]) > 1:
    decision = _unordered(*unions, leaf)
    return decision or leaf(gold, answer)
  groups = _group(gold), _group(answer)
  lengths = [sum(len(_signs(i)) for i in g.items) for g in groups]
  brackets = [g.opening for g in groups]
  if max(lengths) > 1 or r"\{" in brackets:
    if any(_SET_OF.search(text) for text in (gold, answer)):
      return leaf(gold, answer)
    decision = _items(*groups, leaf)
    if decision is not False or (all(brackets) and min(lengths) > 1):
      return decision
    if max(len(g.items) for g in groups) > 1 and not _relation(gold + answer):
      return False
  return leaf(gold, answer)


def _balanced(text: str) -> bool:
  """Whether braces are closed, and not nested beyond all reason."""
  depth = deepest = 0
  for token in _TOKEN.finditer(text):
    depth += {"{": 1, "}": -1}.get(token.group(), 0)
    deepest = max(deepest, depth)
    if depth < 0:
      return False
  return not depth and deepest <= 30 and max(map(text.count, "([")) <= 60


def _relation(text: str) -> bool:
  """Whether there are inequalities or operations of sets in it."""
  return bool(re.search(r"[<>]|\\(?:le|ge|ne|cup|cap|setminus|infty)\b", text))


def equivalent(gold: str, answer: str, leaf: Leaf) -> bool | None:
  r"""Whether an answer means what the gold answer means.

  Args:
    gold: as it stands in a file of problems, with or without dollar signs.
    answer: of a completion; a box or an announcing sentence around it is
      removed.
    leaf: compares two formulas in LaTeX; None if it does not know.

  Returns:
    None if it hangs on a formula that `leaf` knows nothing of.
  """
  limit = answer_notation.LONGEST
  if gold.strip() and gold.strip() == answer.strip():
    return True
  if len(gold) > 20 * limit or len(answer) > 20 * limit:
    return False
  texts = [answer_extraction.unwrap(text) for text in (gold, answer)]
  if any(len(text) > limit for text in texts):
    return bool(texts[0].strip()) and texts[0].strip() == texts[1].strip()
  texts = [
      _PLUS_INFINITY.sub("", answer_notation.normal(text)) for text in texts
  ]
  if not all(map(_balanced, texts)):
    return bool(quick(texts[0], texts[1]))
  decision = _compare(texts[0], texts[1], leaf)
  if decision is True:
    return True
  bare = [answer_notation.without_units(text) for text in texts]
  if bare != texts and not answer_notation.units_differ(*texts):
    again = _compare(bare[0], bare[1], leaf)
    return True if again else _all([decision, again])
  return decision
