"""What is measured before a search begins: root, canaries, clones, baselines."""

from poise_jax.algorithms import catalog
from poise_jax.archive import records
from poise_jax.discovery import admission, canaries, clones, search_config
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import rendering
from poise_jax.discovery.trials import trial


def plant(
    campaign: campaign_lib.Campaign, config: search_config.SearchConfig
) -> list[records.Candidate]:
  """Admits and measures them, and stops if a canary or a clone sings wrong.

  Raises:
    canaries.CanaryError: if a loss that cannot work scores as if it did, or
      the root written differently does not score as the root.
    ValueError: if one of them is refused by verification.
  """
  root = _root(config.root)
  drafts = [root]
  drafts += [canaries.draft(name) for name in canaries.NAMES]
  drafts += [clones.draft(name, root.source) for name in clones.NAMES]
  drafts += [_baseline(name) for name in config.baselines]
  planted = [campaign.admit(i, draft) for i, draft in enumerate(drafts)]
  for candidate in planted:
    if not candidate.accepted:
      raise ValueError(
          f"{candidate.name} was refused: {candidate.findings[0]['message']}"
      )
  campaign.measure(
      [
          trial.Measurement(candidate, seed, campaign.home)
          for seed in range(config.root_seeds)
          for candidate in planted
          if seed < config.planted_seeds(candidate)
      ]
  )
  canaries.check(campaign, planted)
  clones.check(campaign, planted)
  return planted


def _baseline(name: str) -> admission.Draft:
  """A member of the catalogue, as it is."""
  return admission.Draft(
      name=name,
      role="baseline",
      generation=0,
      parents=(),
      source=catalog.source(name),
      mechanisms={},
      rationale=catalog.describe(name).title,
  )


def _root(name: str) -> admission.Draft:
  """The algorithm that everything descends from, as the grammar writes it."""
  genome = genomes.named(name)
  source = rendering.render(
      genome,
      name=name,
      parents=(),
      rationale=catalog.describe(name).title,
      prediction="This is what others are compared with.",
      falsifier="None: it claims nothing.",
  )
  return admission.Draft(
      name=name,
      role="root",
      generation=0,
      parents=(),
      source=source,
      mechanisms={"genome": genomes.to_json(genome)},
      rationale=catalog.describe(name).title,
  )
