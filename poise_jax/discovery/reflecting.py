"""Writing down what each candidate showed."""

from collections.abc import Sequence
import functools

from poise_jax.archive import records
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery import reflection
from poise_jax.discovery.agents import scientists as scientists_lib


def reflect(
    campaign: campaign_lib.Campaign,
    candidates: Sequence[records.Candidate],
    scientists: scientists_lib.Scientists = scientists_lib.OFFLINE,
) -> None:
  """Writes down what each candidate showed, against its parent and the root.

  Those that have a reflection are left alone.

  Args:
    campaign: so far.
    candidates: measured, or refused; of the latter the findings tell all.
    scientists: who reflects; the rules stand by.
  """
  by_id = {c.id: c for c in campaign.candidates}
  root = campaign.evidence(campaign.candidates[0])
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
          functools.partial(
              reflection.reflect,
              campaign.evidence(candidate),
              campaign.evidence(parent) if parent else None,
              root,
          ),
      )
    campaign.note(candidate, text, data)
