"""How long, how fast and at what cost in memory a policy is trained."""

from collections.abc import Iterable
import dataclasses
import math
from typing import Any, Protocol, runtime_checkable

from poise_jax import sharding
from poise_jax.models import lora as lora_lib
from poise_jax.rollout import generate, sampling
from poise_jax.rollout import scoring as scoring_lib
from poise_jax.tasks import arithmetic


@runtime_checkable
class Section(Protocol):
  """A mapping, or what an experiment file has in its place."""

  def items(self) -> Iterable[tuple[str, Any]]:
    """Names and values."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """How long and how fast; none of the last group changes the result.

  Attributes:
    steps: rollouts.
    prompts: prompts of one rollout.
    group_size: completions sampled for each prompt.
    epochs: passes over one rollout.
    minibatches: optimizer updates in one pass.
    completion_length: most tokens of a completion.
    temperature: of sampling, and of every log-probability.
    top_k: samples among the most probable tokens only; 0 is all.
    top_p: samples among those that make up this probability; 1 is all. Where
      either leaves tokens out, log-probabilities are those before.
    learning_rate: of AdamW, at the start.
    final_learning_rate: fraction of it that is left at the end (linear).
    warmup_steps: optimizer updates over which the learning rate rises from 0
      (linear) before it falls.
    b1: decay of the mean of gradients.
    b2: decay of the mean of their squares.
    weight_decay: share of each weight that is taken away, times the learning
      rate, at each update.
    max_grad_norm: global norm above which gradients are scaled down.
    sampling_attempts: rounds of sampling at most, to fill a rollout with groups
      that are neither all right nor all wrong (DAPO's dynamic sampling); 1
      takes groups as they come.
    reference: keeps the params of the start as the reference policy. Without
      it `ref_logprobs` are `old_logprobs`, no `kl` is reported, and a pass over
      each rollout is saved.
    recompute_old: makes `old_logprobs` by a forward pass of the trainer instead
      of taking the sampler's; for a sampler whose arithmetic differs. With one
      update a rollout that pass is the update's own.
    lora: trains adapters of this size and place, and freezes all else; None, or
      a mapping whose `rank` is 0, trains every weight.
    micro_batches: parts in which a minibatch goes through the policy.
    schedule: in which pieces completions are sampled.
    scoring: memory and precision of the forward pass, and the precision of
      sampling.
    mesh: devices, and what is split over them.
  """

  steps: int
  prompts: int
  group_size: int
  epochs: int
  minibatches: int
  learning_rate: float
  completion_length: int = arithmetic.COMPLETION_LENGTH
  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0
  final_learning_rate: float = 0.1
  warmup_steps: int = 0
  b1: float = 0.9
  b2: float = 0.99
  weight_decay: float = 0.0
  max_grad_norm: float = 1.0
  sampling_attempts: int = 1
  reference: bool = True
  recompute_old: bool = False
  lora: lora_lib.LoraOptions | Section | None = None
  micro_batches: int = 1
  schedule: generate.Schedule = generate.Schedule()
  scoring: scoring_lib.ScoreOptions = scoring_lib.ScoreOptions()
  mesh: sharding.MeshConfig = sharding.MeshConfig()

  def __post_init__(self):
    if isinstance(self.lora, Section):
      object.__setattr__(self, "lora", _lora(dict(self.lora.items())))
    for name in (
        *("steps", "prompts", "group_size", "epochs", "minibatches"),
        *("micro_batches", "sampling_attempts", "completion_length"),
    ):
      if getattr(self, name) < 1:
        raise ValueError(
            f"`{name}` must be at least 1, got {getattr(self, name)}"
        )
    if self.prompts % self.minibatches:
      raise ValueError(
          "`prompts` must be a multiple of `minibatches`, so that no group is"
          f" split, got {self.prompts} and {self.minibatches}"
      )
    for name in ("learning_rate", "max_grad_norm", "temperature"):
      value = getattr(self, name)
      if not 0 < value < math.inf:
        raise ValueError(f"`{name}` must be positive and finite, got {value}")
    if not 0 <= self.final_learning_rate < math.inf:
      raise ValueError(
          "`final_learning_rate` must be a fraction of `learning_rate`, at"
          f" least 0, got {self.final_learning_rate}"
      )
    _check_optimizer(self)
    sampling.filtered(self.top_k, self.top_p)  # Refuses what is out of range.
    if self.sampling_attempts > 1 and self.group_size < 2:
      raise ValueError(
          "`group_size` must be at least 2 where `sampling_attempts` is above"
          " 1, for a group of one is never mixed, got"
          f" {self.group_size} and {self.sampling_attempts}"
      )
    _check_schedule(self)
    sharding.check_batch(
        self.mesh,
        prompts=self.prompts,
        minibatches=self.minibatches,
        micro_batches=self.micro_batches,
    )

  @property
  def updates(self) -> int:
    """Optimizer updates of one rollout."""
    return self.epochs * self.minibatches

  @property
  def scores_old(self) -> bool:
    """Whether `old_logprobs` take a forward pass of their own."""
    return self.recompute_old and self.updates > 1


def _lora(fields: dict[str, Any]) -> lora_lib.LoraOptions | None:
  """Options from a section of an experiment."""
  known = [field.name for field in dataclasses.fields(lora_lib.LoraOptions)]
  if unknown := sorted(fields.keys() - set(known)):
    raise ValueError(
        f"`lora` must have only {', '.join(known)}, got {', '.join(unknown)}"
    )
  if not fields.get("rank", lora_lib.LoraOptions.rank):
    return None
  targets = tuple(fields.get("targets", lora_lib.PROJECTIONS))
  return lora_lib.LoraOptions(**{**fields, "targets": targets})


def _check_schedule(config: TrainConfig) -> None:
  """Refuses parts of a rollout that are not equal on all devices."""
  at_once = config.schedule.prompts_at_once
  if not 0 < at_once < config.prompts:
    return
  if config.prompts % at_once:
    raise ValueError(
        "--config.schedule.prompts_at_once must divide"
        f" --config.train.prompts={config.prompts}, got {at_once}"
    )
  sharding.check_rows(config.mesh, at_once, "--config.schedule.prompts_at_once")


def _check_optimizer(config: TrainConfig) -> None:
  """Refuses what AdamW cannot be made with."""
  for name in ("b1", "b2"):
    value = getattr(config, name)
    if not 0 <= value < 1:
      raise ValueError(f"`{name}` must be in [0, 1), got {value}")
  if not 0 <= config.weight_decay < math.inf:
    raise ValueError(
        f"`weight_decay` must be at least 0, got {config.weight_decay}"
    )
  if not 0 <= config.warmup_steps < config.steps * config.updates:
    raise ValueError(
        "`warmup_steps` must be at least 0 and below the"
        f" {config.steps * config.updates} updates of the run, got"
        f" {config.warmup_steps}"
    )
