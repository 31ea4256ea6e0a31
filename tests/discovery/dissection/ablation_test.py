"""Programs with planted parts: which are found, and how often that is wrong."""

import ast
import dataclasses
import math
import zlib

import jax
import numpy as np
import pytest

from poise_jax.candidates import known, verification
from poise_jax.discovery import admission
from poise_jax.discovery.dissection import ablation, bench, parts, source_parts
from poise_jax.evaluation import non_inferiority

SEEDS = tuple(range(40))
FRESH = tuple(range(100, 140))


def _plan(**changes):
  rule = non_inferiority.Rule(margin=1.0, max_pairs=24)
  values = dict(rule=rule, seeds=SEEDS, fresh_seeds=FRESH)
  return ablation.Plan(**(values | changes))


def _text(names):
  return f"def loss():\n  return {sorted(names)!r}\n"


def _names(source):
  return set(ast.literal_eval(source.removeprefix("def loss():\n  return ")))


class Made:
  """Programs that are sets of names, with a score for each set.

  What is in `inert` shows in the text and nowhere else.
  """

  def __init__(self, score, noise=0.0, inert=(), broken=lambda names: ""):
    self.score, self.noise = score, noise
    self.inert, self.broken = set(inert), broken
    self.trained = []

  def examine(self, source):
    names = _names(source) - self.inert
    return bench.Examined(self.broken(names), ",".join(sorted(names)), None, 9)

  def measure(self, source, seed):
    names = _names(source)
    self.trained.append((frozenset(names - self.inert), seed))
    key = sorted(zlib.crc32(n.encode()) for n in names - self.inert)
    rng = np.random.default_rng([seed, *key])
    common = np.random.default_rng(seed).normal(0, 5)
    found = self.score(names) + common + self.noise * rng.normal()
    if found == -math.inf:
      return bench.Outcome(0.0, "NaN")
    return bench.Outcome(float(found))

  def stage(self, names, kind="mechanism"):
    def without(removed):
      return _text(set(names) - set(removed))

    return lambda source: parts.Decomposition(
        kind, tuple(parts.Part(n, f"part {n}") for n in names), without
    )

  def run(self, names, plan=None, stages=None):
    return ablation.run(
        _text(names),
        stages or [self.stage(names)],
        plan or _plan(),
        self.examine,
        self.measure,
    )


def _effects(found):
  return {e.name: e for e in found.effects}


def test_an_inert_part_goes_without_training():
  made = Made(lambda names: 10.0 * ("good" in names), inert=["inert"])
  found = made.run(["good", "inert"])
  assert _names(found.core) == {"good"}
  effects = _effects(found)
  assert (effects["inert"].status, effects["inert"].kept) == ("idle", False)
  assert (effects["good"].status, effects["good"].kept) == ("supported", True)
  # Nothing of it was trained: the core does what the winner does.
  assert found.confirmed is None
  assert {names for names, _ in made.trained} == {
      frozenset(["good"]),
      frozenset(),
  }


def test_a_pair_that_only_works_jointly_is_kept():
  made = Made(
      lambda names: 8.0 * ({"left", "right"} <= names),
      noise=1.0,
  )
  found = made.run(["left", "useless", "right", "idle too"])
  assert _names(found.core) == {"left", "right"}
  effects = _effects(found)
  for name in ("left", "right"):
    assert effects[name].status == "supported"
    # Alone it does nothing: only together, as leaving one out shows.
    assert effects[name].on_root.low < 0 < effects[name].on_root.high
    assert effects[name].on_winner.low > 0
    assert effects[name].on_core.low > 0
  assert effects["useless"].status == "unsupported"
  assert not effects["useless"].kept
  assert found.confirmed.verdict == "not worse"
  assert found.complete


def test_of_two_that_do_the_same_one_stays():
  made = Made(lambda names: 8.0 * bool({"a", "b"} & names), noise=0.5)
  found = made.run(["a", "b"])
  (kept,) = _names(found.core)
  effect = _effects(found)[kept]
  # The winner has the other one; the core has not.
  assert effect.on_winner.low < 0 < effect.on_winner.high
  assert effect.on_core.low > 0
  assert effect.status == "supported"


def test_no_program_is_trained_twice():
  made = Made(lambda names: 3.0 * len(names), noise=1.0, inert=["x"])
  made.run(["a", "b", "c", "x"])
  assert len(made.trained) == len(set(made.trained))


def test_what_is_refused_stays_and_says_why():
  broken = lambda names: "" if "shape" in names else "shapes differ"
  made = Made(lambda names: 0.0, noise=0.3, broken=broken)
  found = made.run(["shape", "other"])
  assert _names(found.core) == {"shape"}
  assert {t.reason for t in found.trials if t.verdict == "refused"} == {
      "shapes differ"
  }
  assert _effects(found)["shape"].on_winner is None
  assert _effects(found)["shape"].status == "unsupported"
  with pytest.raises(ValueError, match="`winner` must pass .* shapes differ"):
    made.run(["other"])


def test_what_breaks_down_is_needed():
  made = Made(lambda names: 0.0 if "brake" in names else -math.inf)
  found = made.run(["brake", "other"])
  assert _names(found.core) == {"brake"}
  tried = {t.removed: t for t in found.trials}
  assert tried["brake", "other"].verdict == "worse"
  assert tried["brake", "other"].differences == ()


def test_stages_go_on_with_what_was_left():
  made = Made(lambda names: 6.0 * ("a" in names), noise=0.5)
  asked = []

  def second(source):
    asked.append(_names(source))
    return made.stage(sorted(_names(source)), "statement")(source)

  found = made.run(["a", "b"], stages=[made.stage(["a", "b"]), second])
  assert asked == [{"a"}]
  assert [(e.kind, e.name) for e in found.effects] == [
      ("mechanism", "a"), ("mechanism", "b"), ("statement", "a"),
  ]  # fmt: skip


def test_parts_of_another_program_are_left_alone():
  made = Made(lambda names: 0.0)
  found = made.run(["a", "b"], stages=[made.stage(["a", "c"])])
  assert _names(found.core) == {"a", "b"}
  (trial,) = found.trials
  assert trial.verdict == "refused"
  assert "another program" in trial.reason
  assert found.trainings == 0


def test_a_core_that_fails_on_fresh_seeds_is_not_believed():
  made = Made(lambda names: 0.0, inert=["inert"])
  lucky = made.measure

  def measure(source, seed):
    score = lucky(source, seed).score
    return bench.Outcome(score + 9.0 * (seed >= 100 and "a" in _names(source)))

  made.measure = measure
  found = made.run(["a", "b", "inert"])
  assert found.confirmed.verdict == "worse"
  assert _names(found.reduced) == set()
  assert _names(found.core) == {"a", "b"}
  told = list(ablation.sentences(found, 1.0))
  assert "fresh seeds the core against the winner: worse" in " ".join(told)
  assert any("did not hold" in sentence for sentence in told)


def test_spent_trainings_end_it_with_what_is_sure():
  made = Made(lambda names: 5.0 * len(names), noise=2.0, inert=["x"])
  plan = _plan(max_trainings=60)
  found = made.run([*"abcdef", "x"], plan)
  assert not found.complete
  assert found.trainings <= 60
  assert "x" not in _names(found.core)
  assert set("abcdef") <= _names(found.core)


def test_words():
  made = Made(lambda names: 8.0 * ("a" in names), noise=0.5, inert=["x"])
  found = made.run(["a", "b", "x"])
  told = list(ablation.sentences(found, 1.0))
  assert told[:3] == [
      "Idle, with every gradient the same without it: part x.",
      "Not needed, within 1 of the winner: part b.",
      "Kept, for want of that: part a.",
  ]
  assert told[3].startswith("part a: +") and told[3].endswith("supported.")
  assert told[4].startswith("part b: ") and told[4].endswith("unsupported.")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"fresh_seeds": (3, 400)}, r"`fresh_seeds` .* got \[3\] in both"),
        ({"effect_pairs": 41}, "`effect_pairs` must be from 0 to the 40"),
    ],
)
def test_bad_plans_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    _plan(**changes)


def _wrong_cores(count, seed, noise=2.0):
  """Shares of simulated ablations that lose a needed part, and keep a useless.

  Parts p and q are worth two margins each, by themselves; r and s nothing.
  """
  rng = np.random.default_rng(seed)
  lost = kept = 0
  rule = non_inferiority.Rule(margin=2.0, max_pairs=24)
  plan = _plan(rule=rule, effect_pairs=0)
  for _ in range(count):
    draws = {}

    def measure(source, seed, draws=draws):
      names = _names(source)
      key = (frozenset(names), seed)
      if key not in draws:
        draws[key] = rng.normal(0, noise / math.sqrt(2))
      return bench.Outcome(4.0 * len(names & {"p", "q"}) + draws[key])

    made = Made(None)
    made.measure = measure
    core = _names(made.run(["p", "r", "q", "s"], plan).core)
    lost += not {"p", "q"} <= core
    kept += bool({"r", "s"} & core)
  return lost / count, kept / count


def test_decisions_under_noise():
  lost, kept = _wrong_cores(40, 0)
  assert lost <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 40)
  assert kept <= 0.5


@pytest.mark.slow
def test_decisions_under_noise_at_length():
  count = 400
  lost, kept = _wrong_cores(count, 1)
  assert lost <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / count)
  assert kept <= 0.4


SOURCE = '''\
"""A loss with something planted that does nothing."""

HPARAMS = {"weight": 0.5, "unused": 3.0}


def init(hparams):
  return {}


def loss(hparams, state, batch):
  mask = batch.completion_mask
  advantage = batch.rewards - jnp.mean(batch.rewards, axis=1, keepdims=True)
  # Does nothing: all of a group get the same, and it is centred again.
  advantage = advantage + hparams["weight"] * jnp.sum(advantage)
  advantage = advantage - jnp.mean(advantage, axis=1, keepdims=True)
  ratio = ratios.token_ratio(batch.logprobs, batch.old_logprobs, mask)
  return aggregation.token_mean(-ratio * advantage[..., None], mask), state, {}
'''


def test_an_inert_statement_is_found_in_a_real_source(jail):
  def examine(source):
    draft = admission.Draft(
        name="part",
        role="variant",
        generation=1,
        parents=(),
        source=source,
        mechanisms={},
        rationale="r",
    )
    verdict = verification.verify(source, jail, known=known.catalogue())
    return bench.of_candidate(admission.judged(draft, verdict, "c0ffee", 0, []))

  # Whatever changes a gradient is worse.
  measure = lambda source, seed: bench.Outcome(-1.0 * (source != SOURCE))

  def stage(source):
    whole = source_parts.decompose(source)
    lines = ("14:", "15:")
    few = tuple(
        p
        for p in whole.parts
        if p.name.startswith(lines) and "without" in p.name
    )
    assert len(few) == 2
    return dataclasses.replace(whole, parts=few)

  rule = non_inferiority.Rule(margin=0.1, max_pairs=6)
  plan = _plan(rule=rule, effect_pairs=0)
  found = ablation.run(SOURCE, [stage], plan, examine, measure)
  assert 'hparams["weight"]' not in found.core
  assert "unused" not in found.core
  assert "Does nothing" not in found.core
  assert found.confirmed is None
  assert found.trainings == 0
  before, after = found.operations
  assert after < before
  assert jax.default_backend() == "cpu"
