r"""Problems with answers, read from a JSONL or JSON file.

One object a problem, `{"id": .., "problem": .., "answer": .., "level": ..}`:

- the prompt is `problem`, or else `question`, or else `prompt`;
- the answer is `answer` (of a worked one in GSM8K's style, what stands behind
  `####`), or else what stands in the last `\boxed{}` of `solution`;
- `level` may be missing, `3`, `"3"`, `"Level 3"` or `"Level ?"`;
- `id` or `unique_id` may be missing: file name and number, from 0, are used.

Other fields are ignored. Numbers stand as they are written: `1.50` stays so.
"""

import codecs
from collections.abc import Collection, Iterator, Sequence
import dataclasses
import hashlib
import json
import pathlib
import re
from typing import Any, NoReturn

_PROMPTS = ("problem", "question", "prompt")
_IDS = ("id", "unique_id")
_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
_LEVEL = re.compile(r"(?:level\s*)?([0-9]{1,9})", re.IGNORECASE)
_NO_LEVEL = re.compile(r"(?:level\s*)?\?", re.IGNORECASE)
_GSM8K = re.compile(r"^####(.*)\Z", re.MULTILINE | re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Problem:
  """One question and its answer.

  Attributes:
    id: unique in its set.
    prompt: the question, as written.
    answer: the reference answer, without surrounding space.
    level: difficulty as the set counts it, or None where it does not.
  """

  id: str
  prompt: str
  answer: str
  level: int | None = None


def boxed(text: str) -> str | None:
  r"""What stands in the last `\boxed{}` (or `\fbox{}`) of a text.

  Braces may be nested, and escaped ones do not count. `\boxed 5$` without
  braces goes as far as the dollar sign.

  Returns:
    The contents without surrounding space; None if there is no box, or it is
    not closed.
  """
  boxes = list(_BOX.finditer(text))
  if not boxes:
    return None
  rest = text[boxes[-1].end() :]
  if not rest.startswith("{"):
    contents, closed, _ = rest.partition("$")
    return contents.strip() if closed else None
  depth = 0
  # A backslash and what it escapes are one symbol, so \{ is no brace.
  for symbol in re.finditer(r"\\.|[{}]", rest, re.DOTALL):
    depth += {"{": 1, "}": -1}.get(symbol.group(), 0)
    if not depth:
      return rest[1 : symbol.start()].strip()
  return None


def _text(record: dict[str, Any], field: str) -> str:
  """A field's text; empty if the field is missing, null or blank."""
  value = record.get(field)
  if value is None:
    return ""
  if not isinstance(value, str):
    raise ValueError(
        f"`{field}` must be text or a number, got {type(value).__name__};"
        " write it as one string"
    )
  try:
    value.encode()
  except UnicodeEncodeError as e:
    raise ValueError(
        f"`{field}` must be text, got half of a surrogate pair,"
        f" {value[e.start : e.end]!r}; remove it"
    ) from e
  return value if value.strip() else ""


def _first(record: dict[str, Any], fields: Sequence[str]) -> str:
  """Text of the first of these fields that is there."""
  return next((t for f in fields if (t := _text(record, f))), "")


def _answer(record: dict[str, Any]) -> str:
  """The reference answer, wherever it stands."""
  if answer := _text(record, "answer"):
    worked = _GSM8K.search(answer)
    answer = (worked.group(1) if worked else answer).strip()
    if not answer:
      raise ValueError("`answer` must say something after `####`; add it")
    return answer
  if not (solution := _text(record, "solution")):
    raise ValueError(
        "an `answer`, or a `solution` with \\boxed{} in it, must be there, got"
        f" the fields {sorted(record)}; add one, not empty"
    )
  if not (answer := boxed(solution)):
    raise ValueError(
        "`solution` must end in a \\boxed{} that is closed and not empty; mend"
        " it, or add the `answer`"
    )
  return answer


def _level(record: dict[str, Any]) -> int | None:
  """The level; None where there is none, or it is unknown."""
  text = _text(record, "level").strip()
  if not text or _NO_LEVEL.fullmatch(text):
    return None
  if not (match := _LEVEL.fullmatch(text)):
    raise ValueError(
        f"`level` must be like 3 or 'Level 3', got {text!r}; write a whole"
        " number or remove it"
    )
  return int(match.group(1))


def _problem(record: Any, default_id: str) -> Problem:
  """Reads one object."""
  if not isinstance(record, dict):
    raise ValueError(
        'a problem must be an object, {"problem": .., "answer": ..}, got'
        f" {type(record).__name__}"
    )
  if not (prompt := _first(record, _PROMPTS)):
    raise ValueError(
        f"one of the fields {', '.join(_PROMPTS)} must be there, got the fields"
        f" {sorted(record)}; add one, not empty"
    )
  identifier = _first(record, _IDS) or default_id
  return Problem(identifier, prompt, _answer(record), _level(record))


def _parse(text: str) -> Any:
  """Parses JSON; numbers stay as they are written."""

  def refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON; write it as a string")

  try:
    return json.loads(
        text, parse_int=str, parse_float=str, parse_constant=refuse
    )
  except RecursionError as e:
    raise ValueError("nested too deeply; write a flat object") from e


def _records(path: pathlib.Path, text: str) -> Iterator[tuple[str, Any]]:
  """Yields each object and where it stands."""
  if path.suffix == ".jsonl":
    # Not splitlines: U+2028 and its like may stand within a string.
    for number, line in enumerate(text.split("\n"), 1):
      if line.strip():
        try:
          yield f"line {number}", _parse(line)
        except ValueError as e:
          raise ValueError(
              f"{path}, line {number}: not valid JSON, {e}; one complete object"
              " must stand on each line"
          ) from e
    return
  try:
    records = _parse(text) if text.strip() else []
  except json.JSONDecodeError as e:
    raise ValueError(
        f"{path}, line {e.lineno}: not valid JSON, {e.msg}; correct it, or name"
        " the file .jsonl if it has one object a line"
    ) from e
  except ValueError as e:
    raise ValueError(f"{path}: not valid JSON, {e}") from e
  if not isinstance(records, list):
    raise ValueError(
        f"{path}: must hold a list of problems, got"
        f" {type(records).__name__}; put the problems in [ ]"
    )
  yield from ((f"item {i}", record) for i, record in enumerate(records, 1))


def _read(path: pathlib.Path) -> str:
  """The text of a file of problems."""
  if path.suffix not in (".jsonl", ".json"):
    raise ValueError(
        f"`path` must end in .jsonl or .json, got {path}; rename or convert it"
    )
  if not path.is_file():
    raise FileNotFoundError(
        f"`path` must be a file of problems, there is none at {path}"
    )
  data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
  try:
    return data.decode()
  except UnicodeDecodeError as e:
    line = data.count(b"\n", 0, e.start) + 1
    raise ValueError(
        f"{path}, line {line}: not UTF-8 (byte 0x{data[e.start]:02x}); save the"
        " file as UTF-8"
    ) from e


def load(
    path: str | pathlib.Path, levels: Collection[int] | None = None
) -> tuple[Problem, ...]:
  """Reads problems, in the order of the file.

  Args:
    path: a .jsonl file with one object a line (blank lines are skipped), or a
      .json file with a list of objects. UTF-8.
    levels: see `at_levels`; None for all problems.

  Returns:
    At least one problem.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if anything in it is malformed or missing, an id occurs twice,
      or no problem is left. Names the file and the line, or for a list in
      .json the item, counted from 1.
  """
  path = pathlib.Path(path)
  places: dict[str, str] = {}
  problems: list[Problem] = []
  for place, record in _records(path, _read(path)):
    try:
      problem = _problem(record, f"{path.stem}/{len(problems)}")
    except ValueError as e:
      raise ValueError(f"{path}, {place}: {e}") from e
    if problem.id in places:
      raise ValueError(
          f"{path}, {place}: `id` must be unique, {problem.id!r} is that of"
          f" {places[problem.id]} too; change or remove one of them"
      )
    places[problem.id] = place
    problems.append(problem)
  if not problems:
    raise ValueError(f"{path}: must hold at least one problem, it is empty")
  if levels is None:
    return tuple(problems)
  try:
    return at_levels(problems, levels)
  except ValueError as e:
    raise ValueError(f"{path}: {e}") from e


def at_levels(
    problems: Sequence[Problem], levels: Collection[int]
) -> tuple[Problem, ...]:
  """The problems of some levels; those without a level are left out.

  Args:
    problems: to choose from.
    levels: wanted, such as `range(3, 6)`.

  Raises:
    ValueError: if no problem is left.
  """
  chosen = tuple(p for p in problems if p.level in levels)
  if not chosen:
    present = sorted({p.level for p in problems if p.level is not None})
    raise ValueError(
        f"`levels` must leave at least one problem, got {sorted(levels)}; the"
        f" problems have the levels {present}"
    )
  return chosen


def subsample(
    problems: Sequence[Problem], n: int, seed: int
) -> tuple[Problem, ...]:
  """Chooses `n` problems by their ids alone, and leaves them in their order.

  The choice does not depend on the order of the file, and that of a smaller
  `n` is part of that of a larger one.

  Args:
    problems: to choose from, ids unique.
    n: how many.
    seed: another seed makes another choice.

  Raises:
    ValueError: if there are not that many.
  """
  if not 1 <= n <= len(problems):
    raise ValueError(
        f"`n` must be between 1 and the {len(problems)} problems there are,"
        f" got {n}"
    )
  rank = lambda p: hashlib.sha256(f"{seed}/{p.id}".encode()).digest()
  chosen = {p.id for p in sorted(problems, key=rank)[:n]}
  return tuple(p for p in problems if p.id in chosen)
