"""The race of a campaign: `racing` decides, the laboratories measure.

The race is run again from its first round whenever the search is; what it asks
for is then mostly stored, and its decisions come out as they did.
"""

from collections.abc import Iterator, Sequence

from poise_jax.archive import records
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery.evidence import breakdown, racing
from poise_jax.discovery.evidence import race as race_lib
from poise_jax.discovery.objectives import worth as worths
from poise_jax.discovery.trials import trial


def enter(
    campaign: campaign_lib.Campaign,
    rules: race_lib.Rules,
    race: race_lib.Race,
    children: Sequence[records.Candidate],
    worth: worths.Worth,
) -> race_lib.Race:
  """Lets the admitted children of a round race, as far as they get for now."""
  admitted = [child.id for child in children if child.accepted]
  race = race_lib.enter(rules, race, admitted)
  return advance(campaign, rules, race, worth)


def advance(
    campaign: campaign_lib.Campaign,
    rules: race_lib.Rules,
    race: race_lib.Race,
    worth: worths.Worth,
) -> race_lib.Race:
  """Measures until nothing is left to measure for now.

  Args:
    campaign: of the race.
    rules: of the race.
    race: after candidates entered, or closed.
    worth: what a run is worth.
  """
  return racing.advance(
      rules, race, lambda batch: _observe(campaign, rules, batch, worth)
  )


def _observe(
    campaign: campaign_lib.Campaign,
    rules: race_lib.Rules,
    batch: Sequence[race_lib.Measurement],
    worth: worths.Worth,
) -> Iterator[race_lib.Observation]:
  """Makes the trials of a batch and tells what came of each."""
  budgets = {rung.name: rung.budget for rung in rules.rungs}
  by_id = {candidate.id: candidate for candidate in campaign.candidates}
  wanted = [
      trial.Measurement(
          by_id[candidate],
          seed,
          campaign.home._replace(budget=budgets[rung]),
      )
      for candidate, rung, seed in batch
  ]
  runs = campaign.measure(wanted)
  for measurement, run in zip(batch, runs, strict=True):
    yield _observation(measurement, by_id[measurement.candidate], run, worth)


def _observation(
    measurement: race_lib.Measurement,
    candidate: records.Candidate,
    run: records.Evaluation,
    worth: worths.Worth,
) -> race_lib.Observation:
  """What a run means for the race; a rung without scores gives 0 to all.

  The root is what it is: only without a score has it broken down.
  """
  curve = {} if candidate.role == "root" else run.curve
  broken = breakdown.find(run.reason, curve)
  if broken is not None:
    return race_lib.Observation(*measurement, None, str(broken.kind))
  score = worth.score(candidate, run) if run.metrics else 0.0
  return race_lib.Observation(*measurement, score)
