"""Hugging Face directories in and out: config.json and model.safetensors."""

import dataclasses
import hashlib
import json
import os
import pathlib
from typing import NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
import safetensors
import safetensors.numpy

from poise_jax.models import transformer

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"


class Checkpoint(NamedTuple):
  """A policy read from disk.

  Attributes:
    config: shape of the model.
    graphdef: its structure.
    params: its weights, f32.
    sha256: hash of the config, weights and tokenizer files.
  """

  config: transformer.TransformerConfig
  graphdef: nnx.GraphDef
  params: nnx.State
  sha256: str


def _tensor_name(path: tuple[object, ...]) -> str:
  """The Hugging Face name of the weight at `path` in the params."""
  *modules, leaf = [str(part) for part in path]
  leaf = "bias" if leaf == "bias" else "weight"
  return ".".join(["model", *modules, leaf])


def _named_shapes(
    config: transformer.TransformerConfig,
) -> dict[str, tuple[tuple[object, ...], tuple[int, ...], bool]]:
  """Tensor name -> (path in the params, stored shape, whether transposed)."""
  _, abstract = transformer.structure(config)
  named = {}
  for path, leaf in nnx.to_flat_state(abstract):
    transposed = path[-1] == "kernel"  # stored [out, in] there, [in, out] here
    shape = leaf.shape[::-1] if transposed else leaf.shape
    named[_tensor_name(path)] = (path, shape, transposed)
  return named


def _read_weights(path: pathlib.Path) -> dict[str, NDArray]:
  try:
    return safetensors.numpy.load_file(path)
  except safetensors.SafetensorError as error:
    raise ValueError(f"cannot read {os.fspath(path)!r}: {error}") from error


def _check_weights(
    weights: dict[str, NDArray],
    named: dict[str, tuple[tuple[object, ...], tuple[int, ...], bool]],
    path: pathlib.Path,
) -> None:
  problems = [f"missing {name}" for name in sorted(named.keys() - weights)]
  problems += [f"unknown {name}" for name in sorted(weights.keys() - named)]
  problems += [
      f"{name} has shape {weights[name].shape}, config.json implies {shape}"
      for name, (_, shape, _) in sorted(named.items())
      if name in weights and weights[name].shape != shape
  ]
  if problems:
    raise ValueError(
        f"{os.fspath(path)!r} does not fit its config: {'; '.join(problems)}"
    )


def fingerprint(directory: str | os.PathLike[str]) -> str:
  """SHA-256 over the names and contents of the files that define a policy."""
  digest = hashlib.sha256()
  for name in (CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE):
    path = pathlib.Path(directory) / name
    content = path.read_bytes() if path.is_file() else b""
    digest.update(f"{name} {len(content)}\n".encode())
    digest.update(content)
  return digest.hexdigest()


def load(directory: str | os.PathLike[str]) -> Checkpoint:
  """Reads a Hugging Face directory of a Qwen2 model.

  Args:
    directory: holds config.json and model.safetensors.

  Returns:
    The policy, its weights in f32.

  Raises:
    FileNotFoundError: if a file is missing.
    ValueError: if the files cannot be read, or tensors are missing, unknown or
      misshapen (all of them are listed).
  """
  directory = pathlib.Path(directory)
  for name in (CONFIG_FILE, WEIGHTS_FILE):
    if not (directory / name).is_file():
      raise FileNotFoundError(
          f"no {name} in {os.fspath(directory)!r}; a checkpoint is a Hugging"
          f" Face directory with {CONFIG_FILE} and {WEIGHTS_FILE}"
      )
  try:
    fields = json.loads((directory / CONFIG_FILE).read_text("utf-8"))
  except ValueError as error:
    path = os.fspath(directory / CONFIG_FILE)
    raise ValueError(f"cannot read {path!r}: {error}") from error
  config = transformer.config_from_hf(fields)
  weights = _read_weights(directory / WEIGHTS_FILE)
  named = _named_shapes(config)
  _check_weights(weights, named, directory / WEIGHTS_FILE)
  graphdef, abstract = transformer.structure(config)
  arrays = {
      path: jnp.asarray(weights[name].T if transposed else weights[name])
      for name, (path, _, transposed) in named.items()
  }
  leaves = [
      (path, leaf.replace(arrays[path].astype(jnp.float32)))
      for path, leaf in nnx.to_flat_state(abstract)
  ]
  return Checkpoint(
      config, graphdef, nnx.from_flat_state(leaves), fingerprint(directory)
  )


def save(
    directory: str | os.PathLike[str],
    config: transformer.TransformerConfig,
    params: nnx.State,
    *,
    eos_token_id: int | None = None,
    bos_token_id: int | None = None,
    pad_token_id: int | None = None,
) -> None:
  """Writes config.json and model.safetensors, as `transformers` reads them.

  Files are replaced one by one, each atomically.

  Args:
    directory: created if absent.
    config: shape of the model.
    params: weights.
    eos_token_id: ends generation, for other libraries' use.
    bos_token_id: likewise.
    pad_token_id: likewise.
  """
  directory = pathlib.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  fields = dataclasses.asdict(config) | {
      "architectures": ["Qwen2ForCausalLM"],
      "model_type": "qwen2",
      "hidden_act": "silu",
      "tie_word_embeddings": True,
      "use_sliding_window": False,
      "attention_dropout": 0.0,
      "torch_dtype": "float32",
      "eos_token_id": eos_token_id,
      "bos_token_id": bos_token_id,
      "pad_token_id": pad_token_id,
  }
  flat = dict(nnx.to_flat_state(jax.device_get(params)))
  weights = {}
  for name, (path, _, transposed) in _named_shapes(config).items():
    array = np.asarray(flat[path][...])
    weights[name] = np.ascontiguousarray(array.T if transposed else array)
  text = json.dumps(fields, indent=2, sort_keys=True) + "\n"
  _replace(directory / CONFIG_FILE, text.encode())
  data = safetensors.numpy.save(weights, metadata={"format": "pt"})
  _replace(directory / WEIGHTS_FILE, data)


def _replace(path: pathlib.Path, content: bytes) -> None:
  temporary = path.with_name(path.name + ".partial")
  temporary.write_bytes(content)
  os.replace(temporary, path)
