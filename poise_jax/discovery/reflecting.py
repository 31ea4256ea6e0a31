"""Writing down what each candidate showed."""

from collections.abc import Sequence
import functools

from poise_jax.archive import records
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery import reflection
from poise_jax.discovery import yardstick as yardsticks
from poise_jax.discovery.agents import scientists as scientists_lib
from poise_jax.discovery.evidence import shrinkage
from poise_jax.discovery.objectives import worth as worths


def reflect(
    campaign: campaign_lib.Campaign,
    candidates: Sequence[records.Candidate],
    scientists: scientists_lib.Scientists = scientists_lib.OFFLINE,
    *,
    noise: shrinkage.Noise,
    worth: worths.Worth = yardsticks.OVERALL.worth,
) -> None:
  """Writes down what each candidate showed, against its parent and the root.

  Those that have a reflection are left alone. Differences are those at the
  budget of the search, where there are any. Their variance is moderated by
  what is known of the noise, as in the race: two candidates share prompts and
  sampling keys with a seed, so of sd² the share ρ is common luck and cancels,

    s0² = 2 (1 - ρ) sd².

  Args:
    campaign: so far.
    candidates: measured, or refused; of the latter the findings tell all.
    scientists: who reflects; the rules stand by.
    noise: of a score at the budget of the search.
    worth: what runs are worth to the objective of the campaign.
  """
  by_id = {c.id: c for c in campaign.candidates}
  root = campaign.evidence(campaign.candidates[0])
  yardstick = yardsticks.Yardstick(worth, by_id)
  noted = campaign.noted()
  for candidate in candidates:
    if candidate.id in noted:
      continue
    if not candidate.accepted:
      text, data = reflection.reflect_rejected(candidate.findings)
    else:
      parent = by_id[candidate.parents[0]] if candidate.parents else None
      text, data = scientists.reflect(
          campaign,
          candidate,
          noise,
          yardstick,
          functools.partial(
              reflection.reflect,
              campaign.evidence(candidate),
              campaign.evidence(parent) if parent else None,
              root,
              prior_variance=noise.paired_variance,
              prior_dof=noise.dof,
              prefer=campaign.home.budget,
              yardstick=yardstick,
          ),
      )
    campaign.note(candidate, text, data)
