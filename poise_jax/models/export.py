"""Hugging Face directories out: what `transformers` loads."""

from collections.abc import Iterator, Mapping
import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
import safetensors.numpy

from poise_jax import sharding
from poise_jax.models import families, weights

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"

# What a tokenizer may be made of, beside the settings of generation.
COPIED_FILES = (
    GENERATION_FILE,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)


def _plan(
    sizes: Mapping[str, int], max_file_bytes: int
) -> dict[str, list[str]]:
  """File -> tensors, in order, each file as full as it may be."""
  parts, filled = [[]], 0
  for name, size in sizes.items():
    if parts[-1] and filled + size > max_file_bytes:
      parts.append([])
      filled = 0
    parts[-1].append(name)
    filled += size
  if len(parts) == 1:
    return {weights.WEIGHTS_FILE: parts[0]}
  return {
      f"model-{i + 1:05}-of-{len(parts):05}.safetensors": part
      for i, part in enumerate(parts)
  }


def _write_weights(
    directory: pathlib.Path,
    plan: Mapping[str, list[str]],
    sizes: Mapping[str, int],
    tensors: Iterator[NDArray],
) -> None:
  """Writes tensors, which come in the order of the plan, and their index.

  Every process draws tensors, whose parts may be anywhere; one writes.
  """
  writes = sharding.is_writer()
  for file, names in plan.items():
    part = {}
    for name in names:
      tensor = next(tensors)
      if writes:
        part[name] = tensor
    if writes:
      safetensors.numpy.save_file(
          part, directory / file, metadata={"format": "pt"}
      )
      (directory / file).chmod(0o644)
  if writes and len(plan) > 1:
    index = {
        "metadata": {"total_size": sum(sizes.values())},
        "weight_map": {n: file for file, names in plan.items() for n in names},
    }
    _write_json(directory / weights.INDEX_FILE, index)


def _write_json(path: pathlib.Path, fields: Mapping[str, Any]) -> None:
  text = json.dumps(fields, indent=2, sort_keys=True) + "\n"
  path.write_text(text, "utf-8")


def save(
    directory: str | os.PathLike[str],
    config: families.TransformerConfig,
    params: nnx.State,
    *,
    eos_token_id: int | list[int] | None = None,
    bos_token_id: int | None = None,
    pad_token_id: int | None = None,
    source: str | os.PathLike[str] | None = None,
    dtype: str | None = None,
    max_file_bytes: int = 5_000_000_000,
) -> None:
  """Writes a directory that `transformers` loads.

  Everything is written beside `directory` first, so that a failure leaves
  nothing. A directory that is new or empty then appears at once; in one with
  files those are replaced one by one, each atomically.

  With several processes all of them call it; one writes, and holds as much of
  the weights as one file.

  Args:
    directory: created if absent.
    config: shape of the model.
    params: weights, whole or sharded.
    eos_token_id: ends generation (a list: any of them), for other libraries'
      use; in generation_config.json too, if that is copied.
    bos_token_id: likewise.
    pad_token_id: likewise.
    source: Hugging Face directory that the model came from: tokenizer files and
      generation_config.json are copied from it, and fields of its config.json
      unknown here are kept, special tokens too unless given.
    dtype: of the tensors: "float32", "bfloat16", "float16", or as the params
      are if None.
    max_file_bytes: most weights in a file; a larger model is written as several
      and an index.

  Raises:
    ValueError: if the params are not those of `config` (all differences are
      listed), or `source` cannot be read.
  """
  directory = pathlib.Path(directory).absolute()
  named = weights.stored(config)
  flat = {path: leaf.get_value() for path, leaf in nnx.to_flat_state(params)}
  _check(named, flat)
  dtypes = {path: jnp.dtype(dtype or flat[path].dtype) for path in flat}
  sizes = {
      name: flat[path].size * dtypes[path].itemsize
      for name, (path, _, _) in named.items()
  }
  source = None if source is None else pathlib.Path(source)
  fields = _fields(
      *(config, source, dtypes["embed_tokens", "embedding"]),
      eos_token_id=eos_token_id,
      bos_token_id=bos_token_id,
      pad_token_id=pad_token_id,
  )
  plan = _plan(sizes, max_file_bytes)
  tensors = _tensors(named, flat, dtypes)
  if not sharding.is_writer():
    _write_weights(directory, plan, sizes, tensors)
    return
  with _appearing(directory) as written:
    _write_weights(written, plan, sizes, tensors)
    _write_json(written / CONFIG_FILE, fields)
    if source is not None:
      _copy_files(source, written)
    generation = written / GENERATION_FILE
    if eos_token_id is not None and generation.is_file():
      known = weights.read_json(generation)
      _write_json(generation, known | {"eos_token_id": eos_token_id})


def _fields(
    config: families.TransformerConfig,
    source: pathlib.Path | None,
    dtype: np.dtype,
    **tokens: int | list[int] | None,
) -> dict[str, Any]:
  """Contents of config.json: ours, and what only the source knows."""
  base = None if source is None else weights.read_json(source / CONFIG_FILE)
  fields = families.config_to_hf(config, base, dtype=str(dtype))
  return fields | {
      name: fields.get(name) if given is None else given
      for name, given in tokens.items()
  }


def _tensors(
    named: Mapping[str, weights.Stored],
    flat: Mapping[tuple[Any, ...], jax.Array | np.ndarray],
    dtypes: Mapping[tuple[Any, ...], np.dtype],
) -> Iterator[NDArray]:
  """The weights as they lie in files, fetched one after the other."""
  for path, _, transposed in named.values():
    array = np.asarray(sharding.fetch(flat[path]))
    array = array.astype(dtypes[path], copy=False)
    yield np.ascontiguousarray(array.T if transposed else array)


def _copy_files(source: pathlib.Path, directory: pathlib.Path) -> None:
  """Copies tokenizer files and the settings of generation, if there are any."""
  for name in COPIED_FILES:
    if (source / name).is_file():
      shutil.copyfile(source / name, directory / name)


@contextlib.contextmanager
def _appearing(directory: pathlib.Path) -> Iterator[pathlib.Path]:
  """A directory to write to, whose files go to `directory` if nothing fails.

  It lies beside `directory`, in the same file system; after a failure nothing
  is left of it.
  """
  directory.parent.mkdir(parents=True, exist_ok=True)
  written = pathlib.Path(
      tempfile.mkdtemp(
          prefix=f".{directory.name}.", suffix=".partial", dir=directory.parent
      )
  )
  try:
    written.chmod(0o755)
    yield written
    _publish(written, directory)
  finally:
    shutil.rmtree(written, ignore_errors=True)


def _publish(written: pathlib.Path, directory: pathlib.Path) -> None:
  """Moves finished files to their place."""
  directory.mkdir(parents=True, exist_ok=True)
  if not any(directory.iterdir()):
    os.replace(written, directory)
    return
  names = {path.name for path in written.iterdir()}
  # A single file would hide an index, so it goes before the index comes.
  for path in sorted(directory.glob("model*.safetensors*")):
    if path.name not in names:
      path.unlink()
  # The config, without which nothing can be loaded, comes last.
  for name in sorted(names, key=lambda name: (name == CONFIG_FILE, name)):
    os.replace(written / name, directory / name)
  written.rmdir()


def _check(
    named: Mapping[str, weights.Stored],
    flat: Mapping[tuple[Any, ...], Any],
) -> None:
  """Refuses params of another model."""
  wanted = {
      path: shape[::-1] if transposed else shape
      for path, shape, transposed in named.values()
  }
  dotted = lambda path: ".".join(map(str, path))
  problems = [f"missing {dotted(p)}" for p in wanted if p not in flat]
  problems += [f"unknown {dotted(p)}" for p in flat if p not in wanted]
  problems += [
      f"{dotted(path)} has shape {flat[path].shape}, not {shape}"
      for path, shape in wanted.items()
      if path in flat and flat[path].shape != shape
  ]
  if problems:
    raise ValueError(f"`params` do not fit `config`: {'; '.join(problems)}")
