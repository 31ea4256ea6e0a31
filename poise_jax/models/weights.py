"""Safetensors files in: one tensor at a time, one device's part at a time."""

from collections.abc import Callable, Mapping
import contextlib
import json
import os
import pathlib
from typing import Any, NamedTuple

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
import safetensors

from poise_jax.models import families, transformer

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_DTYPES = ("F32", "BF16", "F16")
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


class Stored(NamedTuple):
  """How a parameter lies in a file.

  Attributes:
    path: of the parameter among the params.
    shape: in the file.
    transposed: kernels are [out, in] in the file, [in, out] here.
  """

  path: tuple[Any, ...]
  shape: tuple[int, ...]
  transposed: bool


def _tensor_name(path: tuple[Any, ...]) -> str:
  """The Hugging Face name of the weight at `path` in the params."""
  *modules, leaf = [str(part) for part in path]
  leaf = "bias" if leaf == "bias" else "weight"
  root = [] if modules == ["lm_head"] else ["model"]
  return ".".join([*root, *modules, leaf])


def stored(config: families.TransformerConfig) -> dict[str, Stored]:
  """Every tensor of a model, by its Hugging Face name."""
  return _stored(transformer.structure(config)[1])


def _stored(abstract: nnx.State) -> dict[str, Stored]:
  named = {}
  for path, leaf in nnx.to_flat_state(abstract):
    transposed = path[-1] == "kernel"
    shape = leaf.shape[::-1] if transposed else leaf.shape
    named[_tensor_name(path)] = Stored(path, shape, transposed)
  return named


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The object in a JSON file.

  Raises:
    ValueError: if the file is not UTF-8, not JSON, or not an object.
  """
  try:
    found = json.loads(path.read_text("utf-8"))
  except (ValueError, RecursionError) as error:
    raise ValueError(f"cannot read {os.fspath(path)!r}: {error}") from error
  if not isinstance(found, dict):
    raise ValueError(f"cannot read {os.fspath(path)!r}: it is not an object")
  return found


def weight_map(directory: pathlib.Path) -> dict[str, str] | None:
  """Tensor name -> file, by the index; None where one file holds everything.

  A single file comes first where there is an index too, as in `transformers`.

  Raises:
    FileNotFoundError: if there is neither file nor index, or the index names
      files that are absent (all of them are listed).
    ValueError: if the index cannot be read.
  """
  if (directory / WEIGHTS_FILE).is_file():
    return None
  index = directory / INDEX_FILE
  if not index.is_file():
    raise FileNotFoundError(
        f"no {WEIGHTS_FILE} or {INDEX_FILE} in {os.fspath(directory)!r}; a"
        " checkpoint is a Hugging Face directory with either of them"
    )
  found = read_json(index).get("weight_map")
  if not isinstance(found, dict) or not all(
      isinstance(file, str) and pathlib.PurePath(file).name == file != ""
      for file in found.values()
  ):
    raise ValueError(
        f"cannot read {os.fspath(index)!r}: `weight_map` must map tensors to"
        " names of files beside it"
    )
  absent = sorted(
      file for file in set(found.values()) if not (directory / file).is_file()
  )
  if absent:
    raise FileNotFoundError(
        f"{os.fspath(index)!r} names files that are absent: {', '.join(absent)}"
    )
  return found


def _open(path: pathlib.Path) -> Any:
  try:
    return safetensors.safe_open(path, framework="numpy")
  except (safetensors.SafetensorError, OSError) as error:
    raise ValueError(f"cannot read {os.fspath(path)!r}: {error}") from error


class _Tensors(NamedTuple):
  """Tensors of open files, by name; `problems` were found on the way."""

  slices: dict[str, Any]
  problems: list[str]


def _open_all(directory: pathlib.Path, stack: contextlib.ExitStack) -> _Tensors:
  mapped = weight_map(directory)
  files = [WEIGHTS_FILE] if mapped is None else sorted(set(mapped.values()))
  slices, problems = {}, []
  for file in files:
    opened = stack.enter_context(_open(directory / file))
    for name in opened.keys():  # noqa: SIM118, it is not a dict
      if mapped is None or mapped.get(name) == file:
        slices[name] = opened.get_slice(name)
      else:
        problems.append(f"{file} has {name}, {INDEX_FILE} says otherwise")
  for name in sorted((mapped or {}).keys() - slices.keys()):
    problems.append(f"{mapped[name]} lacks {name}, {INDEX_FILE} names it")
  return _Tensors(slices, problems)


def _check(
    tensors: _Tensors,
    named: Mapping[str, Stored],
    config: families.TransformerConfig,
    directory: pathlib.Path,
) -> None:
  slices, problems = tensors
  ignored = {name for name in slices if name.endswith("rotary_emb.inv_freq")}
  if config.tie_word_embeddings:
    ignored.add(_HEAD)
  known = slices.keys() - ignored
  problems += [f"missing {name}" for name in sorted(named.keys() - slices)]
  problems += [f"unknown {name}" for name in sorted(known - named.keys())]
  for name, (_, shape, _) in sorted(named.items()):
    if name not in slices:
      continue
    found = tuple(slices[name].get_shape())
    dtype = slices[name].get_dtype()
    if found != shape:
      problems.append(f"{name} has shape {found}, config.json implies {shape}")
    if dtype not in _DTYPES:
      problems.append(f"{name} is {dtype}, must be one of {', '.join(_DTYPES)}")
  if not problems and config.tie_word_embeddings and _HEAD in slices:
    head, embedding = slices[_HEAD], slices[_EMBEDDING]
    if head.get_shape() != embedding.get_shape() or not np.array_equal(
        head[:], embedding[:]
    ):
      problems.append(
          f"{_HEAD} differs from {_EMBEDDING}, `tie_word_embeddings` is true"
      )
  if problems:
    raise ValueError(
        f"{os.fspath(directory)!r} does not fit its config:"
        f" {'; '.join(problems)}"
    )


def read(
    directory: pathlib.Path,
    config: families.TransformerConfig,
    *,
    dtype: str | None = "float32",
    shardings: Callable[[nnx.State], nnx.State] | None = None,
) -> tuple[nnx.GraphDef, nnx.State]:
  """Reads the weights of a model.

  Tensors are read one after the other. With shardings each device of this
  process is given its slice, read from the file for it: the host never holds
  more than one tensor.

  Args:
    directory: holds one safetensors file, or several and their index.
    config: shape of the model.
    dtype: of the params; as stored if None.
    shardings: makes the `NamedSharding`s of params, in their structure, from
      their shapes; if None, params are whole, on the default device.

  Returns:
    Structure and params.

  Raises:
    FileNotFoundError: as `weight_map`.
    ValueError: if a file cannot be read, or tensors are missing, unknown,
      misshapen or of other types (all of them are listed).
  """
  graphdef, abstract = transformer.structure(config)
  named = _stored(abstract)
  where = shardings and dict(nnx.to_flat_state(shardings(abstract)))
  with contextlib.ExitStack() as stack:
    tensors = _open_all(directory, stack)
    _check(tensors, named, config, directory)
    arrays = {}
    for name, (path, shape, transposed) in named.items():
      part = tensors.slices[name]

      def fetch(
          index: tuple[slice, ...], part: Any = part, flip: bool = transposed
      ) -> NDArray:
        found = part[index[::-1]].T if flip else part[index]
        return found if dtype is None else found.astype(jnp.dtype(dtype))

      ours = shape[::-1] if transposed else shape
      if where is None:
        arrays[path] = jnp.asarray(fetch((slice(None),) * len(ours)))
      else:
        arrays[path] = jax.make_array_from_callback(
            ours, where[path].get_value(), fetch
        )
  leaves = [
      (path, leaf.replace(arrays[path]))
      for path, leaf in nnx.to_flat_state(abstract)
  ]
  return graphdef, nnx.from_flat_state(leaves)
