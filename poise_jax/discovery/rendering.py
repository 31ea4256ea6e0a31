"""From a genome to the source text of a candidate, for people to read.

Every mechanism is a few lines with a comment; atoms are used where they
exist, plain `jnp` elsewhere. The text follows the contract of a candidate:
HPARAMS, optional NEUTRAL, `init` and `loss`, no imports.
"""

from collections.abc import Mapping, Sequence
import textwrap

from poise_jax.discovery import genome as genomes
from poise_jax.discovery import mechanisms

_WIDTH = 80
_NO_NEUTRAL: Mapping[str, float] = {}

# Against what a reward is compared: over the whole group, and over its
# parsable answers alone (`valid`, of which there are `count`).
_CENTRED = {
    "group_mean": "advantage = advantages.group_centered(rewards)",
    "leave_one_out": "advantage = advantages.leave_one_out(rewards)",
    "batch_mean": "advantage = advantages.batch_centered(rewards)",
    "beta_prior": """\
baseline = regimes.beta_mean(
    rewards,
    jnp.ones_like(rewards),
    alpha=hparams["prior_successes"],
    beta=hparams["prior_failures"],
)
advantage = rewards - baseline""",
}
_CENTRED_VALID = {
    "group_mean": """\
baseline = jnp.sum(valid * rewards, axis=1, keepdims=True) / count
advantage = valid * (rewards - baseline)""",
    "leave_one_out": """\
baseline = jnp.sum(valid * rewards, axis=1, keepdims=True) / count
correction = count / jnp.maximum(count - 1.0, 1.0)
advantage = valid * (rewards - baseline) * correction""",
    "batch_mean": """\
baseline = jnp.sum(valid * rewards) / jnp.maximum(jnp.sum(valid), 1.0)
advantage = valid * (rewards - baseline)""",
    "beta_prior": """\
baseline = regimes.beta_mean(
    rewards,
    valid,
    alpha=hparams["prior_successes"],
    beta=hparams["prior_failures"],
)
advantage = valid * (rewards - baseline)""",
}
_SCALED = {
    "none": "",
    "group_std": """\
spread = jnp.sqrt(jnp.mean(advantage**2, axis=1, keepdims=True))
advantage = advantage / (spread + 1e-6)""",
    "batch_rms": """\
spread = jnp.sqrt(jnp.mean(advantage**2))
advantage = advantage / (spread + 1e-6)""",
    "analytic": """\
sigma = advantages.group_std(rewards)
advantage = advantage / jnp.maximum(sigma, hparams["sigma_floor"])""",
    "fixed": 'advantage = advantage / hparams["sigma_fixed"]',
}
_SCALED_VALID = {
    "none": "",
    "group_std": """\
total = jnp.sum(advantage**2, axis=1, keepdims=True)
advantage = advantage / (jnp.sqrt(total / count) + 1e-6)""",
    "batch_rms": """\
spread = jnp.sqrt(jnp.sum(advantage**2) / jnp.maximum(jnp.sum(valid), 1.0))
advantage = advantage / (spread + 1e-6)""",
    "analytic": """\
total = jnp.sum(advantage**2, axis=1, keepdims=True)
sigma = jnp.sqrt(total / count)
advantage = advantage / jnp.maximum(sigma, hparams["sigma_floor"])""",
    "fixed": 'advantage = advantage / hparams["sigma_fixed"]',
}
_BERNOULLI = """\
sigma = jnp.sqrt(jnp.maximum(baseline * (1.0 - baseline), 0.0))
advantage = advantage / jnp.maximum(sigma, hparams["sigma_floor"])"""
_COUNT_VALID = """\
count = jnp.maximum(jnp.sum(valid, axis=1, keepdims=True), 1.0)"""
_FILL_INVALID = """\
any_valid = jnp.max(valid, axis=1, keepdims=True) > 0
fill = jnp.where(any_valid, hparams["invalid_advantage"], 0.0)
advantage = jnp.where(valid > 0, advantage, fill)"""

# Pairs of baseline and scale for which one atom says it all.
_WHOLE = {
    ("group_mean", "group_std"): """\
advantage = advantages.group_normalized(rewards, epsilon=1e-6)""",
    ("group_mean", "analytic"): """\
advantage = advantages.analytic_variance(
    rewards, sigma_min=hparams["sigma_floor"]
)""",
}
_WHOLE_VALID = {
    ("beta_prior", "analytic"): """\
advantage = regimes.beta_smoothed_valid(
    rewards,
    valid,
    alpha=hparams["prior_successes"],
    beta=hparams["prior_failures"],
    sigma_floor=hparams["sigma_floor"],
    invalid_advantage=hparams["invalid_advantage"],
)""",
}

# Mechanisms that change the advantage, in the order in which they act.
_SHAPING = {
    ("validity", "format_stream"): """\
form = advantages.group_centered(batch.format_valid)
advantage = advantage + hparams["format_weight"] * form""",
    ("failures", "fixed_negatives"): """\
failed = masks.failed_groups(batch.correct) > 0
constant = regimes.fixed_failure(
    batch.correct,
    batch.format_valid,
    invalid=hparams["failure_invalid"],
    wrong=hparams["failure_valid"],
)
advantage = jnp.where(failed, constant, advantage)""",
    ("failures", "damped"): """\
failed = masks.failed_groups(batch.correct) > 0
advantage = advantage * jnp.where(failed, hparams["failure_damping"], 1.0)""",
    ("gating", "silence_solved"): """\
advantage = advantage * (1.0 - masks.solved_groups(batch.correct))""",
    ("gating", "downweight_uniform"): """\
mixed = masks.mixed_groups(batch.correct) > 0
advantage = advantage * jnp.where(mixed, 1.0, hparams["uniform_weight"])""",
    ("gating", "difficulty_weight"): """\
advantage = advantage * regimes.difficulty_weight(
    batch.correct, strength=hparams["difficulty_gain"]
)""",
    ("length", "correct_efficiency"): """\
brevity = length_shaping.efficiency(batch.lengths, batch.correct)
gate = advantages.group_pass_rate(batch.correct)
advantage = advantage + hparams["efficiency_coef"] * gate * brevity""",
    ("length", "overlength_penalty"): """\
successes = jnp.sum(batch.correct, axis=1, keepdims=True)
total = jnp.sum(batch.correct * batch.lengths, axis=1, keepdims=True)
usual = jnp.maximum(total / jnp.maximum(successes, 1.0), 1.0)
excess = batch.correct * jnp.minimum((usual - batch.lengths) / usual, 0.0)
gate = advantages.group_pass_rate(batch.correct) ** 2
advantage = advantage + hparams["overlength_coef"] * gate * excess""",
    ("length", "temper_negatives"): """\
advantage = length_shaping.tempered_failures(
    advantage,
    batch.lengths,
    batch.format_valid,
    low=1.0 / hparams["temper_span"],
    high=hparams["temper_span"],
)""",
}
_BOUNDED = """\
limit = hparams["advantage_limit"]
advantage = jnp.clip(advantage, -limit, limit)"""
_BOUNDED_VALID = """\
limit = hparams["advantage_limit"]
bounded = jnp.clip(advantage, -limit, limit)
advantage = jnp.where(valid > 0, bounded, advantage)"""

_RATIO = """\
ratio = ratios.{level}_ratio(batch.logprobs, batch.old_logprobs, mask)"""
_CLIP = {
    "none": "token_loss = -ratio * advantage[..., None]",
    "symmetric": """\
token_loss = surrogates.clipped(
    ratio,
    advantage,
    clip_eps_low=hparams["clip_eps"],
    clip_eps_high=hparams["clip_eps"],
)""",
    "clip_higher": """\
token_loss = surrogates.clipped(
    ratio,
    advantage,
    clip_eps_low=hparams["clip_eps"],
    clip_eps_high=hparams["clip_eps_high"],
)""",
    "dual": """\
token_loss = surrogates.dual_clipped(
    ratio,
    advantage,
    clip_eps_low=hparams["clip_eps"],
    clip_eps_high=hparams["clip_eps"],
    dual_clip=hparams["dual_clip"],
)""",
}
_REGULARISERS = {
    ("kl", "k3"): """\
divergence = kl.k3(batch.logprobs, batch.ref_logprobs, mask)
token_loss = token_loss + hparams["kl_coef"] * divergence""",
    ("entropy", "bonus"): """\
token_loss = token_loss - hparams["entropy_coef"] * batch.entropy""",
}
_METRICS = """\
metrics = {
    "advantages/mean_abs": jnp.mean(jnp.abs(advantage)),"""
_CLIP_METRICS = """\
    "clip_ratio/low_mean": surrogates.clip_fraction_low(
        ratio, advantage, mask, clip_eps_low=hparams["clip_eps"]
    ),
    "clip_ratio/high_mean": surrogates.clip_fraction_high(
        ratio, advantage, mask, clip_eps_high=hparams["%s"]
    ),"""


def render(
    genome: genomes.Genome,
    *,
    name: str,
    parents: Sequence[str],
    rationale: str,
    prediction: str,
    falsifier: str,
    neutral: Mapping[str, float] = _NO_NEUTRAL,
) -> str:
  """Writes the source of a candidate.

  Args:
    genome: what the loss does.
    name: of the candidate.
    parents: names of its parents.
    rationale: why it might help.
    prediction: what should be seen if it does.
    falsifier: what would refute it.
    neutral: values at which its new mechanisms vanish; NEUTRAL is left out if
      there are none.

  Returns:
    The text of a module that defines HPARAMS, `init` and `loss`.
  """
  blocks = [
      _docstring(genome, name, parents, rationale, prediction, falsifier),
      _constants("HPARAMS", genome.constants),
  ]
  if neutral:
    blocks.append(
        "# Values at which what is new here vanishes.\n"
        + _constants("NEUTRAL", neutral)
    )
  head = "\n\n".join(blocks)
  init = "def init(hparams):\n  return {}"
  loss = "def loss(hparams, state, batch):\n" + _body(genome)
  return f"{head}\n\n\n{init}\n\n\n{loss}\n"


def _docstring(
    genome: genomes.Genome,
    name: str,
    parents: Sequence[str],
    rationale: str,
    prediction: str,
    falsifier: str,
) -> str:
  """The idea in words, wrapped; safe inside triple quotes."""
  origin = " and ".join(parents) if parents else "nothing"
  items = [
      f"{slot}: {mechanisms.MECHANISMS[slot, choice].words}"
      for slot, choice in genome.choices.items()
      if choice != "none"
  ]
  parts = [
      _wrapped(f"{name}: a variant of {origin}."),
      "The loss, by slot:\n" + "\n".join(_wrapped(i, "- ") for i in items),
      _wrapped(f"Why: {rationale}"),
      _wrapped(f"Predicts: {prediction}"),
      _wrapped(f"Refuted if: {falsifier}"),
  ]
  text = "\n\n".join(parts).replace("\\", "\\\\").replace('"""', "'''")
  return f'"""{text}\n"""'


def _wrapped(text: str, bullet: str = "") -> str:
  """One paragraph within the width; first line leaves room for quotes."""
  return textwrap.fill(
      bullet + text, _WIDTH - 3, subsequent_indent=" " * len(bullet)
  )


def _constants(name: str, values: Mapping[str, float]) -> str:
  """A dict of floats, one a line."""
  lines = [f'    "{key}": {float(value)!r},' for key, value in values.items()]
  return "\n".join([f"{name} = {{", *lines, "}"])


def _body(genome: genomes.Genome) -> str:
  """The statements of `loss`."""
  parts = ["mask = batch.completion_mask", _statistics(genome)]
  for slot in ("validity", "failures", "gating", "length"):
    choice = getattr(genome, slot)
    if (slot, choice) in _SHAPING:
      parts.append(_comment(slot, choice) + _SHAPING[slot, choice])
  if genome.advantage_clip == "bounded":
    only_valid = genome.validity == "valid_only"
    bound = _BOUNDED_VALID if only_valid else _BOUNDED
    parts.append(_comment("advantage_clip", "bounded") + bound)
  parts.append(_policy_loss(genome))
  parts.append(_metrics(genome))
  parts.append("return loss, state, metrics")
  return textwrap.indent("\n".join(parts), "  ")


def _statistics(genome: genomes.Genome) -> str:
  """Rewards to advantages: subset, baseline and scale."""
  pair = (genome.baseline, genome.scale)
  comments = _comment("baseline", genome.baseline)
  if genome.scale != "none":
    comments += _comment("scale", genome.scale)
  if genome.validity == "valid_only":
    start = "rewards = batch.rewards\nvalid = batch.format_valid"
    comments = _comment("validity", "valid_only") + comments
    if pair in _WHOLE_VALID:
      return "\n".join([start, comments + _WHOLE_VALID[pair]])
    centred, scaled = _CENTRED_VALID[genome.baseline], _SCALED_VALID
    parts = [start, _COUNT_VALID, comments + centred]
  else:
    parts = [_rewards(genome)]
    if pair in _WHOLE:
      return "\n".join([*parts, comments + _WHOLE[pair]])
    parts.append(comments + _CENTRED[genome.baseline])
    scaled = _SCALED
  bernoulli = pair == ("beta_prior", "analytic")
  parts.append(_BERNOULLI if bernoulli else scaled[genome.scale])
  if genome.validity == "valid_only":
    parts.append(_FILL_INVALID)
  return "\n".join(part for part in parts if part)


def _rewards(genome: genomes.Genome) -> str:
  """The reward, with the format penalty if there is one."""
  if genome.validity != "format_penalty":
    return "rewards = batch.rewards"
  penalty = 'penalty = hparams["format_penalty"] * (1.0 - batch.format_valid)'
  comment = _comment("validity", "format_penalty")
  return f"{comment}{penalty}\nrewards = batch.rewards - penalty"


def _policy_loss(genome: genomes.Genome) -> str:
  """Advantages to the loss: ratio, clip, regularisers, aggregation."""
  comments = _comment("ratio", genome.ratio) + _comment("clip", genome.clip)
  parts = [
      comments + _RATIO.format(level=genome.ratio),
      _CLIP[genome.clip],
  ]
  for slot in ("kl", "entropy"):
    choice = getattr(genome, slot)
    if choice != "none":
      parts.append(_comment(slot, choice) + _REGULARISERS[slot, choice])
  parts.append(_comment("aggregation", genome.aggregation).rstrip())
  if genome.aggregation == "constant_norm":
    parts.append("""\
loss = aggregation.constant_norm(
    token_loss, mask, length_constant=hparams["length_constant"]
)""")
  else:
    parts.append(f"loss = aggregation.{genome.aggregation}(token_loss, mask)")
  return "\n".join(parts)


def _metrics(genome: genomes.Genome) -> str:
  """Numbers to log."""
  parts = [_METRICS]
  if genome.clip != "none":
    higher = genome.clip == "clip_higher"
    parts.append(_CLIP_METRICS % ("clip_eps_high" if higher else "clip_eps"))
  if genome.kl != "none":
    parts.append('    "kl": aggregation.token_mean(divergence, mask),')
  return "\n".join([*parts, "}"])


def _comment(slot: str, choice: str) -> str:
  """A comment that says what the next lines do, ending in a line break."""
  words = mechanisms.MECHANISMS[slot, choice].words
  text = f"{words[0].upper()}{words[1:]}."
  return textwrap.indent(textwrap.fill(text, _WIDTH - 4), "# ") + "\n"
