"""A directive in plain language, made to steer a campaign.

    grammar -> reading, the same for the same words
       | cannot read it
    stored with the campaign -> reading of the model, once and for all
       | not there
    model, if there is one -> reading, checked by the same rules

The reading is made before the campaign is entered, as the objective is part of
what names it; it is stored as the campaign's first decision.
"""

from collections.abc import Mapping
import dataclasses
import os
from typing import Any

from poise_jax.archive import store
from poise_jax.discovery import campaign as campaign_lib
from poise_jax.discovery import directives, search_config
from poise_jax.discovery.agents import choice, scientists
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths
from poise_jax.tasks import embedded

GRAMMAR = "the offline grammar"
_STAGE, _SUBJECT = "directive", "reading"


@dataclasses.dataclass(frozen=True)
class Reading:
  """What a directive was understood to say, and by whom.

  Attributes:
    text: the directive.
    reader: the grammar, or a model by its name.
    objective: what to improve, to keep and to leave alone.
    budget: what the campaign may use.
    lines: clause by clause what it became.
    mended: what was misspelt, and how it was read.
    exchanges: with a model that nobody has archived.
  """

  text: str
  reader: str
  objective: objectives.Objective
  budget: directives.Budget
  lines: tuple[str, ...]
  mended: tuple[tuple[str, str], ...] = ()
  exchanges: tuple[scientists.Exchange, ...] = ()

  def as_text(self) -> list[str]:
    """Lines for people."""
    return [f"The directive as {self.reader} read it:", *self.lines]

  def to_json(self) -> dict[str, Any]:
    """Renders the reading as it is stored, without the exchanges."""
    return {
        "text": self.text,
        "reader": self.reader,
        "objective": objectives.to_json(self.objective),
        "budget": dataclasses.asdict(self.budget),
        "lines": list(self.lines),
        "mended": [list(pair) for pair in self.mended],
    }


def from_json(value: Mapping[str, Any]) -> Reading:
  """Reads what `Reading.to_json` wrote."""
  return Reading(
      text=value["text"],
      reader=value["reader"],
      objective=objectives.from_json(value["objective"]),
      budget=directives.Budget(**value["budget"]),
      lines=tuple(value["lines"]),
      mended=tuple((wrong, right) for wrong, right in value["mended"]),
  )


def read(
    config: search_config.SearchConfig,
    archive: store.Archive | None = None,
    directory: str | os.PathLike[str] | None = None,
) -> Reading | None:
  """Reads the directive of a configuration; None without one.

  Args:
    config: names who may be asked.
    archive: may hold the campaign, and with it what a model read.
    directory: where transcripts are kept; None asks no model.

  Raises:
    directives.DirectiveError: if a clause cannot be measured or understood.
    ValueError: see `choice.interpret`.
    OSError: likewise.
  """
  text = config.directive
  if not text:
    return None
  try:
    return _reading(directives.parse(text), GRAMMAR, config)
  except directives.DirectiveError as error:
    complaint = error
  if archive is not None and (known := _stored(config, archive)) is not None:
    return known
  if directory is None:
    raise complaint
  reading, reader, exchanges = choice.interpret(
      config.agent,
      config.llm,
      directory,
      text,
      complaint,
      worths.recorded(embedded.named(config.task).suite),
  )
  return dataclasses.replace(
      _reading(reading, reader, config), exchanges=exchanges
  )


def _reading(
    found: directives.Reading, reader: str, config: search_config.SearchConfig
) -> Reading:
  lines = directives.explain(found)
  if found.objective.bans and choice.has_model(config.agent):
    lines.append(
        "A model is told what is banned; of what it writes its own tags are"
        " checked, and whether it equals a known algorithm, no more."
    )
  return Reading(
      text=found.text,
      reader=reader,
      objective=found.objective,
      budget=found.budget,
      lines=tuple(lines),
      mended=found.mended,
  )


def _stored(
    config: search_config.SearchConfig, archive: store.Archive
) -> Reading | None:
  """What a model read when the campaign of this name began."""
  for known in archive.campaigns():
    if known.name == config.name:
      found = archive.decision(known.id, _STAGE, _SUBJECT)
      if found is not None and found.data["text"] == config.directive:
        return from_json(found.data)
  return None


def keep(campaign: campaign_lib.Campaign, reading: Reading) -> None:
  """Stores a reading with its campaign, after what a model said of it."""
  for exchange in reading.exchanges:
    campaign.decide(
        scientists.STAGE,
        exchange["exchange"],
        lambda said=exchange: dict(said),
    )
  campaign.decide(_STAGE, _SUBJECT, reading.to_json)


def steer(
    config: search_config.SearchConfig, reading: Reading | None = None
) -> search_config.SearchConfig:
  """The configuration with its directive followed; itself without one.

  The objective is that of the directive. A limit of candidates caps the rounds,
  one of dollars what a model may cost.

  Args:
    config: to be changed.
    reading: of its directive; None is that of the grammar.

  Raises:
    directives.DirectiveError: if there is no reading and the grammar cannot
      make one.
    ValueError: if there is an objective as well, a metric that the task does
      not record, or a limit that a campaign cannot keep.
  """
  reading = reading or read(config)
  if reading is None:
    return config
  if config.objective not in (objectives.DEFAULT, reading.objective):
    raise ValueError(
        "give `directive` or `objective`, not both, got"
        f" {config.directive!r} and {config.objective}"
    )
  try:
    objectives.checked(
        reading.objective, worths.recorded(embedded.named(config.task).suite)
    )
  except ValueError as error:
    raise ValueError(str(error).replace("`objective`", "`directive`")) from None
  budget = reading.budget
  if budget.seconds is not None:
    raise ValueError(
        "`directive` must not limit time: a campaign that the clock stops would"
        " not end the same when it is repeated; see --plan_only, and choose"
        " --config.rounds"
    )
  llm = config.llm
  if budget.dollars is not None:
    if not choice.has_model(config.agent):
      raise ValueError(
          "`directive` must not limit dollars while no model is asked; drop"
          " that clause"
      )
    least = min(llm.budget_dollars, budget.dollars)
    llm = dataclasses.replace(llm, budget_dollars=least)
  rounds = config.rounds
  if budget.candidates is not None:
    rounds = min(rounds, budget.candidates // config.children)
    if not rounds:
      raise ValueError(
          f"`children` must be at most the {budget.candidates} candidates of"
          f" `directive`, got {config.children}"
      )
  return dataclasses.replace(
      config, objective=reading.objective, rounds=rounds, llm=llm
  )
