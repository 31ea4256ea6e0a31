"""The search, top to bottom: plant, then round after round, then confirm."""

from collections.abc import Callable, Sequence
import contextlib
import functools

from poise_jax.archive import records, store
from poise_jax.candidates import jail as jail_lib
from poise_jax.discovery import (
    breeding,
    confirming,
    explaining,
    heats,
    planting,
    proposing,
    reflecting,
    search_config,
    steering,
    twins,
)
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery import progress as progress_lib
from poise_jax.discovery.agents import scientists as scientists_lib
from poise_jax.discovery.evidence import pairing, racing
from poise_jax.discovery.evidence import race as race_lib
from poise_jax.discovery.objectives import worth as worths
from poise_jax.discovery.trials import trial
from poise_jax.tasks import embedded

SearchConfig = search_config.SearchConfig


def run(
    config: SearchConfig,
    archive: store.Archive,
    progress: progress_lib.Progress | None = None,
    *,
    require_jail: bool = False,
    go_on: Callable[[Sequence[records.Evaluation]], bool] = lambda runs: True,
    scientists: scientists_lib.Scientists = scientists_lib.OFFLINE,
    reading: steering.Reading | None = None,
) -> str:
  """Runs a campaign, or continues one, to its end.

  Killed at any moment and run again, it ends with the same archive.

  Args:
    config: what to do.
    archive: where to keep it.
    progress: is told what happens; nobody if None.
    require_jail: refuse to go on without the full sandbox.
    go_on: is told the trials of root, canaries, clones and baselines once they
      are made, and says whether to search.
    scientists: who proposes and reflects.
    reading: of the directive, from `steering.read`; None is that of the
      grammar, or the one that is stored with the campaign.

  Returns:
    The id of the campaign.

  Raises:
    campaign.ResumeError: if the archive holds another campaign of the same name.
    canaries.CanaryError: if a loss that cannot work scores as if it did.
  """
  reading = reading or steering.read(config.checked(), archive)
  config = steering.steer(config.checked(), reading).checked()
  rules = config.race
  task = embedded.named(config.task)
  laboratories = trial.Laboratories(
      functools.partial(trial.Laboratory, task=task)
  )
  campaign_id = campaign_lib.enter(
      archive, config.name, search_config.identity(config, laboratories)
  )
  with contextlib.ExitStack() as stack:
    jail = stack.enter_context(jail_lib.Jail(require_jail=require_jail))
    campaign = campaign_lib.Campaign(
        campaign_id,
        archive=archive,
        laboratories=laboratories,
        home=config.home,
        jail=jail,
        progress=progress or progress_lib.Silent(),
        workers=config.workers,
    )
    if reading is not None:
      steering.keep(campaign, reading)
    root, *others = planting.plant(campaign, config)
    worth = _appraise(campaign, config, [root, *others])
    told = {"noise": rules.noise, "worth": worth}
    reflecting.reflect(campaign, [root, *others], **told)
    if not go_on(_planted_runs(campaign, config, [root, *others])):
      return campaign_id
    race = race_lib.start(rules, root.id)
    for generation in range(1, config.rounds + 1):
      parents = breeding.choose_parents(campaign, config, generation, worth)
      children = proposing.make_children(
          campaign, config, generation, parents, worth, scientists
      )
      race = heats.enter(campaign, rules, race, children, worth)
      _replicate(campaign, children)
      reflecting.reflect(campaign, children, scientists, **told)
    race = heats.advance(campaign, rules, race_lib.close(race), worth)
    if config.finalists:
      _conclude(campaign, config, race, worth)
  return campaign_id


def _planted_runs(
    campaign: campaign_lib.Campaign,
    config: SearchConfig,
    planted: Sequence[records.Candidate],
) -> list[records.Evaluation]:
  """The trials of planting, without what was measured since."""
  return [
      run
      for candidate in planted
      for run in campaign.at_home(candidate)
      if run.seed < config.planted_seeds(candidate)
  ]


def _appraise(
    campaign: campaign_lib.Campaign,
    config: SearchConfig,
    planted: Sequence[records.Candidate],
) -> worths.Worth:
  """What a point is worth in each metric, by the noise of what was planted."""
  runs = _planted_runs(campaign, config, planted)
  groups = [
      (
          candidate,
          [r for r in pairing.scored(runs) if r.candidate_id == candidate.id],
      )
      for candidate in planted
      if candidate.role != "canary"
  ]
  return worths.appraise(config.objective, groups)


def _replicate(
    campaign: campaign_lib.Campaign, children: Sequence[records.Candidate]
) -> None:
  """Measures the original of each twin once more, beside the root."""
  root = campaign.candidates[0]
  campaign.measure(
      [
          trial.Measurement(candidate, seed, campaign.home)
          for original, seed in twins.replicas(children, campaign.candidates)
          if campaign.at_home(original)
          for candidate in (root, original)
      ]
  )


def _conclude(
    campaign: campaign_lib.Campaign,
    config: SearchConfig,
    race: race_lib.Race,
    worth: worths.Worth,
) -> None:
  """Stores how the race ended; confirms and explains what came out first."""
  standings = racing.standings(config.race, race)
  for standing in standings:
    data = standing._asdict() | {"status": str(standing.status)}
    data |= worth.provenance
    campaign.decide("race", standing.candidate, lambda data=data: data)
  finalists = racing.finalists(config.race, race)
  plan = config.confirmations
  held = confirming.confirm(campaign, plan, finalists, worth)
  first = config.planted + config.rounds * config.children
  by_id = {candidate.id: candidate for candidate in campaign.candidates}
  for winner in held:
    there = confirming.worth_of(campaign, plan.protocol, worth)
    first = explaining.explain(
        campaign, by_id[winner], config.explanations, there.score, first
    )
