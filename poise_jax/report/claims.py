"""What a campaign's scores allow one to say, in sentences.

No candidate is called better than another without their intervals, and no
score goes without the budget and the base policy that it was measured with.
"""

from collections.abc import Sequence

from poise_jax.archive import records
from poise_jax.discovery import leaderboard
from poise_jax.report import figures

# Where evaluations and configurations name the base policy, by its hash.
_BASE_KEYS = ("base", "base_sha256")


def basis(
    campaign: records.Campaign, evaluations: Sequence[records.Evaluation]
) -> str:
  """Names what all scores rest on: budget, base policy, problem split."""
  budget = leaderboard.search_budget(campaign, evaluations)
  keys = [run.key for run in evaluations[:1]]
  found = [
      source[name]
      for source in (*keys, campaign.config)
      for name in _BASE_KEYS
      if name in source
  ]
  base = str(found[0])[:12] if found else "not recorded"
  return (
      f"Budget {budget}, base policy {base}, problems of the"
      f" {leaderboard.SEARCH_SPLIT} split"
  )


def objective(campaign: records.Campaign) -> list[str]:
  """Says that scores are not in the objective, if it is not Overall alone."""
  wanted = leaderboard.objective(campaign)
  if not wanted:
    return []
  return [
      f"The objective of this campaign is not Overall, but: {wanted}. Here and"
      " in the leaderboard candidates are compared by Overall all the same."
  ]


def confirmed(
    campaign: records.Campaign, concluded: Sequence[str]
) -> list[str]:
  """What fresh seeds said, with its unit where that is not Overall."""
  if not concluded or not leaderboard.objective(campaign):
    return list(concluded)
  return [
      "What follows is in points of the objective, not of Overall.",
      *concluded,
  ]


def result(
    standings: Sequence[leaderboard.Standing],
    basis: str,
    *,
    is_objective: bool = True,
) -> list[str]:
  """Compares the best generated candidate with the root.

  Args:
    standings: best first.
    basis: from `basis`; named with the claim.
    is_objective: whether Overall is what the campaign is after; if not, it is
      named with the claim.

  Returns:
    The claim, and what weakens it.
  """
  scored = [s for s in standings if s.overall_mean is not None]
  root = next((s for s in scored if s.role == "root"), None)
  generated = [s for s in scored if s.role == "generated"]
  if root is None:
    return ["The root is not scored: there is nothing to compare with."]
  told = f"root {_told(root)} ({basis})."
  if not generated:
    return [f"No generated candidate is scored yet; {told}"]
  best = generated[0]
  lead = best.overall_mean - root.overall_mean
  against = f"{_told(best)}, against the {told}"
  measure = "" if is_objective else " in Overall"
  if lead <= 0:
    return [f"Nothing beat the root{measure}. The best generated is {against}"]
  if not _known(best, root):
    claim = (
        f"Not established: ahead by {lead:.1f}{measure}, but too few seeds"
        f" for an interval. {against}"
    )
  elif best.overall_low <= root.overall_high:
    claim = (
        f"Not established: ahead by {lead:.1f}{measure}, but the intervals"
        f" overlap. {against}"
    )
  else:
    claim = (
        f"Ahead of the root by {lead:.1f}{measure}; the intervals do not overlap."
        f" {against}"
    )
  caution = (
      f"This is the best of {len(generated)} generated candidates, and the best"
      " of many is partly luck: measure it on fresh seeds and problems before"
      " relying on it."
  )
  return [claim, caution]


def canaries(standings: Sequence[leaderboard.Standing]) -> list[str]:
  """Says whether candidates known not to work score below the root.

  If one does not, the measurement cannot tell learning from noise.
  """
  root = next((s for s in standings if s.role == "root"), None)
  found = [s for s in standings if s.role == "canary"]
  if not found:
    return ["No canaries: nothing shows that this measurement can fail."]
  return [_canary(canary, root, standings) for canary in found]


def _canary(
    canary: leaderboard.Standing,
    root: leaderboard.Standing | None,
    standings: Sequence[leaderboard.Standing],
) -> str:
  """Judges one canary."""
  if canary.status == "diverged":
    return f"Passed: {canary.name} diverged."
  if canary.overall_mean is None or root is None or root.overall_mean is None:
    return f"Open: {canary.name} and the root are not both scored."
  scored = [s for s in standings if s.overall_mean is not None]
  place = 1 + [s.id for s in scored].index(canary.id)
  told = (
      f"{_told(canary)}, place {place} of {len(scored)}, root" f" {_told(root)}"
  )
  if canary.overall_mean >= root.overall_mean:
    return f"FAILED, trust no score here: not below the root. {told}."
  if not _known(canary, root) or canary.overall_high >= root.overall_low:
    return f"Weak: below the root, but the intervals do not show it. {told}."
  return f"Passed: below the root, intervals apart. {told}."


def _told(standing: leaderboard.Standing) -> str:
  return f"{standing.name} {figures.interval_text(standing)}"


def _known(*standings: leaderboard.Standing) -> bool:
  return all(
      s.overall_low is not None and s.overall_high is not None
      for s in standings
  )
