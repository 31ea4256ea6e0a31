"""AdamW as a run is configured."""

import functools

import optax

from poise_jax.training import config as config_lib


def _schedule(config: config_lib.TrainConfig) -> optax.Schedule:
  """The learning rate rises, if at all, then falls."""
  peak, rising = config.learning_rate, config.warmup_steps
  schedule = optax.linear_schedule(
      peak,
      peak * config.final_learning_rate,
      config.steps * config.updates - rising,
  )
  if rising:
    warmup = optax.linear_schedule(0.0, peak, rising)
    schedule = optax.join_schedules([warmup, schedule], [rising])
  return schedule


def rate(config: config_lib.TrainConfig, update: int) -> float:
  """Learning rate of an update, counted from 0; skipped ones do not count."""
  return float(_schedule(config)(update))


def make_optimizer(
    config: config_lib.TrainConfig,
) -> optax.GradientTransformation:
  """AdamW after clipping, at the rate of `rate`."""
  # Without decay the state has the structure that it always had.
  decay = config.weight_decay
  adam = functools.partial(optax.adamw, weight_decay=decay)
  adam = adam if decay else optax.adam
  return optax.chain(
      optax.clip_by_global_norm(config.max_grad_norm),
      adam(_schedule(config), b1=config.b1, b2=config.b2),
  )
