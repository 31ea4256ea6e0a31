"""Hugging Face directories: a policy from disk, and its fingerprint."""

from collections.abc import Callable, Mapping
import hashlib
import os
import pathlib
from typing import Any, NamedTuple

from flax import nnx

from poise_jax.models import export, families, weights

CONFIG_FILE = export.CONFIG_FILE
GENERATION_FILE = export.GENERATION_FILE
WEIGHTS_FILE = weights.WEIGHTS_FILE
TOKENIZER_FILE = "tokenizer.json"

_CHUNK = 1 << 20

save = export.save


class Checkpoint(NamedTuple):
  """A policy read from disk.

  Attributes:
    config: shape of the model.
    graphdef: its structure.
    params: its weights, f32 unless asked otherwise.
    sha256: hash of the config, weights and tokenizer files.
    fields: contents of config.json.
    tokens: special tokens, by generation_config.json and config.json.
  """

  config: families.TransformerConfig
  graphdef: nnx.GraphDef
  params: nnx.State
  sha256: str
  fields: Mapping[str, Any] = {}
  tokens: families.TokenIds = families.TokenIds()


def fingerprint(directory: str | os.PathLike[str]) -> str:
  """SHA-256 over the names and contents of the files that define a policy.

  These are config.json, the weights (all files of an index, and the index) and
  tokenizer.json.
  """
  directory = pathlib.Path(directory)
  files = [WEIGHTS_FILE]
  index = directory / weights.INDEX_FILE
  if not (directory / WEIGHTS_FILE).is_file() and index.is_file():
    files = [weights.INDEX_FILE]
    files += sorted(set(weights.weight_map(directory).values()))
  digest = hashlib.sha256()
  for name in (CONFIG_FILE, *files, TOKENIZER_FILE):
    path = directory / name
    size = path.stat().st_size if path.is_file() else 0
    digest.update(f"{name} {size}\n".encode())
    if size:
      with path.open("rb") as file:
        while content := file.read(_CHUNK):
          digest.update(content)
  return digest.hexdigest()


def read_config(
    directory: str | os.PathLike[str],
) -> tuple[families.TransformerConfig, dict[str, Any], families.TokenIds]:
  """Shape, contents of config.json and special tokens, without the weights.

  Raises:
    FileNotFoundError: if there is no config.json.
    ValueError: if it cannot be read or used.
  """
  directory = pathlib.Path(directory)
  if not (directory / CONFIG_FILE).is_file():
    raise FileNotFoundError(
        f"no {CONFIG_FILE} in {os.fspath(directory)!r}; a checkpoint is a"
        f" Hugging Face directory with {CONFIG_FILE} and {WEIGHTS_FILE}"
    )
  fields = weights.read_json(directory / CONFIG_FILE)
  generation = directory / GENERATION_FILE
  return (
      families.config_from_hf(fields),
      fields,
      families.token_ids(
          fields, weights.read_json(generation) if generation.is_file() else {}
      ),
  )


def load(
    directory: str | os.PathLike[str],
    *,
    dtype: str | None = "float32",
    shardings: Callable[[nnx.State], nnx.State] | None = None,
) -> Checkpoint:
  """Reads a Hugging Face directory of a Qwen2, Qwen3 or Llama model.

  Args:
    directory: holds config.json, and model.safetensors or several such files
      and their index.
    dtype: of the params: "float32", "bfloat16", or as stored if None.
    shardings: makes the shardings of params from their shapes, such as
      `functools.partial(logical_axes.parameter_shardings, mesh)`; the host then
      never holds more than one tensor. If None, params are whole, on the
      default device.

  Returns:
    The policy.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if the files cannot be read, or tensors are missing, unknown or
      misshapen (all of them are listed).
  """
  directory = pathlib.Path(directory)
  config, fields, tokens = read_config(directory)
  graphdef, params = weights.read(
      directory, config, dtype=dtype, shardings=shardings
  )
  return Checkpoint(
      config, graphdef, params, fingerprint(directory), fields, tokens
  )
