"""Sets of problems of one's own: a file, or a dataset on Hugging Face."""

from collections.abc import Sequence
import importlib
import pathlib
import re
from typing import Any, Literal, NamedTuple

from poise_jax.tasks import benchmarks, problem_set

_FILES = (".jsonl", ".json", ".parquet")
_METRIC = re.compile(r"pass@([1-9][0-9]{0,3})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DATASET = re.compile(
    r"([\w.-]+/[\w.-]+)(?:\[(?:([\w.-]+)/)?([\w.-]+)\])?", re.ASCII
)


class OwnSet(NamedTuple):
  """A set that a user brings.

  Attributes:
    name: of its scores and results.
    source: a file, or a dataset as `owner/name[subset/split]`.
    metric: `pass_at_k`, any of `samples` correct; or `accuracy`, one greedy
      sample.
    samples: completions for each problem.
    weight: share in Overall.
  """

  name: str
  source: str
  metric: Literal["pass_at_k", "accuracy"] = "accuracy"
  samples: int = 1
  weight: float = 0.0


def parse(
    sources: Sequence[str],
    metrics: Sequence[str] = ("accuracy",),
    weights: Sequence[str] = ("0",),
) -> tuple[OwnSet, ...]:
  """Reads what a user says of sets.

  Args:
    sources: of each a path that ends in .jsonl, .json or .parquet, or
      `owner/name`, `owner/name[split]` or `owner/name[subset/split]` of a
      dataset, whose split is `test` if not given.
    metrics: `accuracy` or `pass@K`; one for all, or one each.
    weights: in [0, 1]; one for all, or one each.

  Raises:
    ValueError: naming what is wrong.
  """
  count = len(sources)
  for what, values in (("metrics", metrics), ("weights", weights)):
    if len(values) not in (1, count):
      raise ValueError(
          f"`{what}` must be one for all sets or one each, got {len(values)}"
          f" for {count} sets"
      )
  every = lambda values: values if len(values) == count else [*values] * count
  found = tuple(
      OwnSet(_name(source), source, *_metric(metric), _weight(weight))
      for source, metric, weight in zip(
          sources, every(metrics), every(weights), strict=True
      )
  )
  names = [own.name.casefold() for own in found]
  if twice := {name for name in names if names.count(name) > 1}:
    raise ValueError(
        "sets must have different names, which are those of their files, got"
        f" {', '.join(sorted(twice))} more than once; rename one"
    )
  return found


def read(own: OwnSet) -> tuple[problem_set.Problem, ...]:
  """Reads all problems of a set; see `problem_set` for the fields.

  Raises:
    FileNotFoundError: if there is no such file.
    ImportError: if a package is missing that reads this kind.
    ValueError: if anything is malformed, or there is no problem.
  """
  if not own.source.endswith(_FILES):
    return _download(own)
  path = pathlib.Path(own.source)
  if not path.is_file():
    raise FileNotFoundError(
        f"there must be a file of problems at {path}, there is none"
    )
  if path.suffix != ".parquet":
    return _some(own, problem_set.load(path))
  parquet = _module("pyarrow.parquet", own.source)
  try:
    size = parquet.ParquetFile(path).metadata.num_rows
  except (OSError, ValueError) as e:  # ArrowInvalid is a ValueError.
    raise ValueError(f"{path}: not a file of parquet ({e})") from e
  return _some(own, benchmarks.load(_benchmark(own, size), path))


def _download(own: OwnSet) -> tuple[problem_set.Problem, ...]:
  """Reads a dataset; from the cache where it has been read."""
  dataset, subset, split = _DATASET.fullmatch(own.source).groups()
  split = split or "test"
  datasets = _module("datasets", own.source)
  size = len(datasets.load_dataset(dataset, subset, split=split))
  wanted = _benchmark(own, size, dataset=dataset, subset=subset, split=split)
  return _some(own, benchmarks.load(wanted))


def _benchmark(
    own: OwnSet,
    size: int,
    dataset: str | None = None,
    subset: str | None = None,
    split: str = "test",
) -> benchmarks.Benchmark:
  """The set as the loader of public ones knows it, with the size it has."""
  return benchmarks.Benchmark(
      own.name, own.name, size, own.metric, own.samples, 0.0, own.weight,
      dataset, split, subset,
  )  # fmt: skip


def _some(
    own: OwnSet, problems: tuple[problem_set.Problem, ...]
) -> tuple[problem_set.Problem, ...]:
  if not problems:
    raise ValueError(f"{own.source} must have at least one problem, got none")
  return problems


def _module(name: str, source: str) -> Any:
  try:
    return importlib.import_module(name)
  except ImportError as e:
    package = name.partition(".")[0]
    raise ImportError(
        f"reading {source} needs the package `{package}`, which is not"
        f" installed; run `pip install {package}`, or use a .jsonl file"
    ) from e


def _name(source: str) -> str:
  if source.endswith(_FILES):
    name = pathlib.PurePath(source).stem
  elif match := _DATASET.fullmatch(source):
    name = match[1].partition("/")[2]
  else:
    raise ValueError(
        f"problems must be a file that ends in {', '.join(_FILES)}, or a"
        " dataset such as owner/name, owner/name[split] or"
        f" owner/name[subset/split], got {source!r}"
    )
  if not _NAME.fullmatch(name):
    raise ValueError(
        "the name of a file of problems is that of its scores, and must be made"
        f" of letters, digits, dots, dashes and underscores, got {name!r};"
        " rename it"
    )
  return name


def _metric(text: str) -> tuple[Literal["pass_at_k", "accuracy"], int]:
  if text == "accuracy":
    return "accuracy", 1
  if match := _METRIC.fullmatch(text):
    return "pass_at_k", int(match[1])
  raise ValueError(
      f"`metrics` must be accuracy or pass@K, such as pass@32, got {text!r}"
  )


def _weight(text: str) -> float:
  try:
    weight = float(text)
  except ValueError:
    weight = -1.0
  if not 0 <= weight <= 1:
    raise ValueError(
        f"`weights` must be numbers from 0 to 1, got {text!r}; they must add up"
        " to 1 for an Overall, and 0 leaves a set out of it"
    )
  return weight
