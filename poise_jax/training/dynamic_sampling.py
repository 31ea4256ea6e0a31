"""Batches without groups that teach nothing (DAPO's dynamic sampling).

A group whose completions are all right, or all wrong, has no advantage to
learn from. `fill` samples until it has enough groups that are mixed, or has
tried often enough; then the batch is made up with groups that are not mixed,
so that its shape never changes, and the statistics say how many.

Nothing is kept between calls. `sample` must derive whatever is random from
(seed, step, attempt) and its position; a run that is killed between attempts
then starts the step over and draws the same groups again. With several
processes each must be given the flags of all groups, so that all of them stop
at the same attempt.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Bool, Float, Int
import numpy as np

from poise_jax.training import prompts


class Attempt(NamedTuple):
  """What one round of sampling gave.

  Attributes:
    groups: pytree of host arrays [P, ...]; completions are [P, G, ...].
    keep: bool [P], which groups are wanted; see `mixed`.
    position: of the source, after the prompts of this round.
    seen: pytree of small host arrays [P, ...] that are to be known of all
      groups, kept or not: rewards for the metrics, correctness for the
      history.
  """

  groups: Any
  keep: Bool[np.ndarray, "P"]
  position: prompts.Position
  seen: Any = ()


# Samples at a position; the second argument counts attempts from 0.
Sample = Callable[[prompts.Position, int], Attempt]


class Statistics(NamedTuple):
  """What it took to fill one batch; all counts but the first are of groups.

  Attributes:
    attempts: rounds of sampling.
    sampled: drawn in all rounds.
    kept: wanted among those.
    padded: in the batch although not wanted, because the cap was reached.
    surplus: wanted, but not in the batch, because it was full.
  """

  attempts: int
  sampled: int
  kept: int
  padded: int
  surplus: int

  @property
  def kept_ratio(self) -> float:
    """Share of the sampled groups that were wanted."""
    return self.kept / self.sampled


class Filled(NamedTuple):
  """One batch.

  Attributes:
    groups: pytree of arrays [target, ...], in the order they were sampled.
    statistics: what it took.
    position: of the source, after all that was drawn. Groups that did not
      come into the batch are not offered again before the next epoch.
    seen: `Attempt.seen` of all rounds, [sampled, ...].
  """

  groups: Any
  statistics: Statistics
  position: prompts.Position
  seen: Any


def mixed(correct: Float[np.ndarray, "P G"]) -> Bool[np.ndarray, "P"]:
  """Which groups have a right completion and a wrong one: 0 < #right < G.

  Args:
    correct: 1.0 where the completion was accepted, else 0.0.

  Raises:
    ValueError: if groups are too small ever to be mixed, or `correct` is
      neither 0 nor 1 somewhere.
  """
  size = correct.shape[1]
  if size < 2:
    raise ValueError(
        "`correct` must have at least 2 completions a group, for smaller groups"
        f" are never mixed, got {size}; raise the group size or turn dynamic"
        " sampling off"
    )
  if not np.all((correct == 0) | (correct == 1)):
    raise ValueError(
        "`correct` must be 0 or 1 everywhere; grade again what is not"
    )
  passed = correct.sum(axis=1)
  return (0 < passed) & (passed < size)


def _shapes(groups: Any) -> dict[str, tuple[Any, tuple[int, ...]]]:
  """Type and shape after the leading axis, by the leaf's place in the tree."""
  return {
      jax.tree_util.keystr(path): (leaf.dtype, leaf.shape[1:])
      for path, leaf in jax.tree_util.tree_leaves_with_path(groups)
  }


def _on_host(attempt: Attempt) -> Attempt:
  """The attempt as numpy arrays; every leaf must have one row a group."""
  keep = np.asarray(attempt.keep)
  if keep.ndim != 1 or keep.dtype != np.bool_:
    raise ValueError(
        "`keep` must be bool [P], one flag a group, got"
        f" {keep.dtype} {list(keep.shape)}"
    )
  groups, seen = jax.tree.map(np.asarray, (attempt.groups, attempt.seen))
  for name, tree in (("groups", groups), ("seen", seen)):
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
      if leaf.shape[:1] != keep.shape:
        raise ValueError(
            f"`{name}{jax.tree_util.keystr(path)}` must have a leading axis of"
            f" {len(keep)}, one row a group as in `keep`, got shape"
            f" {list(leaf.shape)}; reshape completions to [P, G, ...]"
        )
  return attempt._replace(groups=groups, keep=keep, seen=seen)


def _append(name: str, before: Any, after: Any) -> Any:
  """Puts the rows of one pytree behind those of another."""
  old, new = _shapes(before), _shapes(after)
  if old != new:
    path = next(p for p in [*old, *new] if old.get(p, None) != new.get(p, None))
    raise ValueError(
        f"`{name}{path}` must be alike in all attempts, got"
        f" {old.get(path, 'nothing')} and then {new.get(path, 'nothing')}; pad"
        " completions to a fixed length"
    )
  return jax.tree.map(lambda a, b: np.concatenate([a, b]), before, after)


def _choose(keep: Bool[np.ndarray, "N"], target: int) -> Int[np.ndarray, "M"]:
  """The first wanted rows up to `target`, made up with the first others."""
  wanted = np.flatnonzero(keep)[:target]
  others = np.flatnonzero(~keep)[: target - len(wanted)]
  # As sampled: else all the padding would fall into the last minibatch.
  return np.sort(np.concatenate([wanted, others]))


def fill(
    target: int,
    max_attempts: int,
    sample: Sample,
    position: prompts.Position,
) -> Filled:
  """Samples until `target` groups are kept, or `max_attempts` times.

  Deterministic if `sample` is. At most `target` groups and one attempt are
  held at a time.

  Args:
    target: groups in the batch.
    max_attempts: rounds of sampling, at most.
    sample: samples groups at a position of the source, equally many each time.
    position: where to begin.

  Returns:
    The first `target` groups that are kept. If the cap comes first: all that
    are kept, and the first of the others as far as they are needed. In either
    case in the order in which they were sampled.

  Raises:
    ValueError: if `max_attempts` attempts cannot give `target` groups, or the
      arrays of an attempt do not fit each other or those before.
  """
  for name, value in (("target", target), ("max_attempts", max_attempts)):
    if value < 1:
      raise ValueError(f"`{name}` must be at least 1, got {value}")
  size = kept = attempts = 0
  groups = keep = seen = None
  while attempts < max_attempts and kept < target:
    attempt = _on_host(sample(position, attempts))
    if not attempts:
      size = len(attempt.keep)
      if size * max_attempts < target:
        raise ValueError(
            f"`max_attempts` times the {size} groups of one attempt must be at"
            f" least `target`, {target}, got {size * max_attempts}; raise"
            " `max_attempts` or the prompts of one attempt"
        )
      groups, keep, seen = attempt.groups, attempt.keep, attempt.seen
    elif len(attempt.keep) != size:
      raise ValueError(
          f"`sample` must give {size} groups in every attempt, as in the first,"
          f" got {len(attempt.keep)} in attempt {attempts}"
      )
    else:
      groups = _append("groups", groups, attempt.groups)
      seen = _append("seen", seen, attempt.seen)
      keep = np.concatenate([keep, attempt.keep])
    # What is passed over here can never be chosen later.
    rows = _choose(keep, target)
    groups, keep = jax.tree.map(lambda x, r=rows: x[r], (groups, keep))
    position = attempt.position
    kept += int(attempt.keep.sum())
    attempts += 1
  padded = int((~keep).sum())
  statistics = Statistics(
      attempts=attempts,
      sampled=attempts * size,
      kept=kept,
      padded=padded,
      surplus=kept - (target - padded),
  )
  return Filled(groups, statistics, position, seen)
