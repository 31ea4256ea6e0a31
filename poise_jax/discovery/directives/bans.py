"""The mechanisms that a directive can ban, and what they are called.

Names of slots and choices come from the tables of `mechanisms`, so that a new
choice can be banned as soon as it exists; common names are added here.
"""

from collections.abc import Mapping

from poise_jax.discovery.proposer import mechanisms

# Choices that do the same to several things have no name of their own.
_GENERIC = frozenset(
    "none all reward components correctness penalty valid untruncated history"
    " anchor group_mean analytic anchored active mean fixed bounded damped old"
    " token sequence product symmetric target adaptive returns absolute bonus"
    " proportional annealed stepped relative sampler staleness regression"
    " pass_at_k entropy_signal over_length z_score length_power bernoulli".split()
)

_COMMON = {
    "length penalty|length penalties|length penalisation|length shaping"
    "|length penalization|length terms|length term|length based penalties"
    "|length based penalty|length dependent terms|penalties on length"
    "|penalty on length|length bonus|length bonuses|length rewards"
    "|length reward|penalties for length|penalty for length"
    "|length based rewards|length regularisation|length regularization"
    "|penalise length|penalize length|penalise long answers"
    "|penalize long answers|penalising length|penalizing length"
    "|penalties on long answers|penalties for long answers": ("length",),
    "overlong penalty|overlong penalties|overlong punishment|soft overlong"
    " punishment": ("length=overlong_penalty",),
    "overlong filtering|overlong filter": (
        "subset=untruncated",
        "filter=untruncated",
    ),
    "brevity bonus|brevity bonuses|brevity reward|brevity rewards|brevity"
    " stream|brevity streams|efficiency stream|efficiency streams": (
        "efficiency",
    ),
    "dual clip|dual clips|dual clipping|dual clipped loss": ("clip=dual",),
    "clip higher|clip high|asymmetric clip|asymmetric clipping|decoupled clip"
    "|decoupled clipping": ("clip=clip_higher",),
    "symmetric clipping|symmetric clip": ("clip=symmetric",),
    "clipping|ratio clipping|clip|clips|clipped ratios": (
        "clip=symmetric",
        "clip=clip_higher",
        "clip=dual",
        "clip=geometric",
    ),
    "kl penalty|kl penalties|kl term|kl terms|kl regularisation|kl loss"
    "|kl regularization|kl regulariser|kl regularizer|kl in the loss"
    "|kl constraint|reference model|reference policy penalty|kl control"
    "|kl divergence penalty|kl divergence term": ("kl",),
    "adaptive kl|adaptive kl control|adaptive kl penalty|adaptive kl"
    " penalties|kl controller|kl controllers": ("kl_control=adaptive",),
    "kl in the reward|kl in reward": ("kl=in_reward", "kl=in_reward_now"),
    "entropy bonus|entropy bonuses|entropy term|entropy terms|entropy reward"
    "|entropy rewards|entropy regularisation|entropy regularization|entropy"
    " regulariser|entropy regularizer|entropy loss|entropy control": (
        "entropy",
    ),
    "format penalty|format penalties": ("format=penalty",),
    "format reward|format rewards|format bonus|format bonuses|format term"
    "|format terms|format shaping|format streams|format stream": ("format",),
    "advantage clipping|advantage clip|clipped advantages|clipping of"
    " advantages|clipping advantages|bounded advantages": ("advantage_clip",),
    "advantage normalisation|advantage normalization|std normalisation|std"
    " normalization|division by the standard deviation|dividing by the"
    " standard deviation|standard deviation normalisation|standard deviation"
    " normalization|group normalisation|group normalization": (
        "scale=group_std",
        "scale=sample_std",
    ),
    "batch normalisation|batch normalization": (
        "scale=batch_rms",
        "scale=batch_std",
        "scale=batch_spread",
    ),
    "trust region|trust regions": ("trust_region",),
    "importance sampling correction|importance sampling corrections|sampler"
    " correction|sampler corrections|off policy correction|off policy"
    " corrections": ("correction",),
    "truncated importance sampling|tis": (
        "correction=truncated_token",
        "correction=truncated_sequence",
    ),
    "sequence level ratio|sequence level ratios|sequence ratio|sequence"
    " ratios|sequence level importance ratios": (
        "ratio=sequence",
        "ratio=sequence_token",
    ),
    "dynamic sampling": ("filter=mixed_groups",),
    "token filter|token filters|token filtering|filters|filtering": ("filter",),
    "gating|group gating": ("gating",),
    "difficulty weights|difficulty weighting": ("gating=difficulty_weight",),
    "leave one out baseline|leave one out baselines|rloo baseline": (
        "baseline=leave_one_out",
    ),
    "batch mean baseline|batch baseline": ("baseline=batch_mean",),
    "length normalisation|length normalization|length weighted"
    " aggregation": ("aggregation=length_power_norm", "aggregation=seq_mean"),
}


def names() -> tuple[str, ...]:
  """Everything that can be banned: slots, and choices as `slot=choice`."""
  made: list[str] = []
  for slot, options in mechanisms.BY_SLOT.items():
    made += [slot, *(f"{slot}={choice}" for choice in options)]
  return tuple(made)


def phrases() -> Mapping[str, tuple[str, ...]]:
  """Phrase of lower-case words -> the bans that it stands for."""
  made: dict[str, tuple[str, ...]] = {}
  for slot, options in mechanisms.BY_SLOT.items():
    spaced = slot.replace("_", " ")
    made[f"{spaced} slot"] = made[f"{spaced} mechanisms"] = (slot,)
    for choice in options:
      words = choice.replace("_", " ")
      ban = (f"{slot}={choice}",)
      made[f"{spaced} = {words}"] = ban
      if choice not in ("none", "all"):
        made.setdefault(f"{words} {spaced}", ban)
      if choice not in _GENERIC:
        made.setdefault(words, ban)
  for joined, bans in _COMMON.items():
    made |= dict.fromkeys(joined.split("|"), bans)
  return {_cut(phrase): bans for phrase, bans in made.items()}


def _cut(phrase: str) -> str:
  """Digits apart from letters, as a directive's words are: `k3` is `k 3`."""
  return "".join(
      f" {c}" if c.isdigit() and i and phrase[i - 1].isalpha() else c
      for i, c in enumerate(phrase)
  )
