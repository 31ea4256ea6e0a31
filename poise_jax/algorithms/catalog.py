"""The registry of named algorithms: list, describe, make, write as source.

The functions are in `members`, one module a family. The body of each uses the
atoms and `jnp` alone, so its text is also a valid candidate: `source` gives it
in that form.
"""

import ast
from collections.abc import Iterator, Mapping
import dataclasses
import difflib
import inspect
import math
import numbers
import re
import textwrap
from types import ModuleType
from typing import NamedTuple

from poise_jax import types
from poise_jax.algorithms import bounds
from poise_jax.algorithms.members import (
    canaries,
    controlled,
    estimators,
    grpo,
    listwise,
    off_policy,
    poise_length,
    poise_routing,
    poise_scaling,
    policy_gradient,
    sequences,
    token_clips,
    trust_region,
)

# Family, its module, its members, in the order in which they are listed.
_FAMILIES = (
    (
        "GRPO",
        grpo,
        "grpo grpo_deepseek grpo_trl grpo_verl grpo_tunix dr_grpo dapo"
        " grpo_format_penalty",
    ),
    (
        "policy gradient",
        policy_gradient,
        "reinforce_baseline rloo_sequence opo gpg",
    ),
    (
        "advantage estimators",
        estimators,
        "rloo lite_ppo vl_norm passk maxrl gdpo reinforce_pp"
        " reinforce_pp_baseline",
    ),
    ("token clips", token_clips, "cispo scalerl sapo aspo intellect2"),
    ("trust regions", trust_region, "dppo_tv dppo_kl clip_cov kl_cov"),
    (
        "whole completions",
        sequences,
        "gspo gspo_token gmpo luspo vespo rloo_trl",
    ),
    ("whole groups", listwise, "tpo gvpo"),
    (
        "mismatch and filters",
        off_policy,
        "grpo_tis grpo_mis icepop deepseek_v32 high_entropy_grpo"
        " overlong_filtered_grpo",
    ),
    ("controllers", controlled, "grpo_adaptive_entropy grpo_adaptive_kl"),
    (
        "POISE: scaling",
        poise_scaling,
        "bn_grpo av_grpo vm_av_grpo vm_av_grpo_entropy msa_grpo sa_grpo",
    ),
    (
        "POISE: routing",
        poise_routing,
        "fa_grpo gla_grpo pr_grpo cda_grpo dfr_grpo rf_grpo",
    ),
    ("POISE: length", poise_length, "dace cag dcbe"),
    ("canary", canaries, "zero_gradient sign_flipped"),
)


class _Preset(NamedTuple):
  """An entry that differs from another in its constants alone."""

  origin: str  # the entry whose loss it shares
  constants: Mapping[str, float]  # those that differ
  title: str
  published: str
  reconstructed: str
  source: str


_PRESETS: Mapping[str, _Preset] = {
    "grpo_r1": _Preset(
        origin="grpo_deepseek",
        constants={
            "clip_eps_low": 10.0,
            "clip_eps_high": 10.0,
            "kl_coef": 0.001,
        },
        title=(
            "GRPO with the constants of DeepSeek-R1: hardly any clip, little KL."
        ),
        published="clip_eps_low and clip_eps_high, as one number; kl_coef.",
        reconstructed="epsilon, and σ in the population form.",
        source="DeepSeek-R1 (https://arxiv.org/abs/2501.12948).",
    ),
    "grpo_poise": _Preset(
        origin="grpo",
        constants={"kl_coef": 0.001},
        title=(
            "GRPO as the root of the POISE search; its KL coefficient is ours."
        ),
        published="",
        reconstructed=(
            "kl_coef, as the paper has a KL penalty without its size;"
            " clip_eps_low, clip_eps_high and epsilon; the mean over all tokens."
        ),
        source="POISE (https://arxiv.org/abs/2603.23951), A.2.",
    ),
}

_TAGS = ("Published", "Reconstructed", "Peers", "Source")


@dataclasses.dataclass(frozen=True)
class Entry:
  """What the catalogue knows about one algorithm.

  Attributes:
    name: what `make` calls it.
    family: of which kind it is; "canary" for alarms.
    title: what it does, in one sentence.
    equation: the advantage and the loss.
    notes: what else there is to know; may be empty.
    published: the constants that its source states, with what it says where
      the default is another; empty if there are none.
    reconstructed: the constants and choices that its source does not state
      and that are ours, or a peer's; empty if there are none. Each constant
      is in one of the two.
    peers: which other libraries have it, and where they differ.
    source: paper and address.
    defaults: its constants.
    init: makes its state.
    loss: the loss function.
  """

  name: str
  family: str
  title: str
  equation: str
  notes: str
  published: str
  reconstructed: str
  peers: str
  source: str
  defaults: dict[str, float]
  init: types.InitFn
  loss: types.LossFn


def names() -> tuple[str, ...]:
  """Lists all entries, the usual root of a search first."""
  return tuple(_FAMILY_OF)


def describe(name: str) -> Entry:
  """Returns what is known about an entry.

  The words come from the docstring of its loss: the title, the equations,
  notes, then paragraphs that start with "Published:", "Reconstructed:",
  "Peers:" and "Source:". A preset has the equations, notes and peers of the
  entry whose loss it shares.

  Raises:
    ValueError: if `name` is not in the catalogue.
  """
  if name not in _FAMILY_OF:
    raise ValueError(_unknown("`name` must be an algorithm", name, names()))
  if name in _PRESETS:
    words = _PRESETS[name]._asdict()
    entry = describe(words.pop("origin"))
    defaults = entry.defaults | words.pop("constants")
    return dataclasses.replace(entry, name=name, defaults=defaults, **words)
  family, module = _FAMILY_OF[name]
  loss = getattr(module, f"{name}_loss")
  return Entry(
      name=name,
      family=family,
      defaults=dict(getattr(module, f"{name.upper()}_HPARAMS")),
      init=getattr(module, f"{name}_init", _no_state),
      loss=loss,
      **_words(inspect.getdoc(loss)),
  )


def make(name: str, **hparams: float | int) -> types.Algorithm:
  """Builds an algorithm from an entry, with some of its constants replaced.

  Args:
    name: one of `names()`.
    **hparams: constants that differ from the defaults of the entry.

  Raises:
    ValueError: if `name` or a constant is unknown, or a value is not finite or
      not within the `bounds` of its constant.
  """
  entry = describe(name)
  for key, value in hparams.items():
    if key not in entry.defaults:
      rule = f"`hparams` must be constants of {name}"
      raise ValueError(_unknown(rule, key, tuple(entry.defaults)))
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):
      raise ValueError(
          f"`{key}` of {name} must be a finite number, got {value!r}; its"
          f" default is {entry.defaults[key]!r}"
      )
    if wrong := bounds.check(key, float(value)):
      raise ValueError(
          f"`{key}` of {name} {wrong}; its default is {entry.defaults[key]!r}"
      )
  values = entry.defaults | {key: float(v) for key, v in hparams.items()}
  return types.Algorithm(name, values, entry.init, entry.loss)


def source(name: str) -> str:
  """Writes an entry as the source of a candidate: HPARAMS, init, loss.

  The text of its functions with the annotations removed and the docstring of
  the loss moved to the top. Executed with `jnp`, `jax` (for `jax.nn` and
  `jax.lax`) and the atom modules in scope, it defines the same algorithm.

  Raises:
    ValueError: if `name` is not in the catalogue.
  """
  entry = describe(name)
  summary, loss = _docstring_and_body(entry.loss)
  init = ["  return {}"]
  if entry.init is not _no_state:
    _, init = _docstring_and_body(entry.init)
  return "\n".join(
      [
          textwrap.dedent("\n".join(summary)),
          "",
          "HPARAMS = {",
          *(f'    "{k}": {v!r},' for k, v in entry.defaults.items()),
          "}",
          "",
          "",
          "def init(hparams):",
          *init,
          "",
          "",
          "def loss(hparams, state, batch):",
          *loss,
          "",
      ]
  )


def _no_state(hparams: types.HParams) -> types.State:
  """Makes the state of an algorithm that has none."""
  del hparams
  return {}


def _docstring_and_body(function: object) -> tuple[list[str], list[str]]:
  """Splits the text of a function into two lists of lines."""
  text = inspect.getsource(function)
  (definition,) = ast.parse(text).body
  docstring = definition.body[0]
  lines = text.splitlines()
  summary = lines[docstring.lineno - 1 : docstring.end_lineno]
  return summary, lines[docstring.end_lineno :]


def _words(text: str) -> dict[str, str]:
  """Takes the docstring of a loss apart."""
  starts = "|".join(_TAGS)
  prose, *tagged = re.split(rf"^(?=(?:{starts}): )", text, flags=re.M)
  title, equation, *notes = prose.strip("\n").split("\n\n")
  found = {tag.lower(): "" for tag in _TAGS}
  for paragraph in tagged:
    tag, _, words = paragraph.partition(": ")
    found[tag.lower()] = " ".join(words.split())
  return found | {
      "title": title,
      "equation": textwrap.dedent(equation),
      "notes": "\n\n".join(" ".join(note.split()) for note in notes),
  }


def _unknown(rule: str, given: str, known: tuple[str, ...]) -> str:
  """Words the refusal of a name that is not among the known ones."""
  close = difflib.get_close_matches(given.lower(), known, n=1)
  hint = f" (did you mean {close[0]!r}?)" if close else ""
  return f"{rule}, got {given!r}{hint}; there are: {', '.join(known)}"


def _listed() -> Iterator[tuple[str, tuple[str, ModuleType]]]:
  """Goes through all names; a preset follows the entry it belongs to."""
  for family, module, members in _FAMILIES:
    for name in members.split():
      yield name, (family, module)
      for preset, known in _PRESETS.items():
        if known.origin == name:
          yield preset, (family, module)


_FAMILY_OF = dict(_listed())
