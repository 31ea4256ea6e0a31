"""What a comparison depends on, for others to make it again.

No clock and no path is in it: two runs on one kind of machine give the same
bytes.
"""

from collections.abc import Mapping, Sequence
import shlex
from typing import Any

from poise_jax.evaluation import problem_sets, provenance, results


def of_comparison(
    a: Mapping[str, results.Results],
    b: Mapping[str, results.Results],
    limit: int | None,
) -> dict[str, Any]:
  """The manifest of a comparison.

  Args:
    a: results of A by set.
    b: results of B by set.
    limit: problems that were asked of each set, None for all.

  Returns:
    `a` and `b` (checkpoint, machines, and of each set the identity of its
    results and a hash of them), `sets` (hashes of problems and prompts,
    sampling), `code` (versions of what gave the results), `analysis` (of what
    compares them), `command`, and `id`, the hash of all this.
  """
  headers = {name: result.header for name, result in a.items()}
  first = next(iter(headers.values()))
  shared = ("set", "prompts", "sampling")
  found = {
      "a": side(a),
      "b": side(b),
      "sets": {
          name: {field: header[field] for field in shared}
          for name, header in headers.items()
      },
      "code": first["code"],
      "analysis": provenance.analysis(),
      "limit": limit,
      "command": " ".join(
          [
              _command(headers, limit, next(iter(a.values())).machine),
              *_stop([*a.values(), *b.values()]),
          ]
      ),
  }
  return found | {"id": provenance.digest(found)}


def side(found: Mapping[str, results.Results]) -> dict[str, Any]:
  """What a manifest says of one policy, from its results by set."""
  first = next(iter(found.values()))
  machines = [m for result in found.values() for m in result.machines]
  return {
      "checkpoint": first.header["policy"]["checkpoint"],
      # Each once, in the order in which they took part.
      "machines": [m for i, m in enumerate(machines) if m not in machines[:i]],
      "results": {
          name: {
              "id": result.id,
              "policy": result.header["policy"],
              # The code of the grader where it was not that of the sampling.
              "graded": result.header.get("graded"),
              "records_sha256": provenance.digest(
                  [result.records[i] for i in sorted(result.records)]
              ),
          }
          for name, result in found.items()
      },
  }


def _command(
    headers: Mapping[str, Mapping[str, Any]],
    limit: int | None,
    machine: Mapping[str, Any],
) -> str:
  """The command with its settings; A, B, DATA and OUT are for the reader."""
  fields = [
      ("seed", "sampling", "seed"),
      ("max_tokens", "sampling", "max_tokens"),
      ("dtype", "sampling", "dtype"),
      ("template", "prompts", "template"),
      ("split", "set", "split"),
  ]
  flags = [
      "--a=A --b=B --data=DATA --out=OUT",
      *_sets(headers),
      *([f"--limit={limit}"] if limit else []),
      f"--batch={machine.get('batch', 64)}",
      *_mesh(machine.get("mesh", "")),
  ]
  for flag, section, field in fields:
    values = {header[section][field] for header in headers.values()}
    # Sets with values of their own have them by default.
    if len(values) == 1 and values != {""}:
      flags.append(f"--{flag}={values.pop()}")
  return " ".join(["python launch/compare.py", *flags])


def _sets(headers: Mapping[str, Mapping[str, Any]]) -> list[str]:
  """Flags of the sets; files of one's own are for the reader to have."""
  own = [n for n in headers if not problem_sets.is_known(n)]
  known = [n for n in headers if n not in own]
  flags = [f"--suite={','.join(known)}"] if known else []
  if own:
    told = [headers[n] for n in own]
    metrics = (
        f"pass@{h['sampling']['samples']}"
        if h["set"]["metric"] == "pass_at_k"
        else h["set"]["metric"]
        for h in told
    )
    flags += [
        f"--problems={','.join(f'{n}.jsonl' for n in own)}",
        f"--metric={','.join(metrics)}",
        f"--weight={','.join(str(h['set']['weight']) for h in told)}",
    ]
  return flags


def _stop(found: Sequence[results.Results]) -> list[str]:
  """The flag of tokens that end a completion, if all were asked with the same.

  Where they are not, those of the template were taken by each policy that has
  them, as happens without the flag.
  """
  told = {tuple(r.header["policy"].get("stop", ("?",))) for r in found}
  if len(told) > 1 or ("?",) in told:
    return []
  return [shlex.quote(f"--stop={','.join(told.pop())}")]


def _mesh(sizes: str) -> list[str]:
  """Flags of a mesh such as `2 x 1 x 1`, none without one."""
  axes = ("data", "fsdp", "tensor")
  return [
      f"--mesh.{axis}={size}"
      for axis, size in zip(axes, sizes.split(" x "), strict=False)
      if size
  ]
