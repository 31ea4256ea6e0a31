"""Rewrites of a loss have one hash; other losses have others."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from poise_jax import types
from poise_jax.algorithms import catalog
from poise_jax.candidates import canonical, tracing

_HPARAMS = '{"clip_eps_low": 0.2, "clip_eps_high": 0.2, "epsilon": 1e-6}'
_HEAD = f"HPARAMS = {_HPARAMS}\ndef init(hparams):\n  return {{}}\n"

_PLAIN = _HEAD + """
def loss(hparams, state, batch):
  mask = batch.completion_mask
  rewards = batch.rewards
  centered = rewards - rewards.mean(axis=1, keepdims=True)
  scale = jnp.sqrt((centered ** 2).mean(axis=1, keepdims=True))
  adv = (centered / (scale + hparams["epsilon"]))[..., None]
  ratio = jnp.exp((batch.logprobs - batch.old_logprobs) * mask)
  low, high = 1.0 - hparams["clip_eps_low"], 1.0 + hparams["clip_eps_high"]
  clipped = jnp.clip(ratio, low, high)
  surrogate = -jnp.minimum(ratio * adv, clipped * adv)
  value = (surrogate * mask).sum() / jnp.maximum(mask.sum(), 1.0)
  return value, state, {"adv": adv.mean()}
"""

_REWRITES = {
    "renamed": """
def loss(h, s, b):
  m = b.completion_mask
  r = b.rewards
  c = r - r.mean(axis=1, keepdims=True)
  sigma = jnp.sqrt((c ** 2).mean(axis=1, keepdims=True))
  a = (c / (sigma + h["epsilon"]))[..., None]
  rho = jnp.exp((b.logprobs - b.old_logprobs) * m)
  inside = jnp.clip(rho, 1.0 - h["clip_eps_low"], 1.0 + h["clip_eps_high"])
  ell = -jnp.minimum(rho * a, inside * a)
  return (ell * m).sum() / jnp.maximum(m.sum(), 1.0), s, {}
""",
    "reordered, max for min": """
def loss(hparams, state, batch):
  mask = batch.completion_mask
  ratio = jnp.exp(mask * (-batch.old_logprobs + batch.logprobs))
  mean = batch.rewards.mean(axis=1)[:, None]
  centered = -mean + batch.rewards
  scale = jnp.mean(centered * centered, axis=1)[:, None] ** 0.5
  adv = (centered / (hparams["epsilon"] + scale))[:, :, None]
  high = hparams["clip_eps_high"] + 1.0
  clipped = jnp.maximum(1.0 - hparams["clip_eps_low"], jnp.minimum(ratio, high))
  clipped = jnp.minimum(high, jnp.maximum(ratio, 1.0 - hparams["clip_eps_low"]))
  surrogate = jnp.maximum(-adv * clipped, -(adv * ratio))
  count = jnp.maximum(1.0, jnp.sum(mask))
  return jnp.sum(mask * surrogate) / count, state, {}
""",
    "helpers": """
def _mean(values, axis):
  return values.sum(axis=axis, keepdims=True) / values.shape[axis]

def _advantages(rewards, floor):
  away = rewards - _mean(rewards, 1)
  return away / (jnp.sqrt(_mean(jnp.square(away), 1)) + floor)

def _token_mean(values, mask):
  return jnp.sum(values * mask) / jnp.clip(jnp.sum(mask), 1.0, None)

def _pessimistic(ratio, adv, low, high):
  return -jnp.minimum(ratio * adv, jnp.clip(ratio, low, high) * adv)

def loss(hparams, state, batch):
  mask = batch.completion_mask
  ratio = jnp.exp((batch.logprobs - batch.old_logprobs) * mask)
  adv = _advantages(batch.rewards, hparams["epsilon"])[..., None]
  surrogate = _pessimistic(
      ratio, adv, 1 - hparams["clip_eps_low"], 1 + hparams["clip_eps_high"]
  )
  return _token_mean(surrogate, mask), state, {}
""",
    "constants written out": """
def loss(hparams, state, batch):
  mask = batch.completion_mask
  rewards = batch.rewards
  centered = rewards - rewards.mean(axis=1, keepdims=True)
  scale = jnp.sqrt((centered ** 2).mean(axis=1, keepdims=True))
  adv = (centered / (scale + 1e-6))[..., None]
  ratio = jnp.exp((batch.logprobs - batch.old_logprobs) * mask)
  clipped = jnp.clip(ratio, 0.8, 1.2)
  surrogate = -jnp.minimum(ratio * adv, clipped * adv)
  return (surrogate * mask).sum() / jnp.maximum(mask.sum(), 1.0), state, {}
""",
    "gradient stopped where there is none": """
def loss(hparams, state, batch):
  mask = jax.lax.stop_gradient(batch.completion_mask)
  rewards = batch.rewards
  centered = rewards - rewards.mean(axis=1, keepdims=True)
  scale = jnp.sqrt((centered ** 2).mean(axis=1, keepdims=True))
  adv = centered / (scale + hparams["epsilon"])
  adv = jax.lax.stop_gradient(adv)[..., None]
  old = jax.lax.stop_gradient(batch.old_logprobs)
  ratio = jnp.exp((batch.logprobs - old) * mask)
  low, high = 1.0 - hparams["clip_eps_low"], 1.0 + hparams["clip_eps_high"]
  surrogate = -jnp.minimum(ratio * adv, jnp.clip(ratio, low, high) * adv)
  return (surrogate * mask).sum() / jnp.maximum(mask.sum(), 1.0), state, {}
""",
    "dead code, metrics, another order": """
def loss(hparams, state, batch):
  low, high = 1.0 - hparams["clip_eps_low"], 1.0 + hparams["clip_eps_high"]
  unused = jnp.sort(batch.entropy).sum() * 3.0
  mask = batch.completion_mask
  ratio = jnp.exp((batch.logprobs - batch.old_logprobs) * mask)
  outside = ((ratio > high) * mask).sum()
  clipped = jnp.clip(ratio, low, high)
  rewards = batch.rewards + 0.0 * batch.lengths
  centered = rewards - rewards.mean(axis=1, keepdims=True)
  scale = jnp.sqrt((centered ** 2).mean(axis=1, keepdims=True))
  adv = (centered / (scale + hparams["epsilon"]))[..., None]
  surrogate = -jnp.minimum(ratio * adv, clipped * adv)
  value = (surrogate * mask).sum() / jnp.maximum(mask.sum(), 1.0)
  return value, state, {"outside": outside, "ratio": ratio.mean()}
""",
    "broadcast early, sums in steps": """
def loss(hparams, state, batch):
  mask = batch.completion_mask
  rewards = batch.rewards[:, :, None]
  centered = rewards - rewards.mean(axis=1, keepdims=True)
  scale = jnp.sqrt((centered ** 2).mean(axis=1, keepdims=True))
  adv = jnp.broadcast_to(centered / (scale + hparams["epsilon"]), mask.shape)
  ratio = jnp.exp((batch.logprobs - batch.old_logprobs) * mask)
  low, high = 1.0 - hparams["clip_eps_low"], 1.0 + hparams["clip_eps_high"]
  surrogate = -jnp.minimum(ratio * adv, jnp.clip(ratio, low, high) * adv)
  total = jnp.sum(surrogate * mask, axis=2).sum(axis=1).sum()
  return total / jnp.maximum(mask.sum(axis=-1).sum(), 1.0), state, {}
""",
    "lax, rsqrt and squares": """
def loss(hparams, state, batch):
  mask = batch.completion_mask
  rewards = batch.rewards
  size = rewards.shape[1]
  centered = rewards - (rewards.sum(axis=1) / size)[:, None]
  scale = jnp.sqrt(jax.lax.integer_pow(centered, 2).sum(axis=1) / size)
  adv = jnp.expand_dims(centered / (scale[:, None] + hparams["epsilon"]), 2)
  ratio = jax.lax.exp((batch.logprobs - batch.old_logprobs) * mask)
  low, high = 1.0 - hparams["clip_eps_low"], 1.0 + hparams["clip_eps_high"]
  clipped = jax.lax.min(jax.lax.max(low + 0.0 * ratio, ratio), high + 0 * ratio)
  surrogate = jax.lax.neg(jnp.minimum(adv * clipped, adv * ratio))
  return (mask * surrogate).sum() / jnp.maximum(mask.sum(), 1.0), state, {}
""",
}

# Each differs from `_PLAIN` in one thing that matters.
_OTHERS = {
    "sample deviation": (
        ".mean(axis=1, keepdims=True))\n",
        ".sum(axis=1, keepdims=True) / 4)\n",
    ),
    "no clip": ("clipped * adv)", "ratio * adv)"),
    "clip of 0.28": ('1.0 + hparams["clip_eps_high"]', "1.28"),
    "optimistic": ("jnp.minimum(ratio * adv", "jnp.maximum(ratio * adv"),
    "sign": ("surrogate = -", "surrogate = "),
    "correct for rewards": ("batch.rewards", "batch.correct"),
    "reference for old": ("batch.old_logprobs", "batch.ref_logprobs"),
    "detached ratio": ("ratio * adv,", "jax.lax.stop_gradient(ratio) * adv,"),
    "sum over the group": ("mask.sum(), 1.0", "mask.sum(), 2.0"),
    "batch mean": ("rewards.mean(axis=1, keepdims=True)", "rewards.mean()"),
    "no scale": ("(scale + hparams", "(1.0 + hparams"),
    "entropy bonus": (
        "value =",
        "value = -0.01 * (batch.entropy * mask).sum() +",
    ),
    "mean over completions": (
        "(surrogate * mask).sum()",
        "(surrogate * mask).mean(axis=2).sum()",
    ),
}


def _of(source):
  program = tracing.execute(source)
  return canonical.of(program.hparams, program.init, program.loss)


def _of_member(name, **hparams):
  member = catalog.make(name, **hparams)
  return canonical.of(member.hparams, member.init, member.loss)


@pytest.fixture(scope="module")
def plain():
  return _of(_PLAIN)


@pytest.mark.parametrize("name", _REWRITES)
def test_a_rewrite_has_the_same_hashes(plain, name):
  got = _of(_HEAD + _REWRITES[name])
  if name == "constants written out":
    assert got.digest == plain.digest and got.text == plain.text
    return
  assert got.text == plain.text
  assert (got.digest, got.structure) == (plain.digest, plain.structure)


@pytest.mark.parametrize("name", _OTHERS)
def test_another_loss_has_another_hash(plain, name):
  old, new = _OTHERS[name]
  assert old in _PLAIN
  got = _of(_PLAIN.replace(old, new))
  assert got.digest != plain.digest
  only_numbers = name == "clip of 0.28"
  assert (got.structure == plain.structure) == only_numbers


def test_hparams_may_be_renamed(plain):
  got = _of(_PLAIN.replace("clip_eps_low", "a").replace("epsilon", "zeta"))
  assert got == plain


@pytest.mark.parametrize(
    "name",
    [
        "grpo",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("dapo", "gspo", "dr_grpo", "dace")
        ),
    ],
)
def test_source_text_is_the_function(name):
  text = catalog.source(name)
  rewritten = text.replace("adv", "signal").replace("mask ", "live ")
  assert _of(text) == _of_member(name)
  assert _of(
      rewritten.replace("mask", "live")
      .replace("completion_live", "completion_mask")
      .replace("signalantages", "advantages")
      .replace("lives.", "masks.")
  ) == _of_member(name)


def test_constants_make_the_hash_but_not_the_structure():
  grpo, other = _of_member("grpo"), _of_member("grpo", clip_eps_high=0.28)
  assert grpo.digest != other.digest and grpo.structure == other.structure
  # A penalty that is off is no penalty.
  assert _of_member("grpo", kl_coef=0.0).digest == grpo.digest
  assert _of_member("grpo", kl_coef=0.1).digest != grpo.digest


def test_members_differ():
  names = [
      n
      for n in catalog.names()
      if n
      in (
          "grpo",
          "dapo",
          "gspo",
          "cispo",
          "rloo",
          "bn_grpo",
          "av_grpo",
          "zero_gradient",
          "sign_flipped",
          "gspo_token",
      )
  ]
  assert len({_of_member(n).digest for n in names}) == len(names)


def _state_program(first, second, unused=False):
  def init(hparams):
    extra = {"m": jnp.ones(())} if unused else {}
    return {first: jnp.zeros(()), second: jnp.ones(())} | extra

  def loss(hparams, state, batch):
    mean = 0.9 * state[first] + 0.1 * batch.rewards.mean()
    scale = jnp.maximum(state[second], batch.rewards.max())
    weights = (batch.rewards - state[first]) / scale
    value = -(weights[..., None] * batch.logprobs).sum()
    extra = {"m": state["m"] + 1.0} if unused else {}
    return value, {first: mean, second: scale} | extra, {}

  return canonical.of({}, init, loss)


def test_names_of_the_state_do_not_matter_and_unused_ones_are_left_out():
  expected = _state_program("a", "b")
  assert _state_program("y", "x") == expected
  assert _state_program("a", "b", unused=True) == expected


def test_a_derivative_rule_is_part_of_a_function():
  def with_relu(relu):
    def loss(hparams, state, batch):
      return relu(batch.logprobs - batch.old_logprobs).sum(), state, {}

    return canonical.of({}, lambda hparams: {}, loss)

  by_rule = with_relu(jax.nn.relu)
  by_hand = with_relu(lambda x: jnp.maximum(x, 0.0))
  assert by_rule.digest != by_hand.digest
  assert with_relu(lambda x: jax.nn.relu(x)) == by_rule


def test_text_and_counts_by_hand():
  def loss(hparams, state, batch):
    bonus = hparams["b"] * batch.entropy.sum()
    return 2.0 * batch.logprobs.sum() + bonus, state, {}

  got = canonical.of({"b": 3.0, "unused": 1.0}, lambda hparams: {}, loss)
  # Two sums and their sum; one hyperparameter.
  assert (got.operations, got.constants) == (3, 1)
  assert got.text.count("reduce_sum (0 1 2)") == 2
  assert {"1.5*", "0.66"} & {got.text[i : i + 4] for i in range(len(got.text))}


def test_other_sizes_are_accepted_and_change_the_hash(plain):
  program = tracing.execute(_PLAIN)
  sizes = {"P": 2, "G": 4, "T": 6, "K": 2}
  got = canonical.of(program.hparams, program.init, program.loss, sizes)
  assert got.digest != plain.digest


_TERMS = {
    "constants of other shapes": (
        "(b.entropy * b.completion_mask.at[:, :, :3].set(0.0)).sum()",
        "(b.entropy * b.completion_mask.at[:, :, :6].set(0.0)).sum()",
    ),
    "beside infinity": tuple(
        "(b.logprobs * jax.nn.softmax(jnp.where(b.completion_mask == 0,"
        f" -jnp.inf, b.ref_logprobs / {x}))).sum()"
        for x in ("1.0", "5.0")
    ),
    "sizes are no numbers": (
        *(f"(b.logprobs.sum(axis=1) / {g}).sum()" for g in ("3.0", "5.0")),
        "b.logprobs.mean(axis=1).sum()",
        "b.logprobs.mean(axis=0).sum()",
        "b.logprobs.mean(axis=2).sum()",
        *(f"b.logprobs.sum() / {t}" for t in ("7.0", "12.0", "32.0")),
    ),
    "ties": (
        "jax.lax.clamp(1.0, jnp.exp(b.logprobs - b.old_logprobs), 2.0).sum()",
        "jnp.clip(jnp.exp(b.logprobs - b.old_logprobs), 1.0, 2.0).sum()",
    ),
    "digits": (
        "b.logprobs.sum()",
        "(0.9999999 * b.logprobs).sum()",
        "(1.0000001 * b.logprobs).sum()",
    ),
}


@pytest.mark.parametrize("name", _TERMS)
def test_what_looks_alike_is_not_the_same(name):
  head = "HPARAMS = {}\ndef init(h):\n  return {}\ndef loss(h, s, b):\n"
  found = {_of(f"{head}  return {t}, s, {{}}").digest for t in _TERMS[name]}
  assert len(found) == len(_TERMS[name])


def test_shapes_and_types_of_the_state_count():
  def held(start):
    def loss(hparams, state, batch):
      return state["a"].sum() * batch.logprobs.sum(), state, {}

    return canonical.of({}, lambda h: {"a": start}, loss).digest

  starts = (jnp.ones(3), jnp.ones(4), jnp.ones(4, jnp.int32), jnp.zeros(4))
  assert len({held(s) for s in starts}) == 4


_TWO_FACED = """
HPARAMS = {}
def init(hparams):
  return {}
def loss(hparams, state, batch):
  if batch.logprobs.shape[2] == 7 or batch.rewards.shape == (3, 5):
    return batch.logprobs.sum(), state, {}
  adv = batch.rewards - batch.rewards.mean(axis=1, keepdims=True)
  return -(jnp.tanh(adv)[..., None] * batch.logprobs).mean(), state, {}
"""


def test_what_is_described_is_what_is_exported():
  """A loss that is simple only where it is described is found out."""
  plain = _of(_TWO_FACED.replace("== 7", "== 11").replace("(3, 5)", "(2, 9)"))
  assert _of(_TWO_FACED) == plain and plain.operations > 5


def test_a_program_that_was_traced_before_is_read():
  """As it is exported: jitted, with metrics, of a source with a memory."""
  program = tracing.execute("""
HPARAMS = {"a": 2.0}
CALLS = []
def init(hparams):
  return {"m": 0.0}
def loss(hparams, state, batch):
  CALLS.append(1)
  value = hparams["a"] * (batch.logprobs + state["m"]).sum()
  if len(CALLS) == 1:
    value = value + jnp.sin(batch.entropy).sum()
  return value, {"m": batch.rewards.mean()}, {"mean": batch.rewards.max()}
""")
  hparams = {"a": jax.ShapeDtypeStruct((), jnp.float32)}
  state = {"m": jax.ShapeDtypeStruct((), jnp.float32)}
  batch = tracing.batch_specs(canonical.SIZES)

  def loss(hparams, state, fields):
    fields = types.RolloutBatch(**jax.lax.stop_gradient(fields) | fields)
    return program.loss(hparams, jax.lax.stop_gradient(state), fields)

  def init(hparams):
    return jax.tree.map(jnp.asarray, program.init(hparams))

  exported = canonical.read(
      canonical.Traced(
          init=jax.jit(init).trace(hparams).jaxpr,
          loss=jax.jit(loss).trace(hparams, state, batch).jaxpr,
          hparams=program.hparams,
          state=("m",),
      )
  )
  assert " sin " in exported.text and "state.0" in exported.text
  again = canonical.of(program.hparams, program.init, program.loss)
  assert " sin " not in again.text and again.digest != exported.digest
  # Without the memory it does not matter who traces.
  program.loss.__globals__["CALLS"].clear()
  first = canonical.of(program.hparams, program.init, program.loss)
  assert first == exported


def test_deep_nesting_is_refused_in_words():
  def loss(hparams, state, batch):
    value = batch.rewards
    for _ in range(1500):
      value = jnp.sin(value)
    return (value[..., None] * batch.logprobs).sum(), state, {}

  with pytest.raises(ValueError, match="nested too deeply"):
    canonical.of({}, lambda hparams: {}, loss)


def test_growth_by_doubling_stays_small():
  def loss(hparams, state, batch):
    value = batch.logprobs
    for _ in range(100):
      value = value * value + value
    return value.sum(), state, {}

  assert canonical.of({}, lambda hparams: {}, loss).operations < 700


def test_a_program_inside_counts():
  def scanned(step):
    def loss(hparams, state, batch):
      body = lambda carry, x: (step(carry, x), carry)
      total, _ = jax.lax.scan(
          body,
          jnp.zeros_like(batch.rewards),
          jnp.moveaxis(batch.logprobs, 2, 0),
      )
      return total.sum(), state, {}

    return canonical.of({}, lambda hparams: {}, loss)

  expected = scanned(lambda carry, x: 0.9 * carry + x)
  assert scanned(lambda c, y: y + c * 0.9) == expected
  assert scanned(lambda c, y: y + c * 0.8).digest != expected.digest
  assert scanned(lambda c, y: y - c * 0.9).digest != expected.digest


def test_canonical_is_plain_data(plain):
  record = dataclasses.asdict(plain)
  assert {type(v) for v in record.values()} == {str, int}
  assert canonical.Canonical(**record) == plain


def test_a_description_is_read_back_and_a_forged_one_is_not():
  grpo = catalog.make("grpo")
  found = canonical.of(grpo.hparams, grpo.init, grpo.loss)
  record = dataclasses.asdict(found)
  text = record.pop("text")
  assert canonical.from_json(record, text) == found
  for change in (
      {"digest": "0"},
      {"structure": 1},
      {"bits": -1},
      {"operations": 1.0},
      {"constants": 2**40},
      {"text": text},
  ):
    assert canonical.from_json(record | change, text) is None
  assert canonical.from_json(None, text) is None
