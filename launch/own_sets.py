"""Flags for problems of one's own, which evaluate.py and compare.py share."""

from absl import flags
import asking

from poise_jax.evaluation import own_sets, problem_sets
from poise_jax.tasks import grading_pool

_PROBLEMS = flags.DEFINE_list(
    "problems",
    [],
    "Further sets: files (.jsonl, .json, .parquet) with the fields problem and"
    " answer, or datasets on Hugging Face, owner/name[subset/split].",
)
_METRIC = flags.DEFINE_list(
    "metric", ["accuracy"], "Of --problems: accuracy or pass@K; or one each."
)
_WEIGHT = flags.DEFINE_list(
    "weight", ["0"], "Of --problems in Overall; or one each."
)


def chosen() -> tuple[own_sets.OwnSet, ...]:
  """The sets that the flags name.

  Raises:
    flags.Error: if there is something wrong with them.
  """
  if not _PROBLEMS.value:
    if _METRIC.present or _WEIGHT.present:
      raise flags.Error(
          "--metric and --weight are of --problems=FILE, which is not given;"
          " other sets have their own"
      )
    return ()
  try:
    own = own_sets.parse(_PROBLEMS.value, _METRIC.value, _WEIGHT.value)
    problem_sets.check_own(own)
  except ValueError as e:
    text = str(e).replace("`metrics`", "--metric")
    raise flags.Error(
        f"--problems: {text.replace('`weights`', '--weight')}"
    ) from e
  return own


def names() -> tuple[str, ...]:
  """Names of all sets that --suite and --problems name; may be none."""
  suite = asking.SUITE.value
  known = problem_sets.names_of(suite) if suite else ()
  return (*known, *(own.name for own in chosen()))


def sources(
    pool: grading_pool.GradingPool, split: str = ""
) -> problem_sets.Sources:
  """Where problems and verdicts come from, those of one's own included."""
  return asking.sources(pool, split)._replace(own=chosen())
