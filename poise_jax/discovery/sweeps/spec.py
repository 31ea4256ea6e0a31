"""Sweeps written as text: `algorithm=grpo,dapo;lr=1e-4,3e-4;seed=0:5`.

Axes are separated by semicolons, values by commas. `a:b` are the whole numbers
from a to b - 1, `uniform(a,b)` and `log(a,b)` ranges for a random design.
"""

from collections.abc import Mapping
import difflib
import re
from typing import Any

from poise_jax.discovery.sweeps import design

# What people write -> what the field is called.
_ALIASES = {"lr": "train.learning_rate", "base": "policy"}
_RANGE = re.compile(r"(uniform|log)\(([^(),]+),([^(),]+)\)")
_WHOLE = re.compile(r"(-?\d+):(-?\d+)")
_TRUTH = {"true": True, "false": False}


def parse(text: str, fields: Mapping[str, type]) -> dict[str, design.Axis]:
  """Reads a sweep.

  Args:
    text: as above.
    fields: what can be swept, by its full name such as `train.steps`, and its
      type: int, float, bool or str. The last part of a name will do where only
      one field has it.

  Returns:
    Full name -> values or range, in the order of the text.

  Raises:
    ValueError: naming the axis, and the nearest name where it is unknown.
  """
  axes: dict[str, design.Axis] = {}
  for part in filter(None, map(str.strip, text.split(";"))):
    name, equals, values = (x.strip() for x in part.partition("="))
    if not equals or not values:
      raise ValueError(
          f"an axis must be NAME=VALUE,VALUE,..., got {part!r}; separate axes"
          " by semicolons"
      )
    full = resolve(name, fields)
    if full in axes:
      raise ValueError(f"`{name}` must be given once, got another {part!r}")
    axes[full] = _axis(name, values, fields[full])
  return axes


def resolve(name: str, fields: Mapping[str, type]) -> str:
  """The full name of a field.

  Raises:
    ValueError: if there is none, or more than one.
  """
  name = _ALIASES.get(name, name)
  if name in fields:
    return name
  matches = [full for full in fields if full.rpartition(".")[2] == name]
  if len(matches) == 1:
    return matches[0]
  if matches:
    raise ValueError(f"`{name}` must be one of {', '.join(matches)}: say which")
  short = {full.rpartition(".")[2]: full for full in fields}
  candidates = [*fields, *short, *_ALIASES]
  close = difflib.get_close_matches(name, candidates, 1)
  hint = f" (did you mean {close[0]}?)" if close else ""
  raise ValueError(
      f"`{name}` is nothing that can be swept{hint}; there are:"
      f" {', '.join(fields)}"
  )


def _axis(name: str, text: str, kind: type) -> design.Axis:
  if found := _RANGE.fullmatch(text):
    if kind not in (int, float):
      raise ValueError(f"`{name}` must be a list of values, got {text}")
    low, high = (float(_value(name, e, kind)) for e in found.group(2, 3))
    return design.Range(
        low, high, log=found.group(1) == "log", integer=kind is int
    )
  values: list[Any] = []
  for item in (x.strip() for x in text.split(",")):
    whole = _WHOLE.fullmatch(item) if kind is int else None
    if whole:
      values += range(int(whole.group(1)), int(whole.group(2)))
    else:
      values.append(_value(name, item, kind))
  if not values or len(set(values)) < len(values):
    raise ValueError(
        f"`{name}` must have at least one value and none twice, got {text}"
    )
  return values


def _value(name: str, text: str, kind: type) -> Any:
  try:
    return _TRUTH[text.lower()] if kind is bool else kind(text.strip())
  except (ValueError, KeyError):
    words = {int: "whole numbers", float: "numbers", bool: "true or false"}
    raise ValueError(f"`{name}` must be {words[kind]}, got {text!r}") from None
