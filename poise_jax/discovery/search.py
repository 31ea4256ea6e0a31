"""The search, top to bottom: seeds, canary check, then round after round."""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
from typing import Any

import numpy as np

from poise_jax.algorithms import catalog
from poise_jax.archive import records, store
from poise_jax.candidates import fingerprint as fingerprints
from poise_jax.candidates import jail as jail_lib
from poise_jax.discovery import (
    budgets,
    canaries,
    effects,
    grammar,
    reflection,
    rendering,
    selection,
    trial,
)
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery import genome as genomes
from poise_jax.discovery import progress as progress_lib
from poise_jax.tasks import arithmetic


@dataclasses.dataclass
class SearchConfig:
  """Everything that a campaign's outcome is a function of, but `workers`.

  Not frozen, for launch scripts to override fields; `checked` validates.

  Attributes:
    name: of the campaign.
    seed: of the proposer.
    base: `embedded`, or a Hugging Face directory.
    budget: name of the budget that every candidate gets.
    root: catalogue name of the algorithm that everything descends from.
    baselines: further catalogue names to measure beside it.
    root_seeds: training seeds of root, baselines and canaries.
    rounds: rounds of the search.
    parents: parents chosen in each round.
    children: candidates made in each round, parent by parent in turn.
    child_seeds: training seeds of a generated candidate, at most `root_seeds`,
      so that each has a partner of the root.
    weights: of the parent score.
    workers: trials run at once; does not change the outcome.
  """

  name: str = "search"
  seed: int = 0
  base: str = trial.EMBEDDED
  budget: str = "quick"
  root: str = "grpo"
  baselines: tuple[str, ...] = ()
  root_seeds: int = 3
  rounds: int = 3
  parents: int = 3
  children: int = 3
  child_seeds: int = 2
  weights: selection.Weights = dataclasses.field(
      default_factory=selection.Weights
  )
  workers: int = 2

  def checked(self) -> "SearchConfig":
    """Returns itself, if it can be run.

    Raises:
      ValueError: naming the field, what it must be and what it is.
    """
    budgets.named(self.budget)
    _check_named("root", self.root, genomes.named)
    for name in self.baselines:
      _check_named("baselines", name, catalog.make)
    names = [self.root, *canaries.NAMES, *self.baselines]
    if len(set(names)) < len(names):
      raise ValueError(
          "`baselines` must not repeat the root, a canary or each other, got"
          f" {self.baselines}"
      )
    for field, least in _LEAST.items():
      if getattr(self, field) < least:
        raise ValueError(
            f"`{field}` must be at least {least}, got {getattr(self, field)}"
        )
    if self.child_seeds > self.root_seeds:
      raise ValueError(
          "`child_seeds` must not exceed `root_seeds`, or children would have"
          f" no partner to be compared with, got {self.child_seeds} and"
          f" {self.root_seeds}"
      )
    return self

  def planned(self, candidate: records.Candidate) -> int:
    """Training seeds that a candidate gets, its twins apart."""
    return self.child_seeds if candidate.generation else self.root_seeds

  @property
  def trials(self) -> int:
    """Trials of the whole campaign, if every candidate is accepted."""
    seeds = 1 + len(self.baselines) + len(canaries.NAMES)
    return (
        seeds * self.root_seeds + self.rounds * self.children * self.child_seeds
    )


_LEAST = {
    "seed": 0,
    "root_seeds": 1,
    "rounds": 0,
    "parents": 1,
    "children": 1,
    "child_seeds": 1,
    "workers": 1,
}


def _check_named(
    field: str, name: str, look_up: Callable[[str], object]
) -> None:
  """Blames `field` for a name that cannot be found."""
  try:
    look_up(name)
  except ValueError as error:
    message = str(error).replace("`name`", f"`{field}`")
    raise ValueError(message) from error


def identity(
    config: SearchConfig, laboratory: trial.Laboratory
) -> dict[str, Any]:
  """What is stored as the campaign's configuration, and hashed to its id."""
  fields = dataclasses.asdict(config)
  del fields["workers"]
  fields["baselines"] = list(config.baselines)
  conditions = laboratory.conditions
  return fields | {
      "base_sha256": conditions["base"],
      "budget_sizes": conditions["budget"],
      "task": conditions["task"],
      "versions": conditions["versions"],
  }


def run(
    config: SearchConfig,
    archive: store.Archive,
    progress: progress_lib.Progress | None = None,
    *,
    require_jail: bool = False,
) -> str:
  """Runs a campaign, or continues one, to its end.

  Killed at any moment and run again, it ends with the same archive.

  Args:
    config: what to do.
    archive: where to keep it.
    progress: is told what happens; nobody if None.
    require_jail: refuse to go on without the full sandbox.

  Returns:
    The id of the campaign.

  Raises:
    campaign.ResumeError: if the archive holds another campaign of the same name.
    canaries.CanaryError: if a loss that cannot work scores as if it did.
  """
  config = config.checked()
  laboratory = trial.Laboratory(config.base, budgets.named(config.budget))
  campaign_id = campaign_lib.enter(
      archive, config.name, identity(config, laboratory)
  )
  with contextlib.ExitStack() as stack:
    jail = stack.enter_context(jail_lib.Jail(require_jail=require_jail))
    campaign = campaign_lib.Campaign(
        campaign_id,
        archive=archive,
        laboratory=laboratory,
        jail=jail,
        progress=progress or progress_lib.Silent(),
        workers=config.workers,
    )
    _plant(campaign, config)
    for generation in range(1, config.rounds + 1):
      parents = _choose_parents(campaign, config, generation)
      children = _make_children(campaign, config, generation, parents)
      campaign.evaluate(children, config.child_seeds, arithmetic.Split.SEARCH)
      campaign.replicate(children, config.planned, arithmetic.Split.SEARCH)
      _reflect(campaign, children)
  return campaign_id


def _plant(campaign: campaign_lib.Campaign, config: SearchConfig) -> None:
  """Measures root, canaries and baselines, and stops if a canary sings wrong."""
  drafts = [_root(config.root)]
  drafts += [canaries.draft(name) for name in canaries.NAMES]
  drafts += [
      campaign_lib.Draft(
          name=name,
          role="baseline",
          generation=0,
          parents=(),
          source=catalog.source(name),
          mechanisms={},
          rationale=catalog.describe(name).title,
      )
      for name in config.baselines
  ]
  planted = [campaign.admit(i, draft) for i, draft in enumerate(drafts)]
  for candidate in planted:
    if not candidate.accepted:
      raise ValueError(
          f"{candidate.name} was refused: {candidate.findings[-1]['message']}"
      )
  campaign.evaluate(planted, config.root_seeds, arithmetic.Split.SEARCH)
  canaries.check(campaign, planted)
  _reflect(campaign, [c for c in planted if c.role != "canary"])


def _root(name: str) -> campaign_lib.Draft:
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
  return campaign_lib.Draft(
      name=name,
      role="root",
      generation=0,
      parents=(),
      source=source,
      mechanisms={"genome": genomes.to_json(genome)},
      rationale=catalog.describe(name).title,
  )


def _choose_parents(
    campaign: campaign_lib.Campaign, config: SearchConfig, generation: int
) -> tuple[str, ...]:
  """Chooses the parents of a round by what is known before it."""
  for known in campaign.archive.selections(campaign.id):
    if known.generation == generation:
      return known.parents
  campaign.progress.stage(f"round {generation}", "choose parents")
  nodes = [
      node
      for candidate in campaign.candidates
      if candidate.generation < generation
      and (node := _node(campaign, candidate)) is not None
  ]
  choice = selection.select(nodes, count=config.parents, weights=config.weights)
  campaign.archive.add_selection(
      records.Selection(
          campaign.id, generation, choice.parents, choice.terms, records.now()
      )
  )
  return choice.parents


def _node(
    campaign: campaign_lib.Campaign, candidate: records.Candidate
) -> selection.Node | None:
  """A candidate as a possible parent; None if it cannot be one."""
  runs = campaign.evaluations(candidate)
  breedable = candidate.role in ("root", "generated") and runs
  if not breedable or any(run.outcome != "scored" for run in runs):
    return None
  mean = {
      name: float(np.mean([run.metrics[name] for run in runs]))
      for name in runs[0].metrics
  }
  sets = [f"{s.metric}/{s.name}" for s in arithmetic.SUITE]
  features = ("entropy", "kl", "valid_rate", "response_length")
  return selection.Node(
      id=candidate.id,
      parents=candidate.parents,
      overall=mean["overall"],
      seeds=len(runs),
      set_scores={name: mean[name] for name in sets},
      genome=genomes.from_json(candidate.mechanisms["genome"]),
      fingerprint=candidate.fingerprint
      and fingerprints.from_bytes(candidate.fingerprint),
      features={name: mean[name] for name in features},
  )


def _make_children(
    campaign: campaign_lib.Campaign,
    config: SearchConfig,
    generation: int,
    parents: Sequence[str],
) -> list[records.Candidate]:
  """Proposes and verifies the candidates of a round, each from its parent."""
  planted = 1 + len(canaries.NAMES) + len(config.baselines)
  first = planted + (generation - 1) * config.children
  children = []
  for i in range(config.children):
    index = first + i
    child = campaign.stored(index)
    if child is None:
      turned = [*parents[i % len(parents) :], *parents[: i % len(parents)]]
      proposal = _propose(campaign, config, generation, index, turned)
      draft = campaign_lib.Draft(
          name=proposal.name,
          role="generated",
          generation=generation,
          parents=proposal.parents,
          source=proposal.source,
          mechanisms=proposal.mechanisms,
          rationale=proposal.rationale,
      )
      child = campaign.admit(index, draft)
    children.append(child)
  return children


def _propose(
    campaign: campaign_lib.Campaign,
    config: SearchConfig,
    generation: int,
    index: int,
    parents: Sequence[str],
) -> grammar.Proposal:
  """Asks the offline proposer for one candidate."""
  campaign.progress.stage(f"candidate {index}", "propose")
  known = {
      c.id: genomes.from_json(c.mechanisms["genome"])
      for c in campaign.candidates
      if "genome" in c.mechanisms
  }
  by_id = {c.id: c for c in campaign.candidates}
  gains = {
      c.id: campaign.gain(c, by_id[c.parents[0]])
      for c in campaign.candidates
      if 0 < c.generation < generation
  }
  seen = {c.source_sha256 for c in campaign.candidates}
  return grammar.propose(
      np.random.default_rng([config.seed, index]),
      [
          grammar.Parent(
              p,
              by_id[p].name,
              known[p],
              overall=_node(campaign, by_id[p]).overall,
              delta=gains.get(p),
          )
          for p in parents
      ],
      seen | {genomes.identity(genome) for genome in known.values()},
      index=index,
      root=genomes.named(config.root),
      history=[
          effects.Observation(known[i], known[by_id[i].parents[0]], gain)
          for i, gain in gains.items()
          if gain is not None
      ],
  )


def _reflect(
    campaign: campaign_lib.Campaign, candidates: Sequence[records.Candidate]
) -> None:
  """Writes down what each candidate showed, against its parent and the root."""
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
      text, data = reflection.reflect(
          campaign.evidence(candidate),
          campaign.evidence(parent) if parent else None,
          root,
      )
    campaign.note(candidate, text, data)
