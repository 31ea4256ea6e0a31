"""Writes the policy of any step of a run as a Hugging Face directory.

  python launch/export.py --workdir=DIR --policy=BASE --out=DIR \
      [--step=100] [--dtype=bfloat16] [--adapter]

--step=best is the best by the metric of --config.retention that the run had.
With LoRA the adapters are merged with BASE, or with --adapter written alone, as
the peft library reads them. BASE is what the run started from (its --config.policy): the tokenizer, the
generation settings and the shape come from there. The run may go on meanwhile.
`transformers` loads what is written, and so does --config.policy.
"""

from collections.abc import Mapping, Sequence
import functools
import os
import pathlib
import sys
from typing import Any

from absl import app, flags, logging
from flax import nnx
import jax
import orbax.checkpoint as ocp

from poise_jax.discovery.trials import trial
from poise_jax.models import checkpoints as policies
from poise_jax.models import lora, transformer
from poise_jax.training import checkpoint, checkpoint_record

_WORKDIR = flags.DEFINE_string("workdir", None, "Directory of the run.")
_POLICY = flags.DEFINE_string(
    "policy", None, "What the run started from: a directory, or `embedded`."
)
_OUT = flags.DEFINE_string("out", None, "New directory to write.")
_STEP = flags.DEFINE_string(
    "step", "latest", "A number, `latest` or `best` (by --config.retention)."
)
_ADAPTER = flags.DEFINE_bool(
    "adapter", False, "Write the adapters of a LoRA run, without the policy."
)
_DTYPE = flags.DEFINE_enum(
    "dtype",
    "float32",
    ["float32", "bfloat16", "float16"],
    "Type of the weights that are written.",
)


def check_place(name: str, value: str | None) -> None:
  """Refuses a flag that names no place in a file system.

  Raises:
    ValueError: naming the flag.
  """
  if not value:
    raise ValueError(f"give --{name}")
  if "://" in value:
    raise ValueError(
        f"--{name} must be in a file system, got {value!r}; mount the bucket,"
        " and give the path of the mount"
    )


def choose_step(checkpoints: checkpoint.Checkpoints, wanted: str) -> int:
  """The step that --step means.

  Raises:
    ValueError: if there is none such.
  """
  there = checkpoints.steps()
  if not there:
    raise ValueError("--workdir has no checkpoint yet; wait for the first one")
  if wanted == "latest":
    return there[-1]
  if wanted == "best":
    return best_step({step: checkpoints.record(step) for step in there})
  if not wanted.isdecimal() or int(wanted) not in there:
    raise ValueError(
        f"--step={wanted} must be latest, best, or one of"
        f" {', '.join(map(str, there))}"
    )
  return int(wanted)


def best_step(records: Mapping[int, checkpoint_record.Record]) -> int:
  """The best step by the metric that the run has last kept its best by.

  Args:
    records: of the steps there.

  Raises:
    ValueError: if there was no such metric, or no step has it.
  """
  told = records[max(records)].retention
  if not told:
    names = sorted(set().union(*(r.metrics for r in records.values())))
    raise ValueError(
        "--step=best: the run has not recorded by which metric; give a number"
        f" of {', '.join(map(str, sorted(records)))}, whose metrics are"
        f" {', '.join(names) or 'none'}"
    )
  retention = checkpoint.Retention(**told)
  metrics = {step: record.metrics for step, record in records.items()}
  if ranked := retention.ranked(metrics):
    return ranked[0]
  listed = (
      f"step {step} has {', '.join(sorted(found)) or 'none'}"
      for step, found in sorted(metrics.items())
  )
  raise ValueError(
      f"--step=best: no step has the metric {retention.metric!r} of"
      f" --config.retention.metric: {'; '.join(listed)}"
  )


def restore(
    directory: pathlib.Path, step: int, leaves: dict[str, str], abstract: Any
) -> Any:
  """Reads the params of a step alone, onto the host's first device.

  Args:
    directory: of the checkpoints.
    step: one of them.
    leaves: name -> dtype and shape of what it holds.
    abstract: params as shapes.

  Raises:
    ValueError: if it holds other params.
  """
  flat, structure = jax.tree_util.tree_flatten_with_path({"params": abstract})
  named = {jax.tree_util.keystr(path): leaf for path, leaf in flat}
  for name, leaf in named.items():
    shape = f"[{','.join(map(str, leaf.shape))}]"
    if not leaves.get(name, "").endswith(shape):
      found = leaves.get(name, "absent")
      raise ValueError(
          f"--policy must be what the run started from: {name} is {found} in"
          f" step {step}, not {shape}"
      )
  place = jax.sharding.SingleDeviceSharding(jax.devices("cpu")[0])
  targets = {
      name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)
      for name, leaf in named.items()
  }
  with ocp.PyTreeCheckpointer() as reader:
    arrays = reader.restore(
        (directory / str(step) / "arrays").absolute(),
        ocp.args.PyTreeRestore(
            item=targets,
            restore_args=ocp.checkpoint_utils.construct_restore_args(targets),
            partial_restore=True,
        ),
    )
  found = [arrays[name] for name in named]
  return jax.tree.unflatten(structure, found)["params"]


def adapters_of(
    record: checkpoint_record.Record,
) -> lora.LoraOptions | None:
  """Options of the adapters of a step; None if every weight was trained."""
  fields = record.fingerprint.get("--config.train", {}).get("lora")
  if not fields:
    return None
  return lora.LoraOptions(**{**fields, "targets": tuple(fields["targets"])})


def eos_ids_of(record: checkpoint_record.Record) -> list[int] | None:
  """Tokens that ended a completion of a step; None if they are the base's."""
  found = record.fingerprint.get("--config.problems", {}).get("stop")
  return [int(token) for token in found] if found else None


def export(
    workdir: pathlib.Path,
    base: pathlib.Path,
    out: pathlib.Path,
    wanted: str,
    dtype: str,
    *,
    adapter: bool = False,
) -> int:
  """Writes the policy of a step, or its adapters; returns the step's number.

  Raises:
    OSError: if a file is missing.
    ValueError: naming what does not fit.
  """
  if out.exists() and any(out.iterdir()):
    raise ValueError(f"--out={out} must be a new or empty directory")
  config, _, _ = policies.read_config(base)
  directory = workdir / "checkpoints"
  with checkpoint.read(directory) as checkpoints:
    step = choose_step(checkpoints, wanted)
    record = checkpoints.record(step)
  saved = record.fingerprint.get("--config.policy")
  has_weights = any(base.glob("model*.safetensors"))
  if has_weights and saved not in (None, policies.fingerprint(base)):
    raise ValueError(
        f"--policy={base} must be what the run started from; its files differ"
    )
  options, stops = adapters_of(record), eos_ids_of(record)
  save = functools.partial(policies.save, out, config, source=base, dtype=dtype)
  if options is None:
    if adapter:
      raise ValueError("--adapter: this run trained every weight, without LoRA")
    _, abstract = transformer.structure(config)
    params: nnx.State = restore(directory, step, record.leaves, abstract)
    save(params, eos_token_id=stops)
    return step
  abstract = lora.shapes(config, options)
  found = restore(directory, step, record.leaves, abstract)
  if adapter:
    lora.save(out, found, options, base=os.fspath(base))
    return step
  # Also refuses a --policy without weights: there is nothing to merge with.
  merged = lora.merge(policies.load(base).params, found, options)
  save(merged, eos_token_id=stops)
  return step


def main(argv: Sequence[str]) -> None:
  """Exports; anything wrong is one line on stderr and exit status 2."""
  logging.set_verbosity(logging.WARNING)  # orbax tells all that it does
  try:
    if argv[1:]:
      raise ValueError(f"unexpected argument {argv[1]!r}: use --flag=value")
    for flag in (_WORKDIR, _POLICY, _OUT):
      check_place(flag.name, flag.value)
    out = pathlib.Path(_OUT.value)
    step = export(
        pathlib.Path(_WORKDIR.value),
        trial.base_directory(_POLICY.value),
        out,
        _STEP.value,
        _DTYPE.value,
        adapter=_ADAPTER.value,
    )
  except (ValueError, OSError) as error:
    print(f"export: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)
  what = "adapter" if _ADAPTER.value else "policy"
  print(f"the {what} after step {step} is in {os.fspath(out)}")


if __name__ == "__main__":
  jax.config.config_with_absl()
  app.run(main)
