"""Who stands where in a campaign, and how sure that is."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, Literal

import numpy as np

from poise_jax.archive import records, store
from poise_jax.discovery import directives
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.evaluation import statistics

SEARCH_SPLIT = "search"
_PRIOR_DOF = 4.0
Status = Literal["scored", "diverged", "rejected", "twin", "dropped", "pending"]


@dataclasses.dataclass(frozen=True)
class Standing:
  """One candidate's place.

  Attributes:
    id: of the candidate.
    name: of the candidate.
    role: root, canary or generated.
    parents: ids, most important first.
    status: rejected by verification; twin, does what another one does, which
      was measured once more instead; pending, not evaluated yet; dropped, on a
      cheaper budget; diverged with
      at least one seed (a mean over the luckier seeds would flatter it); or
      scored.
    overall_mean: mean over seeds, None unless scored.
    overall_low: lower end of its 95 % interval, None if unknown.
    overall_high: upper end of its 95 % interval, None if unknown.
    n_seeds: seeds evaluated with `budget`.
    budget: name of the budget that the scores were made with.
    source_sha256: hash of the candidate's source.
    set_means: mean of each per-set metric, such as `pass_at_k/<set>`.
    response_length: mean response length in tokens, None if unknown.
  """

  id: str
  name: str
  role: records.Role
  parents: tuple[str, ...]
  status: Status
  overall_mean: float | None
  overall_low: float | None
  overall_high: float | None
  n_seeds: int
  budget: str
  source_sha256: str
  set_means: Mapping[str, float]
  response_length: float | None


def standings(archive: store.Archive, campaign_id: str) -> list[Standing]:
  """Ranks the candidates of a campaign, best mean first, unscored last.

  Counts evaluations on the search split with the campaign's search budget,
  `config["budget"]`.

  Raises:
    ArchiveError: if there is no such campaign.
  """
  return rank(
      archive.campaign(campaign_id),
      archive.candidates(campaign_id),
      archive.evaluations(campaign_id),
  )


def rank(
    campaign: records.Campaign,
    candidates: Sequence[records.Candidate],
    evaluations: Sequence[records.Evaluation],
) -> list[Standing]:
  """Ranks `candidates`; ties keep the order of index.

  The interval of a mean uses the candidate's own variance over seeds together
  with that of the other candidates, canaries apart: a canary hardly trains, so
  its scores vary less than those of an algorithm that works. Variances differ
  between algorithms, so however many others there are, they count as four
  degrees of freedom at most.
  """
  # Made to explain another one, and measured elsewhere.
  candidates = [c for c in candidates if c.role != "variant"]
  budget = search_budget(campaign, evaluations)
  runs = {candidate.id: [] for candidate in candidates}
  for run in counted(campaign, evaluations):
    if run.candidate_id in runs:
      runs[run.candidate_id].append(run)
  seen = {run.candidate_id for run in evaluations}
  scores = {
      key: [run.metrics["overall"] for run in group if run.outcome == "scored"]
      for key, group in runs.items()
  }
  table = []
  for candidate in candidates:
    others = [
        scores[other.id]
        for other in candidates
        if other.role != "canary" and other.id != candidate.id
    ]
    standing = _standing(candidate, runs[candidate.id], others, budget)
    if standing.status == "pending" and candidate.id in seen:
      standing = dataclasses.replace(standing, status="dropped")
    table.append(standing)
  scored = [s for s in table if s.overall_mean is not None]
  unscored = [s for s in table if s.overall_mean is None]
  return sorted(scored, key=lambda s: -s.overall_mean) + unscored


def search_budget(
    campaign: records.Campaign, evaluations: Sequence[records.Evaluation]
) -> str:
  """Names the budget that candidates are ranked by.

  It is what the evaluations on the search split used, and if they used
  several, or there are none yet, what the campaign was configured with.
  """
  used = {run.budget for run in evaluations if run.split == SEARCH_SPLIT}
  return used.pop() if len(used) == 1 else str(campaign.config.get("budget"))


def counted(
    campaign: records.Campaign, evaluations: Sequence[records.Evaluation]
) -> list[records.Evaluation]:
  """Keeps the evaluations that candidates are ranked by."""
  budget = search_budget(campaign, evaluations)
  base = campaign.config.get("base_sha256")
  return [
      run
      for run in evaluations
      if run.budget == budget
      and run.split == SEARCH_SPLIT
      and base in (None, run.key.get("base"))
  ]


def objective(campaign: records.Campaign) -> str:
  """The objective of a campaign in words; empty where it is Overall alone.

  Raises:
    ValueError: if what is stored is no objective.
  """
  stored = campaign.config.get("objective")
  wanted = objectives.from_json(stored) if stored else objectives.DEFAULT
  if wanted == objectives.DEFAULT:
    return ""
  return "; ".join(directives.explain(wanted))


def as_json(archive: store.Archive, campaign_id: str) -> dict[str, Any]:
  """Renders the leaderboard for other programs."""
  keys = (
      "id",
      "name",
      "parents",
      "status",
      "overall_mean",
      "overall_low",
      "overall_high",
      "n_seeds",
      "source_sha256",
  )
  rows = [
      {key: getattr(standing, key) for key in keys}
      for standing in standings(archive, campaign_id)
  ]
  rows = [row | {"parents": list(row["parents"])} for row in rows]
  return {"campaign": campaign_id, "candidates": rows}


def _standing(
    candidate: records.Candidate,
    runs: Sequence[records.Evaluation],
    others: Sequence[Sequence[float]],
    budget: str,
) -> Standing:
  """Summarises the `runs` of one candidate."""
  mean = low = high = None
  metrics: list[Mapping[str, float]] = []
  status = _status(candidate, runs)
  if status == "scored":
    metrics = [run.metrics for run in runs]
    variance, dof = statistics.pooled_variance(others)
    mean, low, high = statistics.mean_interval(
        [values["overall"] for values in metrics],
        prior_variance=variance,
        prior_dof=min(float(dof), _PRIOR_DOF),
    )
  return Standing(
      id=candidate.id,
      name=candidate.name,
      role=candidate.role,
      parents=candidate.parents,
      status=status,
      overall_mean=mean,
      overall_low=low,
      overall_high=high,
      n_seeds=len({run.seed for run in runs}),
      budget=budget,
      source_sha256=candidate.source_sha256,
      set_means={
          name: _mean(metrics, name)
          for name in sorted({key for values in metrics for key in values})
          if "/" in name
      },
      response_length=_mean(metrics, "response_length"),
  )


def _status(
    candidate: records.Candidate, runs: Sequence[records.Evaluation]
) -> Status:
  if candidate.twin_of is not None:
    return "twin"
  if not candidate.accepted:
    return "rejected"
  if not runs:
    return "pending"
  diverged = any(run.outcome == "diverged" for run in runs)
  return "diverged" if diverged else "scored"


def _mean(metrics: Sequence[Mapping[str, float]], name: str) -> float | None:
  values = [values[name] for values in metrics if name in values]
  return float(np.mean(values)) if values else None


def as_text(archive: store.Archive, campaign_id: str) -> list[str]:
  """Renders the leaderboard for a terminal, one line a candidate."""
  board = standings(archive, campaign_id)
  width = max((len(s.name) for s in board), default=0)
  lines = [
      f"Budget {board[0].budget}, {SEARCH_SPLIT} split:" if board else "Empty."
  ]
  if wanted := objective(archive.campaign(campaign_id)):
    lines += [f"Ranked by Overall; the objective is another one: {wanted}"]
  lines += [f"{'candidate':{width}}  role       seeds  Overall (95 % interval)"]
  for s in board:
    score = s.status
    if s.overall_mean is not None:
      score = f"{s.overall_mean:5.1f}"
      if s.overall_low is not None:
        score += f"  [{s.overall_low:.1f}, {s.overall_high:.1f}]"
    lines.append(f"{s.name:{width}}  {s.role:9}  {s.n_seeds:5}  {score}")
  return lines
