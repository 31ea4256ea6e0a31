"""Whether what is here is what a manifest says: policies, problems, code.

A manifest (`manifest`) says what a comparison depends on. Where nothing
differs, the command in it gives the same bytes on the same kind of machine.
"""

from collections.abc import Mapping, Sequence
import json
import pathlib
from typing import Any, NamedTuple

from poise_jax.evaluation import manifest, provenance, results
from poise_jax.tasks import problem_set

_FIELDS = ("a", "b", "sets", "code", "analysis", "id")


class Finding(NamedTuple):
  """What came of checking one part.

  Attributes:
    part: what was checked.
    differences: one text each, "sampling.seed is 0, 1": there, here.
  """

  part: str
  differences: tuple[str, ...]


def read(path: str | pathlib.Path) -> dict[str, Any]:
  """Reads a manifest.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is none.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(
        f"there must be a manifest at {path}; it is the manifest.json that"
        " launch/compare.py wrote"
    )
  try:
    found = json.loads(path.read_text("utf-8"))
    missing = [field for field in _FIELDS if field not in found]
  except (ValueError, TypeError) as e:
    raise ValueError(f"{path}: not a manifest ({e})") from e
  if not isinstance(found, dict) or missing:
    raise ValueError(
        f"{path}: not a manifest of this version, it must have the fields"
        f" {', '.join(_FIELDS)}"
    )
  return found


def itself(expected: Mapping[str, Any]) -> Finding:
  """Whether the manifest was changed after it was written."""
  rest = {k: v for k, v in expected.items() if k != "id"}
  return _finding(
      "the manifest", {"id": expected["id"]}, {"id": provenance.digest(rest)}
  )


def code(expected: Mapping[str, Any]) -> Finding:
  """Whether the code and the packages here are those of then."""
  here = {"code": provenance.code(), "analysis": provenance.analysis()}
  return _finding("code and versions", {k: expected[k] for k in here}, here)


def problems(
    expected: Mapping[str, Any],
    name: str,
    found: Sequence[problem_set.Problem],
) -> Finding:
  """Whether the problems of a set are those of then."""
  then = expected["sets"][name]["set"]
  told = [(p.id, p.prompt, p.answer) for p in found]
  here = {"problems": len(told), "sha256": provenance.digest(told)}
  return _finding(f"problems of {name}", {k: then[k] for k in here}, here)


def policy(
    expected: Mapping[str, Any],
    side: str,
    headers: Mapping[str, Mapping[str, Any]],
) -> Finding:
  """Whether a checkpoint, its tokenizer and its prompts are those of then.

  Args:
    expected: the manifest.
    side: `a` or `b`.
    headers: of each set, from `running.prepare` with the settings of then.
  """
  there, here = {}, {}
  for name in headers:
    of_side = expected[side]["results"][name]
    then = {**expected["sets"][name], "policy": of_side["policy"]}
    there[name] = then
    here[name] = {field: headers[name][field] for field in then}
  return _finding(f"checkpoint {side.upper()}", there, here)


def stored(
    expected: Mapping[str, Any],
    side: str,
    found: Mapping[str, results.Results],
) -> Finding:
  """Whether stored results are those of then, completion by completion."""
  here = manifest.side(found)
  told = ("checkpoint", "results")
  return _finding(
      f"results of {side.upper()}",
      {k: expected[side][k] for k in told},
      {k: here[k] for k in told},
  )


def _finding(
    part: str, there: Mapping[str, Any], here: Mapping[str, Any]
) -> Finding:
  return Finding(part, tuple(provenance.differences(there, here)))


def lines(found: Sequence[Finding]) -> list[str]:
  """The findings, one line for each part or difference."""
  told = []
  for part, differences in found:
    told += [f"differs, {part} (there, here): {text}" for text in differences]
    if not differences:
      told.append(f"same, {part}")
  return told
