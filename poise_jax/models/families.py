"""Model families, and their config.json in and out.

Qwen2 and Qwen2.5 (https://arxiv.org/abs/2407.10671), Qwen3
(https://arxiv.org/abs/2505.09388) and Llama 3 (https://arxiv.org/abs/2407.21783)
are one decoder with few differences, listed in `FAMILIES`.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any, NamedTuple

from poise_jax.models import rotary


class Family(NamedTuple):
  """Where a family differs from the others.

  Attributes:
    architecture: name of its class in `transformers`.
    attention_bias: whether queries, keys and values have a bias.
    qk_norm: whether queries and keys are normalised, head by head.
    head_dim: where config.json names none; None is hidden_size / heads.
  """

  architecture: str
  attention_bias: bool = False
  qk_norm: bool = False
  head_dim: int | None = None


FAMILIES: Mapping[str, Family] = {
    "qwen2": Family("Qwen2ForCausalLM", attention_bias=True),
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True, head_dim=128),
    "llama": Family("LlamaForCausalLM"),
}

_SCALINGS: Mapping[str, type[rotary.Scaling]] = {
    "linear": rotary.Linear,
    "llama3": rotary.Llama3,
}


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
  """Shape of a model; field names are those of its config.json.

  Attributes:
    vocab_size: rows of the embedding, padding of the vocabulary included.
    hidden_size: width of hidden states.
    intermediate_size: inner width of the MLP.
    num_hidden_layers: blocks.
    num_attention_heads: query heads.
    num_key_value_heads: each shared by as many query heads.
    max_position_embeddings: longest row the model was made for; not enforced.
    rope_theta: base of the rotary frequencies.
    rms_norm_eps: of all norms.
    model_type: one of `FAMILIES`.
    head_dim: width of a head; hidden_size / num_attention_heads if 0. Once
      made, the number itself.
    tie_word_embeddings: whether the head is the transposed embedding.
    rope_scaling: stretches rotary positions, if given.
  """

  vocab_size: int
  hidden_size: int
  intermediate_size: int
  num_hidden_layers: int
  num_attention_heads: int
  num_key_value_heads: int
  max_position_embeddings: int
  rope_theta: float = 10000.0
  rms_norm_eps: float = 1e-6
  model_type: str = "qwen2"
  head_dim: int = 0
  tie_word_embeddings: bool = True
  rope_scaling: rotary.Scaling | None = None

  def __post_init__(self):
    if self.model_type not in FAMILIES:
      raise ValueError(
          f"`model_type` must be one of {', '.join(FAMILIES)}, got"
          f" {self.model_type!r}"
      )
    heads, groups = self.num_attention_heads, self.num_key_value_heads
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.type is int and value < 1 and field.name != "head_dim":
        raise ValueError(f"`{field.name}` must be at least 1, got {value}")
    if heads % groups:
      raise ValueError(
          "`num_attention_heads` must be a multiple of `num_key_value_heads`,"
          f" got {heads} and {groups}"
      )
    if not self.head_dim and self.hidden_size % heads:
      raise ValueError(
          "`hidden_size` must be a multiple of `num_attention_heads` where"
          f" `head_dim` is not given, got {self.hidden_size} and {heads}"
      )
    # The class is frozen, for others.
    object.__setattr__(
        self, "head_dim", self.head_dim or self.hidden_size // heads
    )
    if self.head_dim < 2 or self.head_dim % 2:
      raise ValueError(
          f"`head_dim` must be even and at least 2, got {self.head_dim}"
      )

  @property
  def family(self) -> Family:
    """What `model_type` stands for."""
    return FAMILIES[self.model_type]


class TokenIds(NamedTuple):
  """Special tokens of a model; `eos` lists all that end a text."""

  eos: tuple[int, ...] = ()
  bos: int | None = None
  pad: int | None = None


def token_ids(
    fields: Mapping[str, Any], generation: Mapping[str, Any] | None = None
) -> TokenIds:
  """Special tokens named by a config.json.

  Args:
    fields: contents of config.json.
    generation: contents of generation_config.json, if there is one. What it
      names comes first, as in `transformers`: chat models list there the
      tokens that end a turn.

  Raises:
    ValueError: if an id is not a whole number.
  """

  def find(name: str) -> list[int]:
    for source in (generation or {}, fields):
      if (value := source.get(name)) is not None:
        ids = list(value) if isinstance(value, list | tuple) else [value]
        if not all(type(i) is int for i in ids):
          raise ValueError(f"`{name}` must be whole numbers, got {value!r}")
        return ids
    return []

  first = lambda ids: ids[0] if ids else None
  return TokenIds(
      tuple(find("eos_token_id")),
      first(find("bos_token_id")),
      first(find("pad_token_id")),
  )


def _read_scaling(
    fields: Mapping[str, Any], problems: list[str]
) -> tuple[Mapping[str, Any], rotary.Scaling | None]:
  """The rotary fields, wherever they are, and the scaling they describe."""
  rope = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
  if not isinstance(rope, Mapping):
    problems.append(f"`rope_scaling` must be an object, got {rope!r}")
    return {}, None
  name = rope.get("rope_type", rope.get("type", "default"))
  if name == "default":
    return rope, None
  if name not in _SCALINGS:
    problems.append(
        f"rotary scaling {name!r} is not supported, only default,"
        f" {', '.join(_SCALINGS)}"
    )
    return rope, None
  wanted = _SCALINGS[name]._fields
  if missing := [key for key in wanted if key not in rope]:
    problems.append(f"rotary scaling {name!r} lacks {', '.join(missing)}")
    return rope, None
  values = [rope[key] for key in wanted]
  if not all(type(v) in (int, float) and v > 0 for v in values):
    problems.append(f"rotary scaling must be positive numbers, got {rope!r}")
    return rope, None
  *factors, last = map(float, values)
  if name == "llama3":
    if factors[1] >= factors[2]:
      problems.append(
          "`low_freq_factor` must be below `high_freq_factor`, got"
          f" {factors[1]} and {factors[2]}"
      )
    last = int(last)
  return rope, _SCALINGS[name](*factors, last)


def _unsupported(fields: Mapping[str, Any]) -> list[str]:
  """Features in use that this decoder does not have."""
  layers = fields.get("layer_types")
  layers = layers if isinstance(layers, list) else []
  rules = {
      "use_sliding_window": fields.get("use_sliding_window"),
      "layer_types": [t for t in layers if t != "full_attention"],
      "attention_bias": (
          fields.get("attention_bias")
          and fields.get("model_type") != "qwen2"  # there it is no field
      ),
      "mlp_bias": fields.get("mlp_bias"),
      "quantization_config": fields.get("quantization_config"),
      "num_experts": fields.get("num_experts", 0),
      "num_local_experts": fields.get("num_local_experts", 0),
      "partial_rotary_factor": (
          fields.get("partial_rotary_factor") not in (None, 1.0)
      ),
  }
  problems = [
      f"`{name}` = {fields[name]!r} is not supported"
      for name, used in rules.items()
      if used
  ]
  activation = fields.get("hidden_act", "silu")
  if activation not in ("silu", "swish"):
    problems.append(f"`hidden_act` must be 'silu', got {activation!r}")
  return problems


def config_from_hf(fields: Mapping[str, Any]) -> TransformerConfig:
  """Reads the contents of a Hugging Face config.json.

  Where a field is absent it is what `transformers` takes it to be: an untied
  head, as many key heads as query heads, theta 10000, epsilon 1e-6.

  Raises:
    ValueError: listing everything that is missing, misshapen or unsupported.
  """
  problems = []
  model_type = fields.get("model_type")
  family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
  if family is None:
    problems.append(
        f"`model_type` must be one of {', '.join(FAMILIES)}, got"
        f" {model_type!r}; other architectures cannot be loaded"
    )
  rope, scaling = _read_scaling(fields, problems)
  problems += _unsupported(rope | dict(fields))
  given = {
      "rope_theta": 10000.0,
      "tie_word_embeddings": False,
      "num_key_value_heads": fields.get("num_attention_heads"),
      "head_dim": (family and family.head_dim) or 0,
  }
  sources = {k: v for k, v in (rope | dict(fields)).items() if v is not None}
  values = {}
  for field in dataclasses.fields(TransformerConfig):
    default = given.get(field.name, field.default)
    value = sources.get(field.name, default)
    kind = field.type
    if field.name in ("model_type", "rope_scaling"):
      continue
    if value is None or value is dataclasses.MISSING:
      problems.append(f"config.json lacks {field.name}")
    elif kind is float and type(value) in (int, float):
      values[field.name] = float(value)
    elif type(value) is kind:
      values[field.name] = value
    else:
      problems.append(f"`{field.name}` must be {kind.__name__}, got {value!r}")
  if not problems:
    try:
      return TransformerConfig(
          **values, model_type=model_type, rope_scaling=scaling
      )
    except ValueError as error:
      problems.append(str(error))
  raise ValueError(f"cannot use this config.json: {'; '.join(problems)}")


def config_to_hf(
    config: TransformerConfig,
    base: Mapping[str, Any] | None = None,
    *,
    tokens: TokenIds | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:
  """Contents of a config.json that `transformers` reads, version 4 or 5.

  Args:
    config: shape of the model.
    base: contents of the config.json that the model came from; fields unknown
      here are kept.
    tokens: special tokens; those of `base` if None.
    dtype: of the weights beside it.
  """
  fields = dict(base or {})
  # Both versions read the older names, and derive the types of layers.
  for name in ("rope_parameters", "dtype", "layer_types"):
    fields.pop(name, None)
  scaling = config.rope_scaling
  fields |= dataclasses.asdict(config) | {
      "architectures": [config.family.architecture],
      "hidden_act": "silu",
      "use_sliding_window": False,
      "attention_dropout": fields.get("attention_dropout", 0.0),
      "torch_dtype": dtype,
      "rope_scaling": None,
  }
  if scaling is not None:
    (name,) = (k for k, kind in _SCALINGS.items() if type(scaling) is kind)
    fields["rope_scaling"] = {"rope_type": name} | scaling._asdict()
  if tokens is not None:
    fields |= {
        "eos_token_id": _one_or_list(tokens.eos),
        "bos_token_id": tokens.bos,
        "pad_token_id": tokens.pad,
    }
  return fields


def _one_or_list(ids: Sequence[int]) -> int | list[int] | None:
  return list(ids) if len(ids) > 1 else next(iter(ids), None)
