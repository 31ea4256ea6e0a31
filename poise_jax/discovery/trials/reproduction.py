"""Trains again what an archive says was trained, and compares.

Two promises: on the same versions and kind of processor the same bits; anywhere
else a score within the interval in which a further run must be expected. Which
of them held is told, and what differs.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import types as python_types
import typing
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from poise_jax.archive import records
from poise_jax.discovery.trials import budgets, trial
from poise_jax.evaluation import statistics
from poise_jax.tasks import embedded

_PRIOR_DOF = 4.0


class Digests(NamedTuple):
  """Hashes of what a run leaves: equal for the same bits, and else not."""

  curve: str
  metrics: str


@dataclasses.dataclass(frozen=True)
class Reproduction:
  """What came of running a trial again.

  Attributes:
    stored: hashes in the archive.
    found: hashes now.
    same_bits: whether curve, metrics and the way it ended are all the same.
    environment: version or property -> (then, now), where they differ.
    score: of the stored run, None if it diverged.
    again: of the new one, None if it diverged.
    expected: interval for the score of one more run, from the other stored
      runs of the candidate; None where they are too few.
    in_interval: whether `again` lies in it; None without interval. A run that
      diverged again is within what was promised of one that had.
  """

  stored: Digests
  found: Digests
  same_bits: bool
  environment: Mapping[str, tuple[str | None, str | None]]
  score: float | None
  again: float | None
  expected: statistics.Interval | None
  in_interval: bool | None

  @property
  def kept(self) -> bool:
    """Whether the promise that applies here was kept."""
    if self.same_bits:
      return True
    return bool(self.environment) and self.in_interval is True


def digests(
    curve: Mapping[str, Sequence[float]], metrics: Mapping[str, float]
) -> Digests:
  """Hashes a run's curve and metrics; floats by their shortest exact text."""
  plain = {name: [float(v) for v in values] for name, values in curve.items()}
  return Digests(
      records.sha256(records.canonical_json(plain)),
      records.sha256(
          records.canonical_json({k: float(v) for k, v in metrics.items()})
      ),
  )


def compare(
    stored: records.Evaluation,
    again: trial.Outcome,
    *,
    versions: Mapping[str, str],
    others: Sequence[records.Evaluation],
    peers: Sequence[Sequence[float]] = (),
) -> Reproduction:
  """Compares a stored evaluation with one that was made again.

  Args:
    stored: what the archive has.
    again: what came of the same key now.
    versions: `trial.versions()` now.
    others: all stored evaluations of the candidate, also of other budgets.
    peers: scores of other candidates, a group each, for the variance.
  """
  then, now = (digests(run.curve, run.metrics) for run in (stored, again))
  before = dict(stored.key["versions"])
  differing = {
      name: (before.get(name), versions.get(name))
      for name in sorted({*before, *versions})
      if before.get(name) != versions.get(name)
  }
  same = then == now and stored.reason == again.diverged
  old, new = stored.metrics.get("overall"), again.metrics.get("overall")
  setting = stored.budget, stored.split, stored.key["base"]
  scores = [
      run.metrics["overall"]
      for run in others
      if (run.budget, run.split, run.key["base"]) == setting
      and run.outcome == "scored"
  ]
  expected = one_more(scores, peers)
  inside = None
  if stored.outcome == "diverged":
    inside = bool(again.diverged) or None
  elif again.diverged:
    inside = False
  elif expected is not None:
    inside = bool(expected.low <= new <= expected.high)
  return Reproduction(then, now, same, differing, old, new, expected, inside)


def one_more(
    scores: Sequence[float],
    peers: Sequence[Sequence[float]] = (),
    confidence: float = 0.95,
) -> statistics.Interval | None:
  """Interval for the score of one more run with another seed.

    mean ± t_ν s̃ √(1 + 1/n),  ν = d0 + n - 1

  with the variance moderated by that of `peers`, which count as at most four
  degrees of freedom, as in `leaderboard.rank`. Where bits differ, training
  takes another path after a few updates, and is as another seed.

  Args:
    scores: of the runs there are.
    peers: of other candidates, a group each.
    confidence: coverage.

  Returns:
    None where there is no run, or nothing tells the variance.
  """
  n = len(scores)
  prior, dof = statistics.pooled_variance(peers)
  prior_dof = min(float(dof), _PRIOR_DOF)
  degrees = prior_dof + n - 1
  if n == 0 or degrees <= 0:
    return None
  mean = float(np.mean(scores))
  squares = prior_dof * prior + float(np.var(scores)) * n
  spread = math.sqrt(squares / degrees * (1 + 1 / n))
  half = float(stats.t.ppf(0.5 + confidence / 2, degrees)) * spread
  return statistics.Interval(mean, mean - half, mean + half)


def choose(
    evaluations: Sequence[records.Evaluation],
    *,
    seed: int | None = None,
    budget: str | None = None,
    split: str | None = None,
) -> records.Evaluation:
  """The evaluation to make again: the first that fits.

  Raises:
    ValueError: if none does, with those there are.
  """
  asked = {"seed": seed, "budget": budget, "split": split}
  for run in evaluations:
    if all(v is None or getattr(run, k) == v for k, v in asked.items()):
      return run
  there = sorted({(r.budget, r.split, r.seed) for r in evaluations})
  told = "; ".join(f"{b}, {s}, seed {n}" for b, s, n in there) or "none"
  wanted = ", ".join(f"{k} {v}" for k, v in asked.items() if v is not None)
  raise ValueError(
      "the candidate has no evaluation"
      f"{' with ' + wanted if wanted else ''}; it has: {told}"
  )


def budget_of(evaluation: records.Evaluation) -> budgets.Budget:
  """The budget of an evaluation, from what was stored with it.

  Raises:
    ValueError: if this version of the package has no such budget.
  """
  stored = evaluation.key["budget"]
  try:
    return _build(budgets.Budget, stored)
  except (TypeError, ValueError, KeyError) as error:
    raise ValueError(
        f"budget {evaluation.budget!r} is not available in this version of"
        f" poise_jax ({error}); use the one that stored it"
    ) from error


def task_of(evaluation: records.Evaluation) -> embedded.Task:
  """The task of an evaluation, by the versioned name stored with it.

  Raises:
    ValueError: if this version of the package has no such task, or another
      version of it.
  """
  name = evaluation.key.get("task")
  tasks = {task.name: task for task in embedded.ALL.values()}
  if name not in tasks:
    raise ValueError(
        f"task {name!r} is not available in this version of poise_jax, which"
        f" has {', '.join(tasks)}; use the one that stored it"
    )
  return tasks[name]


def _build(kind: type, value: Any) -> Any:
  """Makes a dataclass of what `dataclasses.asdict` made of one."""
  if not isinstance(value, Mapping):
    raise TypeError(f"{kind.__name__} from {value!r}")
  names = {field.name for field in dataclasses.fields(kind)}
  if unknown := sorted(set(value) - names):
    raise ValueError(f"{kind.__name__} has no {', '.join(unknown)}")
  hints = typing.get_type_hints(kind)
  return kind(**{k: _value(hints[k], v) for k, v in value.items()})


def _value(hint: Any, value: Any) -> Any:
  """A field's value: nested dataclasses are mappings, tuples are lists."""
  options = (hint,)
  if typing.get_origin(hint) in (typing.Union, python_types.UnionType):
    options = typing.get_args(hint)
  nested = [option for option in options if dataclasses.is_dataclass(option)]
  if nested and (isinstance(value, Mapping) or len(options) == 1):
    return _build(nested[0], value)
  if isinstance(value, list):
    return tuple(value)
  return value


def sentences(found: Reproduction) -> list[str]:
  """What came of it, for people."""
  told = []
  for name, (then, now) in found.environment.items():
    told.append(f"{name}: {_short(then)} then, {_short(now)} now")
  for name, then, now in zip(
      Digests._fields, found.stored, found.found, strict=True
  ):
    same = "the same" if then == now else f"{now[:16]} now"
    told.append(f"{name}: sha256 {then[:16]}, {same}")
  if found.same_bits:
    return [*told, "bits: held, curve and metrics are the same to the last one"]
  why = "differ" if found.environment else "differ, with nothing to explain it"
  told.append(f"bits: not held, they {why}")
  again = "diverged" if found.again is None else f"{found.again:.2f}"
  before = "diverged" if found.score is None else f"{found.score:.2f}"
  word = {True: "held", False: "not held", None: "cannot be told"}
  about = ""
  if found.expected is not None:
    about = f", expected {found.expected.low:.2f} to {found.expected.high:.2f}"
  told.append(
      f"interval: {word[found.in_interval]}, Overall {again} after"
      f" {before}{about}"
  )
  return told


def _short(value: str | None) -> str:
  """Hashes cut to what tells them apart."""
  if value is None:
    return "unknown"
  is_hash = len(value) == 64 and all(c in "0123456789abcdef" for c in value)
  return value[:16] if is_hash else repr(value)
