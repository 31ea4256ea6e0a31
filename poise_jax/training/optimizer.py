"""AdamW as a run is configured."""

import functools

import optax

from poise_jax.training import config as config_lib


def make_optimizer(
    config: config_lib.TrainConfig,
) -> optax.GradientTransformation:
  """AdamW after clipping; the learning rate rises, if at all, then falls."""
  peak, rising = config.learning_rate, config.warmup_steps
  schedule = optax.linear_schedule(
      peak,
      peak * config.final_learning_rate,
      config.steps * config.updates - rising,
  )
  if rising:
    warmup = optax.linear_schedule(0.0, peak, rising)
    schedule = optax.join_schedules([warmup, schedule], [rising])
  # Without decay the state has the structure that it always had.
  decay = config.weight_decay
  adam = functools.partial(optax.adamw, weight_decay=decay)
  adam = adam if decay else optax.adam
  return optax.chain(
      optax.clip_by_global_norm(config.max_grad_norm),
      adam(schedule, b1=config.b1, b2=config.b2),
  )
