"""The plan of a campaign on this machine, and afterwards what became of it.

What a trial takes is known from those of the root and its company, which are
measured before the first candidate is made. Trials of other budgets take as
long as the completions that they sample, score and learn from:

    cost = steps · prompts · group · (2 + 3 epochs) + completions scored

with 1 for sampling a completion, 1 for the reference policy and 3 for a forward
and backward pass.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import datetime
import math
import statistics

from poise_jax.archive import records, store
from poise_jax.discovery import canaries, search_config
from poise_jax.discovery.evidence import pairing, plan, shrinkage
from poise_jax.discovery.trials import budgets
from poise_jax.evaluation import suite
from poise_jax.tasks import arithmetic

FOLLOWED = "followed"  # what is done with a candidate that was confirmed


def cost(budget: budgets.Budget) -> float:
  """What a trial of a budget takes, in completions sampled.

  All embedded suites have as many sets of each kind.
  """
  train = budget.train
  learned = train.steps * train.prompts * train.group_size
  scored = 0
  if budget.evaluate is not None:
    sampled = [s.metric == "pass_at_k" for s in arithmetic.SUITE]
    sizes = budget.evaluate
    scored = sum(sampled) * sizes.sampled_problems * suite.SAMPLES
    scored += (len(sampled) - sum(sampled)) * sizes.greedy_problems
  return float(learned * (2 + 3 * train.epochs) + scored)


def seconds(
    runs: Sequence[records.Evaluation], names: Sequence[str], workers: int
) -> dict[str, float]:
  """Wall seconds of a trial by budget, while all workers are busy.

  Args:
    runs: trials that were made.
    names: of the budgets wanted.
    workers: trials made at once.

  Raises:
    ValueError: if `runs` is empty.
  """
  if not runs:
    raise ValueError("`runs` must hold a trial, to tell how long one takes")
  spent = sum(
      (run.finished_at - run.started_at).total_seconds() for run in runs
  )
  done = sum(cost(budgets.named(run.budget)) for run in runs)
  each = spent / done / workers
  return {name: each * cost(budgets.named(name)) for name in names}


def noise(
    config: search_config.SearchConfig, runs: Sequence[records.Evaluation]
) -> shrinkage.Noise:
  """Of a score, as assumed and as the seeds so far have it.

    sd² = (d0 sd0² + Σ_c Σ_s (y_cs - y_c)²) / (d0 + Σ_c (n_c - 1))

  with d0 degrees of freedom for what was assumed.

  Args:
    config: of the campaign.
    runs: trials of the root and its company.
  """
  assumed = config.race.noise
  scores: dict[str, list[float]] = {}
  for run in runs:
    if run.outcome == "scored" and run.budget == config.budget:
      scores.setdefault(run.candidate_id, []).append(run.metrics["overall"])
  # A clone that trains as the root does says nothing more.
  groups = set(map(tuple, scores.values()))
  squares = math.fsum(len(own) * statistics.pvariance(own) for own in groups)
  seen = sum(len(own) - 1 for own in groups)
  variance = assumed.dof * assumed.sd**2 + squares
  sd = math.sqrt(variance / (assumed.dof + seen))
  return assumed._replace(sd=sd)


def make(
    config: search_config.SearchConfig,
    runs: Sequence[records.Evaluation],
    *,
    others: Sequence[plan.Line] = (),
    rehearsals: int = 60,
) -> plan.Plan:
  """What the campaign will take from here on, and could find.

  Args:
    config: of the campaign.
    runs: trials of the root and its company, the only ones so far.
    others: further stages.
    rehearsals: see `plan.make`.
  """
  race = dataclasses.replace(config.race, noise=noise(config, runs))
  confirmations = config.confirmations
  names = [rung.budget for rung in race.rungs]
  return plan.make(
      plan.Workload(
          rounds=config.rounds,
          per_round=config.children,
          seconds=seconds(
              runs, [*names, config.confirm_budget], config.workers
          ),
      ),
      race,
      confirmations.protocol,
      alpha=confirmations.alpha,
      shares=confirmations.shares,
      others=others,
      rehearsals=rehearsals,
      workers=config.workers,
  )


def remarks(
    config: search_config.SearchConfig, runs: Sequence[records.Evaluation]
) -> list[str]:
  """What else to know before the search; said below the plan.

  The plan ends with the confirmations: what follows depends on whether one
  succeeds, and most do not. As it is, every trial is taken to last as long as
  an unchanged one of its budget.

  Args:
    config: of the campaign.
    runs: trials of the root and its company.
  """
  if not (config.finalists and config.rounds):
    return []
  found = []
  if config.confirm_seeds < search_config.LEAST_SEEDS:
    found.append(
        f"Confirmations decide after {config.confirm_seeds} seeds already: with"
        f" fewer than {search_config.LEAST_SEEDS}, noise that is skewed can"
        f" make a false discovery likelier than {config.alpha:g}."
    )
  if limits := config.objective.constraints:
    found.append(
        "These rates are of a gain alone. To show that"
        f" {', '.join(limit.metric for limit in limits)} stay within limits as"
        " well takes more seeds, the more the tighter they are."
    )
  explained = config.explanations
  trials = {
      "second base": 2 * config.confirm_seeds * bool(config.other_base),
      "sealed": 2 * config.sealed_seeds,
      "explanation": explained.trials,
  }
  if told := [f"{stage} up to {n} trials" for stage, n in trials.items() if n]:
    names = (config.confirm_budget, explained.budget)
    each = seconds(runs, names, config.workers)
    total = sum(trials.values()) - explained.trials
    total = total * each[names[0]] + explained.trials * each[names[1]]
    found.append(
        f"If something holds: {', '.join(told)} (about {total / 60:.0f}"
        " minutes)."
    )
  return found


def spent(
    config: search_config.SearchConfig,
    candidates: Sequence[records.Candidate],
    evaluations: Sequence[records.Evaluation],
    base_sha256: str,
) -> dict[str, float]:
  """Minutes by stage of the plan, of what was measured after the plan.

  Verification leaves no times and is left out; so is what was planted. What
  followed a confirmation is told under `FOLLOWED`.

  Args:
    config: of the campaign.
    candidates: all of them.
    evaluations: all of them.
    base_sha256: of the base policy of the search.
  """
  by_id = {candidate.id: candidate for candidate in candidates}
  found: dict[str, float] = {}
  for run in evaluations:
    if _is_planted(config, by_id, run):
      continue
    stage = _stage(config, run, base_sha256)
    length = (run.finished_at - run.started_at).total_seconds()
    found[stage] = found.get(stage, 0.0) + length / 60 / config.workers
  return found


def _stage(
    config: search_config.SearchConfig,
    run: records.Evaluation,
    base_sha256: str,
) -> str:
  """Of the plan, a run was made for; `FOLLOWED` if for none."""
  protocol = config.confirmations.protocol
  fresh = run.seed - protocol.first_seed
  if pairing.base_of(run) != base_sha256:
    return FOLLOWED
  if run.split == "search":
    stages = {rung.budget: rung.name for rung in config.race.rungs}
    return stages.get(run.budget, FOLLOWED)
  confirms = (run.budget, run.split) == (protocol.budget, protocol.split)
  if confirms and 0 <= fresh < protocol.max_seeds:
    return plan.CONFIRMATION
  return FOLLOWED


def _is_planted(
    config: search_config.SearchConfig,
    by_id: Mapping[str, records.Candidate],
    run: records.Evaluation,
) -> bool:
  candidate = by_id[run.candidate_id]
  return (
      candidate.index < config.planted
      and (run.budget, run.split) == (config.budget, "search")
      and run.seed < config.planted_seeds(candidate)
  )


def steps(config: search_config.SearchConfig) -> int:
  """Training steps of the whole campaign, roughly, for its progress.

  As if every candidate got through all rungs, nothing were decided before the
  last seed that the race may hand out, and all finalists were confirmed with
  the fewest seeds: most campaigns end before that.
  """
  race, confirmations = config.race, config.confirmations
  each = {name: budgets.named(name).train.steps for name in budgets.ALL}
  once = len(canaries.NAMES) + 1  # those planted with one seed
  planted = (config.planted - once) * config.root_seeds + once
  climb = sum(rung.seeds * each[rung.budget] for rung in race.rungs)
  candidates = config.rounds * config.children
  total = planted * each[config.budget] + candidates * climb
  further = config.rounds * race.extra + int(race.closing * candidates)
  total += further * each[config.budget]
  if config.finalists and candidates:
    least = confirmations.protocol.least_seeds
    total += (1 + config.finalists) * least * each[config.confirm_budget]
  return total


def reviewed(
    config: search_config.SearchConfig,
    planned: plan.Plan,
    archive: store.Archive,
    campaign_id: str,
    began: datetime.datetime,
) -> list[str]:
  """What the stages took, beside the plan; empty if they were mostly done.

  Empty as well if there was nothing to search.

  Args:
    config: of the campaign.
    planned: its plan.
    archive: where it is kept.
    campaign_id: its id.
    began: only what was measured since then counts; a campaign that was
      continued cannot be compared with the plan of a whole one.
  """
  if not planned.candidates:
    return []
  candidates = archive.candidates(campaign_id)
  evaluations = archive.evaluations(campaign_id)
  by_id = {candidate.id: candidate for candidate in candidates}
  after = [e for e in evaluations if not _is_planted(config, by_id, e)]
  if any(run.started_at < began for run in after):
    return []
  base_sha256 = archive.campaign(campaign_id).config["base_sha256"]
  minutes = spent(config, candidates, after, base_sha256)
  followed = minutes.pop(FOLLOWED, 0.0)
  lines = ["Planned and actual minutes:"] + [
      f"  {d.stage:16} {d.planned:6.1f} {d.actual:6.1f}"
      for d in plan.compare(planned, minutes)
      if d.stage != "verify"
  ]
  if followed:
    lines.append(f"What followed a confirmation took {followed:.1f} minutes.")
  return lines
