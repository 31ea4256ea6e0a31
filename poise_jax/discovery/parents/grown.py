"""The tree that a campaign has grown so far, from its records alone."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from poise_jax.archive import records
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths
from poise_jax.discovery.parents import acquisition, nodes, posterior, replay


def reasons(
    campaign: records.Campaign, decisions: Sequence[records.Decision]
) -> dict[str, object]:
  """What choices were made by, as logged last, else as configured."""
  logs = [d.data for d in decisions if d.stage == "selection"]
  return {**campaign.config, **(logs[-1] if logs else {})}


def weights(told: Mapping[str, object]) -> acquisition.Weights:
  """The weights among reasons; those not named are as by default."""
  fields = {field.name for field in dataclasses.fields(acquisition.Weights)}
  stored = told.get("weights") or {}
  return acquisition.Weights(**{k: v for k, v in stored.items() if k in fields})


def finished(
    campaign: records.Campaign,
    candidates: Sequence[records.Candidate],
    choices: Sequence[replay.Round],
    decisions: Sequence[records.Decision],
    reflections: Sequence[records.Reflection],
) -> int:
  """The last round of which all that it made was measured; 0 if none.

  Earlier rounds are over when a later one has begun. The last is when all it
  made have their reflection, or when the race is decided.

  Args:
    campaign: says how many candidates a round makes.
    candidates: of the campaign.
    choices: by round.
    decisions: of the campaign.
    reflections: of its candidates.
  """
  if not choices:
    return 0
  last = choices[-1].generation
  noted = {r.candidate_id for r in reflections}
  made = [
      c.id in noted
      for c in candidates
      if c.generation == last and c.role == "generated"
  ]
  whole = len(made) >= int(campaign.config.get("children", 1)) and all(made)
  over = whole or any(d.stage == "race" for d in decisions)
  return last if over else last - 1


def tree_of(
    kin: Mapping[str, records.Candidate],
    runs: Sequence[records.Evaluation],
    told: Mapping[str, object],
    constants: acquisition.Weights,
) -> replay.Grown:
  """The tree with posterior means by all runs there are.

  A candidate that diverged with one seed has no score, as in the search.

  Args:
    kin: id -> root and generated candidates, scored or not.
    runs: those that candidates are ranked by, see `leaderboard.counted`.
    told: from `reasons`: the objective, and what a point is worth.
    constants: of the rule; the noise of one seed is among them.

  Raises:
    ValueError: if the objective names a metric that is not recorded.
  """
  scored = []
  for candidate in kin.values():
    own = [run for run in runs if run.candidate_id == candidate.id]
    if own and all(run.outcome == "scored" for run in own):
      scored.append(_node(candidate, own))
  parents = {i: c.parents for i, c in kin.items()}
  born = {i: c.generation for i, c in kin.items()}
  if not scored:
    return replay.Grown(parents, born, {}, {})
  objective = told.get("objective")
  known = posterior.of(
      scored,
      constants.noise_variance,
      objectives.from_json(objective) if objective else objectives.DEFAULT,
      told.get("scales") or None,
  )
  ids = [node.id for node in scored]
  return replay.Grown(
      parents,
      born,
      dict(zip(ids, known.mean.tolist(), strict=True)),
      dict(zip(ids, known.variance.tolist(), strict=True)),
  )


def _node(
    candidate: records.Candidate, runs: Sequence[records.Evaluation]
) -> nodes.Node:
  """A candidate with what its objective may name."""
  columns = [worths.of_run(candidate, run) for run in runs]
  mean = {
      name: float(np.mean([column[name] for column in columns]))
      for name in columns[0]
  }
  return nodes.Node(
      candidate.id,
      candidate.parents,
      mean["overall"],
      len(runs),
      {},
      metrics=mean,
  )
