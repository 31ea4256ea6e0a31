"""Flags that launch/evaluate.py and launch/compare.py share: how to ask."""

import pathlib

from absl import flags

from poise_jax import sharding
from poise_jax.evaluation import problem_sets, running
from poise_jax.tasks import arithmetic, grading_pool

SUITE = flags.DEFINE_string(
    "suite", None, "math6, embedded, or names of sets with commas."
)
LIMIT = flags.DEFINE_integer("limit", None, "First problems of each set.")
WORKERS = flags.DEFINE_integer("workers", 2, "Processes that grade.", 1)
_DATA = flags.DEFINE_string(
    "data", None, "Folder of benchmark files; from Hugging Face if not given."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of sampling.", 0)
_TEMPLATE = flags.DEFINE_string(
    "template", "qwen_math", "qwen_math, r1, none, tokenizer, or a .jinja file."
)
_STOP = flags.DEFINE_list(
    "stop",
    None,
    "Tokens that end a completion, besides those that the policy names; if not"
    " given, <|im_end|> with qwen_math where the policy has it; --stop= for"
    " none.",
)
_MAX_TOKENS = flags.DEFINE_integer(
    "max_tokens", None, "Of a completion; 4096 for maths if not given."
)
_BATCH = flags.DEFINE_integer("batch", 64, "Completions decoded at once.")
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Of weights and activations."
)
_SPLIT = flags.DEFINE_enum(
    "split", "confirm", ["search", "confirm", "sealed"], "Of embedded problems."
)
# Named like --config.mesh.data and so on of launch/train.py.
_MESH = {
    axis: flags.DEFINE_integer(f"mesh.{axis}", 1, f"Devices along `{axis}`.")
    for axis in sharding.MESH_AXES
}


def settings() -> running.Settings:
  """What the flags say of asking.

  Raises:
    ValueError: if the mesh is none.
  """
  mesh = sharding.MeshConfig(**{axis: f.value for axis, f in _MESH.items()})
  return running.Settings(
      seed=_SEED.value,
      template=_TEMPLATE.value,
      max_tokens=_MAX_TOKENS.value,
      dtype=_DTYPE.value,
      batch=_BATCH.value,
      mesh=mesh,
      stop=None if _STOP.value is None else tuple(_STOP.value),
  )


def of_mesh(error: Exception) -> str:
  """An error in the flags of these programs: the mesh has no experiment."""
  return str(error).replace("--config.mesh.", "--mesh.")


def sources(
    pool: grading_pool.GradingPool, split: str = ""
) -> problem_sets.Sources:
  """Where problems and verdicts come from; another split than --split's."""
  return problem_sets.Sources(
      pathlib.Path(_DATA.value) if _DATA.value else None,
      arithmetic.Split[(split or _SPLIT.value).upper()],
      pool,
  )
