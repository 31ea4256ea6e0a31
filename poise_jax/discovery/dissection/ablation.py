"""From a winner to its irreducible core, and what each of its parts does.

Parts that change no gradient are proven idle, for nothing. Of the others those
go without which the program is shown to be no worse than the winner, by more
than a margin that was declared before; whatever cannot be shown stays. At the
end the core is compared with the winner on seeds that it was not chosen by.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import itertools
import math
from typing import Literal, NamedTuple

from poise_jax.discovery.dissection import bench as bench_lib
from poise_jax.discovery.dissection import delta, parts, source_text
from poise_jax.evaluation import non_inferiority, statistics

Status = Literal["supported", "unsupported", "idle"]

# The smallest program so far to its parts; called once.
Stage = Callable[[str], parts.Decomposition]


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is declared before anything is measured.

  Attributes:
    rule: margin, level and most pairs of each comparison with the winner.
    seeds: of the search for the core, in the order to use them.
    fresh_seeds: that nothing was chosen by: the core against the winner, and
      the effects of parts.
    effect_pairs: of them, for each effect; 0 leaves effects out.
    max_trainings: at most, None for any number; the search for the core leaves
      enough of them for its comparison on fresh seeds.
  """

  rule: non_inferiority.Rule
  seeds: tuple[int, ...]
  fresh_seeds: tuple[int, ...]
  effect_pairs: int = 6
  max_trainings: int | None = None

  def __post_init__(self):
    if both := sorted(set(self.seeds) & set(self.fresh_seeds)):
      raise ValueError(
          f"`fresh_seeds` must not be among `seeds`, got {both} in both"
      )
    if not 0 <= self.effect_pairs <= len(self.fresh_seeds):
      raise ValueError(
          f"`effect_pairs` must be from 0 to the {len(self.fresh_seeds)}"
          f" `fresh_seeds`, got {self.effect_pairs}"
      )


class Trial(NamedTuple):
  """One program that was tried as a smaller one.

  Attributes:
    kind: of the parts.
    removed: names of those that it lacks.
    verdict: "same" (proven to train alike), "refused" by the gate, or that of
      the comparison with the winner.
    reason: of a refusal, else empty.
    differences: to the winner, one a seed.
  """

  kind: str
  removed: tuple[str, ...]
  verdict: Literal["same", "refused", "not worse", "worse", "open"]
  reason: str = ""
  differences: tuple[float, ...] = ()


class Effect(NamedTuple):
  """What one part does; intervals hold for all parts at once.

  Attributes:
    kind: of the part.
    name: of the part.
    words: of the part.
    status: idle: the program trains the same without it. supported: the winner
      or the core is better with it. unsupported: that was not shown.
    kept: whether it is in the core.
    on_winner: the winner, or what earlier stages left of it, minus the same
      without it; None where that is no program, or was not measured.
    on_core: the core minus the core without it, likewise.
    on_root: the root with it alone minus the root, likewise.
  """

  kind: str
  name: str
  words: str
  status: Status
  kept: bool
  on_winner: statistics.Interval | None = None
  on_core: statistics.Interval | None = None
  on_root: statistics.Interval | None = None


@dataclasses.dataclass(frozen=True)
class Ablation:
  """What came of it.

  Attributes:
    core: source of the smallest program that is not worse than the winner.
    confirmed: how `reduced` did against the winner on fresh seeds; None if it
      is proven to train as the winner does, or if trainings ran out.
    reduced: source that the search ended with; the core if that was confirmed.
    effects: of every part of every stage.
    trials: programs tried, in order.
    operations: of the winner and of the core, where known.
    complete: whether trainings sufficed.
    trainings: made.
  """

  core: str
  confirmed: non_inferiority.Result | None
  reduced: str
  effects: tuple[Effect, ...]
  trials: tuple[Trial, ...]
  operations: tuple[int | None, int | None]
  complete: bool
  trainings: int


class _Cut(NamedTuple):
  """A stage and what became of its parts."""

  whole: parts.Decomposition
  idle: tuple[str, ...]
  kept: tuple[str, ...]


def run(
    winner: str,
    stages: Sequence[Stage],
    plan: Plan,
    examine: bench_lib.ExamineFn,
    measure: bench_lib.MeasureFn,
) -> Ablation:
  """Reduces a winner to its core.

  Args:
    winner: source.
    stages: how to take it apart, coarse to fine: mechanisms, then constants,
      then statements. Each gets what the ones before left.
    plan: margin, seeds and limits.
    examine: what the gate says; costs no training.
    measure: trains and scores. A run with the same seed must share prompts and
      sampling keys.

  Returns:
    The core and the effects. P(the core is worse than the winner by the margin
    or more) is at most `rule.alpha`, by the comparison on fresh seeds alone.

  Raises:
    ValueError: if the winner itself is refused.
  """
  confirming = 2 * min(plan.rule.max_pairs, len(plan.fresh_seeds))
  most = math.inf if plan.max_trainings is None else float(plan.max_trainings)
  bench = bench_lib.Bench(examine, measure, most - confirming)
  if refused := bench.examined(winner).refused:
    raise ValueError(f"`winner` must pass the gate, but {refused}")
  trials: list[Trial] = []
  cuts: list[_Cut] = []
  smallest = same = winner
  for stage in stages:
    whole = stage(smallest)
    cut = _idle(bench, whole, smallest, trials)
    if cut is None:
      continue
    if bench.same(smallest, winner):
      same = whole.without(cut.idle) if cut.idle else same
    cut = _needed(bench, winner, cut, plan, trials)
    cuts.append(cut)
    if cut.kept != whole.names:
      smallest = whole.only(cut.kept)
  same, smallest = _swept(bench, same), _swept(bench, smallest)
  confirmed = None
  passed = bench.same(smallest, winner)
  bench.max_trainings = most
  if not passed:
    confirmed = _compare(bench, smallest, winner, plan.rule, plan.fresh_seeds)
    passed = confirmed is not None and confirmed.verdict == "not worse"
  core = smallest if passed else same
  effects = tuple(_effects(bench, cuts, plan))
  return Ablation(
      core=core,
      confirmed=confirmed,
      reduced=smallest,
      effects=effects,
      trials=tuple(trials),
      operations=(
          bench.examined(winner).operations,
          bench.examined(core).operations,
      ),
      complete=not bench.spent,
      trainings=bench.trainings,
  )


def _compare(
    bench: bench_lib.Bench,
    new: str,
    old: str,
    rule: non_inferiority.Rule,
    seeds: Sequence[int],
) -> non_inferiority.Result | None:
  """Compares two programs; None if trainings ran out before it was decided."""
  difference = lambda seed: bench.difference(new, old, seed)
  try:
    return non_inferiority.run(rule, difference, seeds)
  except bench_lib.SpentError:
    return None


def _source(
    bench: bench_lib.Bench, whole: parts.Decomposition, removed: Sequence[str]
) -> tuple[str, str]:
  """Source without some parts; or why there is none."""
  try:
    source = whole.without(removed)
  except ValueError as error:
    return "", str(error)
  return source, bench.examined(source).refused


def _idle(
    bench: bench_lib.Bench,
    whole: parts.Decomposition,
    start: str,
    trials: list[Trial],
) -> _Cut | None:
  """Finds what changes no gradient, without training.

  None where the parts are not those of the program; that is noted.
  """
  source, reason = _source(bench, whole, ())
  if reason or not bench.same(source, start):
    reason = reason or "put together again, the parts are another program"
    trials.append(Trial(whole.kind, (), "refused", reason))
    return None
  kept = whole.names
  # One by one, from the end: what idles is hardly ever two parts only together.
  for name in reversed(whole.names):
    fewer = tuple(n for n in kept if n != name)
    removed = tuple(n for n in whole.names if n not in fewer)
    source, reason = _source(bench, whole, removed)
    if not reason and bench.same(source, start):
      trials.append(Trial(whole.kind, removed, "same"))
      kept = fewer
  return _Cut(whole, tuple(n for n in whole.names if n not in kept), kept)


def _needed(
    bench: bench_lib.Bench,
    winner: str,
    cut: _Cut,
    plan: Plan,
    trials: list[Trial],
) -> _Cut:
  """Takes out what the winner is shown not to need."""
  whole = cut.whole

  def passes(kept: tuple[str, ...]) -> bool:
    removed = tuple(n for n in whole.names if n not in kept)
    source, reason = _source(bench, whole, removed)
    if reason:
      trials.append(Trial(whole.kind, removed, "refused", reason))
      return False
    found = _compare(bench, source, winner, plan.rule, plan.seeds)
    if found is None:
      return False
    trials.append(Trial(whole.kind, removed, found.verdict, "", found[1]))
    return found.verdict == "not worse"

  return cut._replace(kept=delta.minimise(cut.kept, passes))


def _swept(bench: bench_lib.Bench, source: str) -> str:
  """Without what nothing reads, if that is the same program indeed."""
  clean = source_text.swept(source)
  return clean if bench.same(clean, source) else source


def _effects(
    bench: bench_lib.Bench, cuts: Sequence[_Cut], plan: Plan
) -> Iterator[Effect]:
  """What every part does, by itself and with the others."""
  count = sum(len(cut.whole.parts) - len(cut.idle) for cut in cuts)
  level = plan.rule.alpha / max(count, 1)

  def interval(new: str, old: str) -> statistics.Interval | None:
    """Interval of new minus old; None if it cannot be measured."""
    if not (new and old and plan.effect_pairs):
      return None
    if bench.same(new, old):
      return statistics.Interval(0.0, 0.0, 0.0)
    try:
      gaps = [
          bench.measured(new, seed).score - bench.measured(old, seed).score
          for seed in plan.fresh_seeds[: plan.effect_pairs]
      ]
    except bench_lib.SpentError:
      return None
    # As many pairs as planned, whatever they show: Student's interval holds.
    return statistics.mean_interval(
        gaps,
        confidence=1 - level,
        prior_variance=plan.rule.prior.variance,
        prior_dof=plan.rule.prior.dof,
    )

  def make(whole: parts.Decomposition, removed: Sequence[str]) -> str:
    source, reason = _source(bench, whole, removed)
    return "" if reason else source

  for cut in cuts:
    whole, names = cut.whole, cut.whole.names
    start, root = make(whole, ()), make(whole, names)
    core = make(whole, [n for n in names if n not in cut.kept])
    for part in whole.parts:
      kept = part.name in cut.kept
      if part.name in cut.idle:
        yield Effect(whole.kind, *part, "idle", False)
        continue
      gone = [n for n in names if n not in cut.kept or n == part.name]
      alone = make(whole, [n for n in names if n != part.name])
      on_winner = interval(start, make(whole, [part.name]))
      on_core = interval(core, make(whole, gone)) if kept else None
      helps = any(
          found is not None and found.low is not None and found.low > 0
          for found in (on_winner, on_core)
      )
      yield Effect(
          kind=whole.kind,
          name=part.name,
          words=part.words,
          status="supported" if helps else "unsupported",
          kept=kept,
          on_winner=on_winner,
          on_core=on_core,
          on_root=interval(alone, root),
      )


def sentences(found: Ablation, margin: float) -> Iterator[str]:
  """What was found, for people."""
  removed = [e for e in found.effects if not e.kept and e.status != "idle"]
  idle = [e for e in found.effects if e.status == "idle"]
  kept = [e for e in found.effects if e.kept]
  listed = lambda effects: "; ".join(e.words for e in effects) or "nothing"
  yield f"Idle, with every gradient the same without it: {listed(idle)}."
  yield f"Not needed, within {margin:.3g} of the winner: {listed(removed)}."
  yield f"Kept, for want of that: {listed(kept)}."
  for effect in itertools.chain(kept, removed):
    interval = effect.on_core if effect.kept else effect.on_winner
    if interval is not None:
      yield f"{effect.words}: {_text(interval)}, {effect.status}."
  if found.confirmed is not None:
    seen = found.confirmed
    yield (
        f"On {len(seen.differences)} fresh seeds the core against the winner:"
        f" {seen.verdict}."
    )
  if found.core != found.reduced:
    yield "The reduction did not hold there, so only idle parts were left out."
  if not found.complete:
    yield "Trainings ran out before the end."


def _text(interval: statistics.Interval) -> str:
  low, high = interval.low, interval.high
  if low is None or high is None:
    return f"{interval.mean:+.2f}, too few seeds for an interval"
  return f"{interval.mean:+.2f} [{low:+.2f}, {high:+.2f}]"
