"""What a campaign does, apart from how it is done."""

from collections.abc import Callable
import dataclasses
import math
from typing import Any

from poise_jax.algorithms import catalog
from poise_jax.archive import records, schema
from poise_jax.discovery import canaries, clones, confirming, explaining
from poise_jax.discovery.agents import choice
from poise_jax.discovery.evidence import confirmation, shrinkage, spending
from poise_jax.discovery.evidence import race as race_lib
from poise_jax.discovery.llm import options
from poise_jax.discovery.objectives import objective as objectives
from poise_jax.discovery.objectives import worth as worths
from poise_jax.discovery.parents import rules as rules_lib
from poise_jax.discovery.parents import selection
from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.trials import budgets, trial
from poise_jax.tasks import arithmetic, embedded

SECOND = "second"  # the other base policy that is shipped for a task


@dataclasses.dataclass
class SearchConfig:
  """Everything that a campaign's outcome is a function of, but `workers`.

  Not frozen, for launch scripts to override fields; `checked` validates.

  Attributes:
    name: of the campaign.
    seed: of the proposer and of the choice of parents.
    task: `arithmetic` or `carryless`, see `tasks.embedded`.
    base: name of a shipped policy (`embedded`, `carryless`), or a Hugging Face
      directory; empty for the one that is shipped for the task.
    second_base: another base policy, asked of what was confirmed; `second` is
      the other one that is shipped for the task, empty for none.
    budget: name of the budget that candidates are compared at.
    rungs: names of cheaper budgets that a candidate must get through first. One
      that scores nothing, such as `smoke`, only stops losses that break down.
    root: catalogue name of the algorithm that everything descends from.
    baselines: further catalogue names to measure beside it.
    root_seeds: training seeds of the root, its near clone and the baselines.
    rounds: rounds of the search.
    parents: parents chosen in each round.
    children: candidates made in each round, parent by parent in turn.
    child_seeds: training seeds that a candidate runs before others decide
      whether it gets more, at most `max_seeds`.
    max_seeds: most seeds of a candidate in the race.
    rule: how parents are chosen, see `rules.RULES`.
    weights: of the parent score.
    objective: what to improve and what to keep.
    directive: the same in plain language; see `steering`.
    agent: who proposes and reflects: `offline`, `gemini`, `replay:PATH` of a
      recorded conversation, or `script:PATH` of written replies.
    llm: the model that is asked, and what it may cost.
    noise_sd: of a score from seed to seed, in points, before the campaign's
      own seeds tell.
    finalists: most candidates that are confirmed; 0 confirms nothing.
    confirm_budget: name of the budget of confirmations.
    confirm_seeds: most fresh seeds of one.
    alpha: chance that anything is confirmed that is no better than the root.
    sealed_seeds: seeds scored on the sealed split, of what was confirmed.
    explain: how a confirmed candidate is taken apart, tuned beside the root and
      trained under hardship; at `confirm_budget` unless it names another.
    workers: trials run at once; does not change the outcome.
  """

  name: str = "search"
  seed: int = 0
  task: str = "arithmetic"
  base: str = ""
  second_base: str = SECOND
  budget: str = "quick"
  rungs: tuple[str, ...] = ("smoke", "quarter")
  root: str = "grpo"
  baselines: tuple[str, ...] = ()
  root_seeds: int = 3
  rounds: int = 3
  parents: int = 3
  children: int = 3
  child_seeds: int = 1
  max_seeds: int = 8
  rule: str = "epistemic"
  weights: selection.Weights = dataclasses.field(
      default_factory=selection.Weights
  )
  objective: objectives.Objective = objectives.DEFAULT
  directive: str = ""
  agent: str = "offline"
  llm: options.Options = dataclasses.field(default_factory=options.Options)
  noise_sd: float = 2.5
  finalists: int = 2
  confirm_budget: str = "confirm"
  confirm_seeds: int = 24
  alpha: float = 0.05
  sealed_seeds: int = 4
  explain: explaining.Plan = dataclasses.field(default_factory=explaining.Plan)
  workers: int = 2

  def checked(self) -> "SearchConfig":
    """Returns itself, if it can be run.

    Raises:
      ValueError: naming the field, what it must be and what it is.
    """
    task = embedded.named(self.task)
    objectives.checked(self.objective, worths.recorded(task.suite))
    _check_budgets(self)
    _check_names(self)
    choice.read(self.agent)
    for field, least in _LEAST.items():
      if getattr(self, field) < least:
        raise ValueError(
            f"`{field}` must be at least {least}, got {getattr(self, field)}"
        )
    if self.child_seeds > self.max_seeds:
      raise ValueError(
          "`child_seeds` must not exceed `max_seeds`, got"
          f" {self.child_seeds} and {self.max_seeds}"
      )
    self.explain.checked()
    _check_seeds(self)
    if not 0 < self.alpha < 1:
      raise ValueError(f"`alpha` must lie in (0, 1), got {self.alpha}")
    if not 0 < self.noise_sd < math.inf:
      raise ValueError(f"`noise_sd` must be positive, got {self.noise_sd}")
    return self

  @property
  def planted(self) -> int:
    """Candidates measured before the first round."""
    return 1 + len(canaries.NAMES) + len(clones.NAMES) + len(self.baselines)

  def planted_seeds(self, candidate: records.Candidate) -> int:
    """Training seeds of one of them.

    Canaries and the exact clone are compared bit for bit, or with something
    far away: one seed tells.
    """
    once = candidate.role == "canary" or candidate.name == clones.EXACT
    return 1 if once else self.root_seeds

  @property
  def home(self) -> trial.Setting:
    """Where candidates are measured during the search."""
    return trial.Setting(self.budget, arithmetic.Split.SEARCH, self.own_base)

  @property
  def own_base(self) -> str:
    """The base policy of the search."""
    return self.base or trial.SHIPPED[self.task][0]

  @property
  def other_base(self) -> str:
    """Where what was confirmed is asked once more; empty for nowhere."""
    if self.second_base != SECOND:
      return self.second_base
    first, second = trial.SHIPPED[self.task]
    return first if self.own_base == second else second

  @property
  def race(self) -> race_lib.Rules:
    """The rules of the race.

    A candidate must lie far below the root on a cheap rung to be dropped there,
    by six sd of a score: budgets rank candidates differently.
    """
    full = budgets.named(self.budget).train.steps
    cheap = [
        race_lib.Rung(
            name=budget.name,
            budget=budget.name,
            seeds=1,
            margin=6 * self.noise_sd if budget.evaluate else None,
            cost=budget.train.steps / full,
        )
        for budget in map(budgets.named, self.rungs)
    ]
    last = race_lib.Rung("full", self.budget, self.child_seeds, 0.0, 1.0)
    return race_lib.Rules(
        rungs=(*cheap, last),
        noise=shrinkage.Noise(self.noise_sd),
        max_seeds=self.max_seeds,
        finalists=max(self.finalists, 1),
        final_seeds=min(3, self.max_seeds),
    )

  @property
  def confirmations(self) -> confirming.Plan:
    """How finalists are confirmed."""
    return confirming.Plan(
        confirmation.Protocol(
            self.confirm_budget,
            self.own_base,
            least_seeds=min(LEAST_SEEDS, self.confirm_seeds),
            max_seeds=self.confirm_seeds,
            worthwhile=0.75 * self.noise_sd,
        ),
        second_base=self.other_base,
        alpha=self.alpha,
        shares=spending.weights(self.finalists) if self.finalists else (),
        sealed_seeds=self.sealed_seeds,
    )

  @property
  def explanations(self) -> explaining.Plan:
    """How what was confirmed is explained, the budget filled in."""
    budget = self.explain.budget or self.confirm_budget
    return dataclasses.replace(self.explain, budget=budget)


# With fewer, a confirmation of a loss that rarely collapses errs too often.
LEAST_SEEDS = confirmation.Protocol.least_seeds

_LEAST = {
    "seed": 0,
    "root_seeds": 1,
    "rounds": 0,
    "parents": 1,
    "children": 1,
    "child_seeds": 1,
    "finalists": 0,
    "confirm_seeds": 2,
    "sealed_seeds": 0,
    "workers": 1,
}


def _scoring(name: str) -> budgets.Budget:
  """A budget that scores something."""
  budget = budgets.named(name)
  if budget.evaluate is None:
    raise ValueError(f"`name` must be a budget that scores, got {name!r}")
  return budget


def _check_budgets(config: SearchConfig) -> None:
  """Blames the field that names a budget which is none, or twice the same."""
  for field in ("budget", "confirm_budget"):
    _check_named(field, getattr(config, field), _scoring)
  if config.explain.budget:
    _check_named("explain.budget", config.explain.budget, _scoring)
  for name in config.rungs:
    _check_named("rungs", name, budgets.named)
  if len({*config.rungs, config.budget}) <= len(config.rungs):
    raise ValueError(
        "`rungs` must be different budgets, and not `budget`, got"
        f" {config.rungs} with {config.budget}"
    )


def _check_seeds(config: SearchConfig) -> None:
  """Blames seeds of explanations that confirmations may have used."""
  used = confirmation.Protocol.first_seed
  used += config.confirm_seeds + config.sealed_seeds
  if config.explain.first_seed < used:
    raise ValueError(
        f"`explain.first_seed` must be at least {used}, above all seeds of"
        f" confirmations and the sealed split, got {config.explain.first_seed}"
    )


def _check_names(config: SearchConfig) -> None:
  """Blames the field that names an algorithm or rule which is none."""
  _check_named("rule", config.rule, rules_lib.named)
  _check_named("root", config.root, genomes.named)
  for name in config.baselines:
    _check_named("baselines", name, catalog.make)
  names = [config.root, *canaries.NAMES, *clones.NAMES, *config.baselines]
  if len(set(names)) < len(names):
    raise ValueError(
        "`baselines` must not repeat the root, a canary, a clone or each"
        f" other, got {config.baselines}"
    )


def _check_named(
    field: str, name: str, look_up: Callable[[str], object]
) -> None:
  """Blames `field` for a name that cannot be found."""
  try:
    look_up(name)
  except ValueError as error:
    message = str(error)
    for blamed in ("`name`", "`budget`"):
      message = message.replace(blamed, f"`{field}`")
    raise ValueError(message) from error


def identity(
    config: SearchConfig, laboratories: trial.Laboratories
) -> dict[str, Any]:
  """What is stored as the campaign's configuration, and hashed to its id.

  Raises:
    ValueError: if the second base policy is the first.
  """
  fields = dataclasses.asdict(config)
  for name in ("workers", "agent", "llm"):
    del fields[name]
  fields["objective"] = objectives.to_json(config.objective)
  fields["explain"] = dataclasses.asdict(config.explanations)
  fields["base"], fields["second_base"] = config.own_base, config.other_base
  conditions = laboratories.at(config.home).conditions
  del fields["task"]
  sizes = {
      name: dataclasses.asdict(budgets.named(name))
      for name in (
          *(*config.rungs, config.budget, config.confirm_budget),
          config.explanations.budget,
      )
  }
  others: dict[str, Any] = {}
  if asked := choice.identity(config.agent, config.llm):
    others["agent"] = asked
  if config.other_base:
    other = config.home._replace(base=config.other_base)
    others["second_base_sha256"] = laboratories.at(other).base_sha256
    if others["second_base_sha256"] == conditions["base"]:
      raise ValueError(
          "`second_base` must be another policy than `base`, got"
          f" {config.other_base!r} and {config.own_base!r}, whose weights are"
          " equal; leave it empty to ask no other"
      )
  if config.explain.bases:
    others["explain_bases_sha256"] = {
        base: laboratories.at(config.home._replace(base=base)).base_sha256
        for base in config.explain.bases
    }
  return schema.plain(fields) | {
      "base_sha256": conditions["base"],
      "budget_sizes": sizes,
      "task": conditions["task"],
      "versions": conditions["versions"],
      **others,
  }
