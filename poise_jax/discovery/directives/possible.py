"""Limits that nothing could keep, or that everything keeps."""

from collections.abc import Mapping

from poise_jax.discovery.directives import scales, words
from poise_jax.discovery.objectives import objective as objectives

# The least that a metric can be.
_LEAST: Mapping[str, float] = {
    "heldout_perplexity": 1.0,
    "response_length": 1.0,
    "greedy_length": 1.0,
    "tokens": 1.0,
    "description_length": 1.0,
    "flops": 1.0,
}
# How far from the root a limit may be. A root that most answers of are valid
# can't be far below 100 %, nor one that writes solutions far above 1.
_FARTHEST: Mapping[tuple[str, objectives.Op], float] = {
    ("valid_rate", ">="): 1.5,
    ("heldout_perplexity", "<="): 0.5,
}


def check(limit: objectives.Constraint) -> None:
  """Refuses what nothing could keep.

  Args:
    limit: of which the root's value is not known yet.

  Raises:
    DirectiveError: saying what is possible.
  """
  metric, bound = limit.metric, limit.bound
  least = _LEAST.get(metric, 0.0)
  if limit.relative:
    far = _FARTHEST.get((metric, limit.op))
    beyond = far is not None and (
        bound > far if limit.op == ">=" else bound < far
    )
    nothing = bound == 0 and limit.op == "<=" and metric != "truncated_rate"
    if beyond or nothing:
      raise words.DirectiveError(
          f"{metric} {limit.op} {bound:g} times the root's is out of reach; say"
          " what value it is to have, or a smaller change"
      )
  elif limit.op == "<=" and bound < least:
    raise words.DirectiveError(
        f"{metric} is {least:g} or more, so that at most {bound:g} is out of"
        " reach"
    )


def checked(limit: objectives.Constraint) -> objectives.Constraint:
  """A limit on the side that it is needed on, and that can be kept.

  Raises:
    DirectiveError: otherwise.
  """
  good = scales.better(limit.metric)
  if good == 1 and limit.op == "<=":
    raise words.DirectiveError(
        f"it sets an upper limit on {limit.metric}, of which more is better;"
        " say `at least`, or leave it out"
    )
  if good == -1 and limit.op == ">=":
    raise words.DirectiveError(
        f"it sets a lower limit on {limit.metric}, of which less is better;"
        " say `at most`, or leave it out"
    )
  check(limit)
  return limit
