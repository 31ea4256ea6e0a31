"""From a genome to the source text of a candidate, for people to read.

Every mechanism is a few lines with a comment; atoms are used where they
exist, plain `jnp` elsewhere. The text follows the contract of a candidate:
HPARAMS, optional NEUTRAL, `init` and `loss`, no imports.
"""

from collections.abc import Mapping, Sequence
import textwrap

from poise_jax.discovery.proposer import genome as genomes
from poise_jax.discovery.proposer import mechanisms, statistics_code

_WIDTH = 80
_NO_NEUTRAL: Mapping[str, float] = {}

# The policies that the ratio may be taken to.
_BEHAVIOUR = {"old": "batch.old_logprobs", "sampler": "batch.sampler_logprobs"}
_OUTCOME = {"correctness": "batch.correct"}
# Baselines that a constant added to all rewards of a group leaves alone.
_CENTRING = ("group_mean", "leave_one_out", "length_weighted")

_BOUNDED = """\
limit = hparams["advantage_limit"]
advantage = jnp.clip(advantage, -limit, limit)"""
_BOUNDED_SUBSET = """\
limit = hparams["advantage_limit"]
bounded = jnp.clip(advantage, -limit, limit)
advantage = jnp.where(valid > 0, bounded, advantage)"""
_EFFICIENCY = """\
gate = advantages.group_pass_rate(batch.correct)
gate = gate ** hparams["efficiency_power"]
advantage = advantage + hparams["efficiency_coef"] * gate * brevity"""
_WHITENED = """\
advantage = advantages.token_whitened(
    surrogates.per_token(advantage) * jnp.ones_like(mask),
    mask,
    epsilon=hparams["whiten_epsilon"],
)"""

_RATIO = """\
ratio = ratios.{level}_ratio(
    batch.logprobs, {behaviour}, mask
)"""
_RATIO_ATOMS = {"sequence_token": "gspo_token", "product": "sequence_product"}
_WITHOUT_RATIO = (
    "policy_gradient",
    "geometric",
    "smooth_weight",
    "regression",
    "target",
)
_IN_REWARD = ("in_reward", "in_reward_now")
_CONTROLLED = ("proportional", "annealed", "stepped")

_MEAN_ENTROPY = """\
entropy = aggregation.token_mean(batch.entropy, batch.completion_mask)"""
_STEPPED = """\
coefficient = state["entropy_coef"]
weight = coefficient * controllers.entropy_gate(entropy, target=target)
stepped = controllers.stepped_entropy(
    coefficient,
    entropy,
    target=target,
    step=hparams["entropy_step"],
    maximum=hparams["entropy_coef_max"],
)
next_entropy = controllers.kept_if_empty(
    stepped, coefficient, batch.completion_mask
)"""
_PROPORTIONAL = """\
weight = state["entropy_coef"]
steered = controllers.proportional_entropy(
    weight,
    entropy,
    target=target,
    rate=hparams["entropy_rate"],
    maximum=hparams["entropy_coef_max"],
)
next_entropy = controllers.kept_if_empty(
    steered, weight, batch.completion_mask
)"""
_ADAPTIVE_KL = """\
pull = state["kl_coef"]
steered = controllers.proportional_kl(
    pull,
    aggregation.token_mean(divergence, mask),
    target=hparams["kl_target"],
    horizon=hparams["kl_horizon"],
    count=jnp.sum(jnp.ones_like(batch.rewards)),
)
next_pull = controllers.kept_if_empty(steered, pull, mask)
token_loss = token_loss + pull * divergence"""
_FIXED_KL = 'token_loss = token_loss + hparams["kl_coef"] * divergence'

_MEAN_ABS = 'metrics = {"advantages/mean_abs": jnp.mean(jnp.abs(advantage))}'
_CLIP_METRICS = """\
metrics = surrogates.clip_metrics(
    ratio,
    advantage,
    mask,
    clip_eps_low=hparams["clip_eps"],
    clip_eps_high=hparams["%s"],
)"""
_CLIPPED = {
    "symmetric": "clip_eps",
    "dual": "clip_eps",
    "clip_higher": "clip_eps_high",
    "aspo": "clip_eps_high",
}


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
  loss = "def loss(hparams, state, batch):\n" + _body(genome)
  return f"{head}\n\n\n{_init(genome)}\n\n\n{loss}\n"


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
      if choice not in ("none", "all", "fixed") or slot == "scale"
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
      bullet + text,
      _WIDTH - 3,
      subsequent_indent=" " * len(bullet),
      break_on_hyphens=False,
  )


def _constants(name: str, values: Mapping[str, float]) -> str:
  """A dict of floats, one a line."""
  lines = [f'    "{key}": {float(value)!r},' for key, value in values.items()]
  return "\n".join([f"{name} = {{", *lines, "}"])


def _init(genome: genomes.Genome) -> str:
  """The first state: the weights that steer themselves, if there are any."""
  start = "entropy_start" if genome.entropy == "stepped" else "entropy_coef"
  weights = {}
  if genome.entropy in _CONTROLLED:
    weights["entropy_coef"] = start
  if genome.kl_control == "adaptive":
    weights["kl_coef"] = "kl_coef"
  if not weights:
    return "def init(hparams):\n  return {}"
  lines = [
      f'      "{name}": jnp.asarray(hparams["{source}"], jnp.float32),'
      for name, source in weights.items()
  ]
  return "\n".join(["def init(hparams):", "  return {", *lines, "  }"])


def _body(genome: genomes.Genome) -> str:
  """The statements of `loss`, in the order in which the slots act."""
  parts = [
      "mask = batch.completion_mask",
      *_rewards(genome),
      *statistics_code.statistics(genome, _comment),
      *_shaping(genome),
      *_policy(genome),
      *_regularisers(genome),
      *_metrics(genome),
      "return loss, state, metrics",
  ]
  return textwrap.indent("\n".join(parts), "  ")


def _rewards(genome: genomes.Genome) -> list[str]:
  """The reward, and what is taken from it."""
  parts = [_step(genome, "signal")]
  if genome.format == "penalty":
    parts.append(_step(genome, "format"))
  if genome.length == "overlong_penalty":
    parts.append(_step(genome, "length"))
  if genome.kl in _IN_REWARD:
    parts.append(_step(genome, "kl"))
  return parts


def _shaping(genome: genomes.Genome) -> list[str]:
  """What changes the advantages of completions, then those of tokens."""
  parts = []
  if genome.length in ("temper_negatives", "length_power"):
    parts.append(_step(genome, "length"))
  if genome.advantage_clip == "bounded":
    bound = _BOUNDED if genome.subset == "all" else _BOUNDED_SUBSET
    parts.append(_comment("advantage_clip", "bounded") + bound)
  for slot in ("failures", "gating"):
    if getattr(genome, slot) != "none":
      parts.append(_step(genome, slot))
  if genome.format.endswith("_stream"):
    parts.append(_step(genome, "format"))
  if genome.efficiency != "none":
    parts += [_step(genome, "efficiency"), _EFFICIENCY]
  if genome.kl == "returns":
    parts.append(_step(genome, "kl"))
  if genome.scale == "token_whitened":
    parts.append(_comment("scale", "token_whitened") + _WHITENED)
  return parts


def _policy(genome: genomes.Genome) -> list[str]:
  """Advantages to the loss of each token."""
  parts = []
  if genome.filter != "all":
    parts.append(_step(genome, "filter"))
  if genome.clip not in _WITHOUT_RATIO:
    level = _RATIO_ATOMS.get(genome.ratio, genome.ratio)
    code = _RATIO.replace("{level}", level)
    parts.append(_comment("ratio", genome.ratio) + _filled(code, genome))
  parts.append(_step(genome, "clip"))
  for slot in ("trust_region", "correction"):
    if getattr(genome, slot) != "none":
      parts.append(_step(genome, slot))
  return parts


def _regularisers(genome: genomes.Genome) -> list[str]:
  """The loss of each token to one number, and the next state."""
  parts, state = [], {}
  if genome.kl not in ("none", "returns", *_IN_REWARD):
    parts.append(_step(genome, "kl"))
    if genome.kl_control != "fixed":
      parts.append(_step(genome, "kl_control"))
    adaptive = genome.kl_control == "adaptive"
    parts.append(_ADAPTIVE_KL if adaptive else _FIXED_KL)
    if adaptive:
      state["kl_coef"] = "next_pull"
  parts.append(_step(genome, "aggregation"))
  if genome.entropy != "none":
    parts += [_comment("entropy", genome.entropy) + _MEAN_ENTROPY]
    parts.append(_code("entropy", genome.entropy))
    if genome.entropy in _CONTROLLED:
      stepped = genome.entropy == "stepped"
      parts.append(_STEPPED if stepped else _PROPORTIONAL)
      state["entropy_coef"] = "next_entropy"
    parts.append("loss = loss - weight * entropy")
  if state:
    pairs = ", ".join(f'"{name}": {value}' for name, value in state.items())
    parts.append(f"state = {{{pairs}}}")
  return parts


def _metrics(genome: genomes.Genome) -> list[str]:
  """Numbers to log."""
  if genome.clip in _CLIPPED:
    parts = [_CLIP_METRICS % _CLIPPED[genome.clip]]
  else:
    parts = [_MEAN_ABS]
  if genome.kl != "none":
    parts.append('metrics["kl"] = aggregation.token_mean(divergence, mask)')
  if genome.kl_control == "adaptive":
    parts.append('metrics["kl_coef"] = pull')
  if genome.entropy in _CONTROLLED:
    parts.append('metrics["entropy_coef"] = weight')
  return parts


def _step(genome: genomes.Genome, slot: str) -> str:
  """Comment and code of the choice in a slot."""
  choice = getattr(genome, slot)
  code = _filled(_code(slot, choice), genome)
  return (_comment(slot, choice) + code).rstrip("\n")


def _code(slot: str, choice: str) -> str:
  return mechanisms.MECHANISMS[slot, choice].code


def _filled(code: str, genome: genomes.Genome) -> str:
  """Code with the names of the variables that depend on other slots."""
  centred = genome.baseline in _CENTRING and genome.scale != "batch_spread"
  names = {
      "behaviour": _BEHAVIOUR[genome.anchor],
      "outcome": _OUTCOME.get(genome.signal, "batch.rewards"),
      # Beside a large reward a small penalty is lost in f32.
      "penalised": (
          "advantages.penalized(rewards, penalty)"
          if centred and genome.subset == "all"
          else "rewards - penalty"
      ),
  }
  for name, value in names.items():
    code = code.replace(f"{{{name}}}", value)
  return code


def _comment(slot: str, choice: str) -> str:
  """A comment that says what the next lines do, ending in a line break."""
  words = mechanisms.MECHANISMS[slot, choice].words
  text = f"{words[0].upper()}{words[1:]}."
  return textwrap.indent(textwrap.fill(text, _WIDTH - 4), "# ") + "\n"
