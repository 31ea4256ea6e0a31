"""The catalogue as a document: generated from the entries, never typed."""

from collections.abc import Iterable
import re

from poise_jax.algorithms import catalog

_HEAD = """\
# The catalogue

Every named algorithm, by family. Written by
`launch/catalog.py --markdown=poise_jax/algorithms/README.md` from the
docstrings; do not edit.

Notation: r the reward, μ and σ mean and deviation over the group, A the
advantage of a completion, L its length in tokens, ρ = π/π_old, m the token
mask, ℓ_clip(A) = -min(ρ A, clip(ρ) A), H the entropy, k1, k2 and k3 the KL
estimators of `kl`, token_mean and the like from `aggregation`. The loss is
minimised. Constants are passed at run time: changing one never recompiles.
Published constants are those that the source states, reconstructed ones are
ours or a peer's; `bounds` has the values that `catalog.make` accepts.

Not here: FlowRL learns a partition function with an extra head, PPO and VAPO a
critic; ReMax needs a greedy completion of each prompt, the optimal token
baseline the collision probability of every distribution. None of that is in a
`RolloutBatch`."""


def markdown() -> str:
  """Writes the whole catalogue as Markdown, ending in a line break."""
  families: dict[str, list[catalog.Entry]] = {}
  for name in catalog.names():
    entry = catalog.describe(name)
    families.setdefault(entry.family, []).append(entry)
  parts = [_HEAD]
  for family, entries in families.items():
    parts.append(f"## {family}")
    parts.append(_table(entries))
    parts += [_details(entry) for entry in entries]
  return "\n\n".join(parts) + "\n"


def text(name: str) -> str:
  """Writes all that is known about one entry, for a terminal.

  Raises:
    ValueError: if `name` is not in the catalogue.
  """
  entry = catalog.describe(name)
  indented = "\n".join(f"  {line}" for line in entry.equation.splitlines())
  parts = [
      f"{entry.name} ({entry.family})",
      entry.title,
      indented,
      entry.notes,
      f"Constants: {_constants(entry)}",
      *_tagged(entry, "{}: {}"),
      f"Source: {entry.source}",
  ]
  return "\n\n".join(part for part in parts if part)


def _table(entries: Iterable[catalog.Entry]) -> str:
  """One line for each entry."""
  rows = ["| name | equation | defaults | source |", "|---|---|---|---|"]
  for entry in entries:
    lines = [
        re.sub(r"(?<![:;]),? {2,}", "; ", line.strip())
        for line in entry.equation.splitlines()
    ]
    equation = "<br>".join(f"`{_cell(line)}`" for line in lines if line)
    cells = (entry.name, equation, _constants(entry), _cell(entry.source))
    rows.append(f"| {' | '.join(cells)} |")
  return "\n".join(rows)


def _details(entry: catalog.Entry) -> str:
  """What does not fit into a table."""
  parts = [f"### {entry.name}", entry.title, entry.notes]
  parts += _tagged(entry, "*{}:* {}")
  return "\n\n".join(part for part in parts if part)


def _tagged(entry: catalog.Entry, form: str) -> list[str]:
  """Where the constants come from, and who else has it; each if known."""
  tags = ("Published", "Reconstructed", "Peers")
  words = {tag: getattr(entry, tag.lower()) for tag in tags}
  return [form.format(tag, words[tag]) for tag in tags if words[tag]]


def _constants(entry: catalog.Entry) -> str:
  """Names and values; none for an entry without constants."""
  pairs = (f"{key} {value:g}" for key, value in entry.defaults.items())
  return ", ".join(pairs) or "none"


def _cell(words: str) -> str:
  """Keeps a bar from ending the cell of a table."""
  return words.replace("|", "\\|")
