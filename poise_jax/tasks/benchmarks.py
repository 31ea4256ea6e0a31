"""The problem sets of the paper, as data, and how to read them.

| set           | problems | metric             | weight |
| ------------- | -------- | ------------------ | ------ |
| AIME24        | 30       | pass@32 at T = 1   | 0.2    |
| AIME25        | 30       | pass@32 at T = 1   | 0.2    |
| AMC           | 83       | pass@32 at T = 1   | 0.15   |
| MATH500       | 500      | accuracy, greedy   | 0.15   |
| Minerva       | 272      | accuracy, greedy   | 0.15   |
| OlympiadBench | 675      | accuracy, greedy   | 0.15   |

The problems themselves are not part of the package. They come from a folder of
JSONL, JSON or parquet files, or from Hugging Face.
"""

from collections.abc import Iterable, Mapping
import dataclasses
import importlib
import json
import math
import pathlib
import tempfile
from typing import Any, Literal

from poise_jax.tasks import problem_set

# Of the paper's training and evaluation, in tokens.
PROMPT_LENGTH = 1024
RESPONSE_LENGTH = 3000
EVALUATION_LENGTH = 4096
TRAINING_PROBLEMS = 5000
_SUFFIXES = (".jsonl", ".json", ".parquet")


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """One set of problems and how it is scored.

  Attributes:
    name: identifier in scores.
    file: name of its file, without suffix.
    size: exact number of problems.
    metric: `pass_at_k`, any of `samples` correct; or `accuracy`, one greedy
      sample.
    samples: completions for each problem.
    temperature: of sampling; 0 is greedy.
    weight: share in Overall; 0 for sets outside of it.
    dataset: id on Hugging Face, None where there is none of this size.
    split: its split there.
    subset: its configuration there, None for the only one.
    levels: the levels of difficulty that belong to it, None for all.
  """

  name: str
  file: str
  size: int
  metric: Literal["pass_at_k", "accuracy"]
  samples: int
  temperature: float
  weight: float
  dataset: str | None
  split: str = "test"
  subset: str | None = None
  levels: tuple[int, ...] | None = None


AIME24 = Benchmark(
    "AIME24", "aime24", 30, "pass_at_k", 32, 1.0, 0.2,
    "HuggingFaceH4/aime_2024", "train",
)  # fmt: skip
AIME25 = Benchmark(
    "AIME25", "aime25", 30, "pass_at_k", 32, 1.0, 0.2, "math-ai/aime25"
)
AMC = Benchmark(
    "AMC", "amc83", 83, "pass_at_k", 32, 1.0, 0.15,
    "AI-MO/aimo-validation-amc", "train",
)  # fmt: skip
MATH500 = Benchmark(
    "MATH500", "math500", 500, "accuracy", 1, 0.0, 0.15,
    "HuggingFaceH4/MATH-500",
)  # fmt: skip
MINERVA = Benchmark(
    "Minerva", "minerva_math", 272, "accuracy", 1, 0.0, 0.15,
    "math-ai/minervamath",
)  # fmt: skip
OLYMPIAD = Benchmark(
    "OlympiadBench", "olympiadbench", 675, "accuracy", 1, 0.0, 0.15,
    "zkshan2002/olympiad_bench",
)  # fmt: skip
MATH6 = (AIME24, AIME25, AMC, MATH500, MINERVA, OLYMPIAD)

GSM8K = Benchmark(
    "GSM8K", "gsm8k_test", 1319, "accuracy", 1, 0.0, 0.0, "openai/gsm8k",
    subset="main",
)  # fmt: skip
# To train on; of these, the paper draws 5,000.
MATH_TRAINING = Benchmark(
    "MATH-train", "math_train_lvl3to5", 5560, "accuracy", 1, 0.0, 0.0, None,
    levels=(3, 4, 5),
)  # fmt: skip


def _optional(module: str, purpose: str) -> Any:
  """Imports what is not always installed."""
  try:
    return importlib.import_module(module)
  except ImportError as e:
    raise ImportError(
        f"{purpose} needs the package `{module}`, which is not installed; run"
        f" `pip install {module}`, or use JSONL files"
    ) from e


def _plain(value: Any) -> Any:
  """A field as JSON has it; several answers become one list of answers."""
  if hasattr(value, "tolist"):  # of numpy, in parquet files
    value = value.tolist()
  if isinstance(value, (list, tuple)):
    return ", ".join(str(item).strip().strip("$") for item in value)
  if isinstance(value, float):
    if math.isnan(value):
      return None
    return int(value) if value.is_integer() else value
  return value


def _from_records(
    records: Iterable[Mapping[str, Any]], stem: str
) -> tuple[problem_set.Problem, ...]:
  """Reads records by the rules of `problem_set`."""
  fields = {"final_answer": "answer"}
  # A row number that another tool left is no name, and may not be unique.
  known = ("problem", "question", "prompt", "answer", "solution", "level")
  lines = []
  for record in records:
    row = {fields.get(k, k): _plain(v) for k, v in record.items()}
    kept = {k: v for k, v in row.items() if k in (*known, "id", "unique_id")}
    lines.append(json.dumps(kept))
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / f"{stem}.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return problem_set.load(path)


def _read(path: pathlib.Path) -> tuple[problem_set.Problem, ...]:
  """Reads one file."""
  if path.suffix != ".parquet":
    return problem_set.load(path)
  parquet = _optional("pyarrow.parquet", f"reading {path.name}")
  return _from_records(parquet.read_table(path).to_pylist(), path.stem)


def _download(benchmark: Benchmark) -> tuple[problem_set.Problem, ...]:
  """Reads a set from Hugging Face."""
  if benchmark.dataset is None:
    raise ValueError(
        f"`source` must be a folder for {benchmark.name}, no dataset is known"
        f" for it; put {benchmark.file}.jsonl into one"
    )
  datasets = _optional("datasets", f"loading {benchmark.dataset}")
  rows = datasets.load_dataset(
      benchmark.dataset, benchmark.subset, split=benchmark.split
  )
  return _from_records(rows, benchmark.file)


def load(
    benchmark: Benchmark, source: str | pathlib.Path | None = None
) -> tuple[problem_set.Problem, ...]:
  """Reads the problems of a set, all of them.

  Args:
    benchmark: which set.
    source: a folder that holds its file (.jsonl, .json or .parquet), or that
      file; None to load `benchmark.dataset` from Hugging Face.

  Raises:
    FileNotFoundError: if there is no such file.
    ImportError: if a package is missing that reads this kind.
    ValueError: if anything is malformed, or there are not as many problems as
      `benchmark.size`.
  """
  if source is None:
    problems = _download(benchmark)
    place = str(benchmark.dataset)
  else:
    path = pathlib.Path(source)
    place = str(path)
    if path.is_dir():
      candidates = [path / f"{benchmark.file}{s}" for s in _SUFFIXES]
      found = [c for c in candidates if c.is_file()]
      if not found:
        raise FileNotFoundError(
            f"`source` must hold {benchmark.file} with one of the suffixes"
            f" {', '.join(_SUFFIXES)}, there is none in {path}; add it"
        )
      path = found[0]
    problems = _read(path)
  if benchmark.levels is not None:
    problems = problem_set.at_levels(problems, benchmark.levels)
  if len(problems) != benchmark.size:
    raise ValueError(
        f"{benchmark.name} must have {benchmark.size} problems, got"
        f" {len(problems)} from {place}; scores of another set cannot be"
        " compared, so use the right file or define another Benchmark"
    )
  return problems


def overall(scores: Mapping[str, float]) -> float:
  """The paper's Overall: 0.2 of each AIME and 0.15 of each other set.

  Args:
    scores: of the six sets of `MATH6` by name; others are ignored. In any
      unit, which is that of the result.

  Raises:
    ValueError: if a score is missing or not finite.
  """
  missing = [b.name for b in MATH6 if b.name not in scores]
  if missing:
    raise ValueError(
        f"`scores` must have all of {[b.name for b in MATH6]}, {missing} are"
        " missing; evaluate them, there is no Overall of a part"
    )
  broken = {b.name: scores[b.name] for b in MATH6}
  broken = {k: v for k, v in broken.items() if not math.isfinite(v)}
  if broken:
    raise ValueError(f"`scores` must be finite, got {broken}; evaluate again")
  return math.fsum(b.weight * scores[b.name] for b in MATH6)
